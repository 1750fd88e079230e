"""A million rows in little memory: in a memory-mapped Arrow file, chosen by their places, compared by hashes."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

from truetune.records.disk import writing

T = TypeVar("T")
# Rows, at about a kilobyte each. Fewer stay in a list: importing what writes Arrow takes longer than reading them.
IN_MEMORY = 20_000
AT_ONCE = 100  # rows written or read together; few, for a row may be 16 MB long
HASHES = 2**14


def gathered(rows: Iterable[T], columns: Mapping[str, Any], make: Callable[[dict[str, Any]], T]) -> Sequence[T]:
    """A list of a few rows; many are written to a file in the temporary folder, from which `make` makes each anew.

    `columns` names the type of each attribute. Raises what the rows raise, and Unwritable if the disk is full.
    """
    rows = iter(rows)
    few = list(islice(rows, IN_MEMORY))
    if len(few) < IN_MEMORY:
        return few

    import datasets
    from datasets.exceptions import DatasetGenerationError

    def feature(kind: Any) -> Any:
        return [feature(kind[0])] if isinstance(kind, list) else datasets.Value(kind)

    def values() -> Iterator[dict[str, Any]]:
        for row in chain(few, rows):
            yield {name: getattr(row, name) for name in columns}

    datasets.disable_progress_bars()
    folder = tempfile.mkdtemp(prefix="truetune-rows-")
    features: Any = datasets.Features({name: feature(kind) for name, kind in columns.items()})
    with writing(Path(tempfile.gettempdir()) / "rows"):
        try:
            # The name of the folder as the fingerprint: otherwise the rows would be hashed first.
            table: Any = datasets.Dataset.from_generator(
                values, features, folder, fingerprint=Path(folder).name, writer_batch_size=AT_ONCE
            )
        except DatasetGenerationError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise error.__cause__ or error from None
    table.set_format("arrow")
    weakref.finalize(table, _remove, folder, os.getpid())
    return ArrowRows(table, make, array("I", range(len(table))))


def _remove(folder: str, process: int) -> None:
    """A forked worker has the table too, and must not take it from the others."""
    if process == os.getpid():
        shutil.rmtree(folder, ignore_errors=True)


class ArrowRows(Sequence[T]):
    """Rows of a table on disk in an order of their own, at 4 bytes of memory each; a slice is a list.

    Worker processes map the same file.
    """

    def __init__(self, table: Any, make: Callable[[dict[str, Any]], T], order: array[int]) -> None:
        self.table, self.make, self.order = table, make, order

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: Any) -> Any:
        if not isinstance(index, slice):
            return self.make(self.table[self.order[index]].to_pylist()[0])
        places = self.order[index]
        starts = range(0, len(places), AT_ONCE)
        tables = (self.table[places[start : start + AT_ONCE].tolist()] for start in starts)
        return [self.make(row) for table in tables for row in table.to_pylist()]

    def __iter__(self) -> Iterator[T]:
        for start in range(0, len(self), AT_ONCE):
            yield from self[start : start + AT_ONCE]


def chosen(rows: Sequence[T], places: Iterable[int]) -> Sequence[T]:
    """The rows at those places, in their order."""
    if isinstance(rows, ArrowRows):
        return ArrowRows(rows.table, rows.make, array("I", (rows.order[place] for place in places)))
    return [rows[place] for place in places]


class Seen:
    """Which texts there were, at 8 bytes each: by 64-bit hashes, so a wrong yes is as rare as n in 2^64."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._new: set[int] = set()
        self._sorted = memoryview(array("q"))
        for text in texts:
            self.add(text)

    def add(self, text: str) -> None:
        if text not in self:
            self._new.add(hash(text))
        if len(self._new) > HASHES + len(self._sorted) // 16:
            import numpy as np

            both = np.concatenate([np.asarray(self._sorted), np.fromiter(self._new, np.int64, len(self._new))])
            both.sort()
            self._new, self._sorted = set(), both.data

    def __contains__(self, text: str) -> bool:
        number = hash(text)
        place = bisect_left(self._sorted, number)
        return number in self._new or (place < len(self._sorted) and self._sorted[place] == number)
