"""A million rows in little memory: in a memory-mapped Arrow file, chosen by their places, compared by hashes."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any, TypeVar

from truetune.records.disk import writing

T = TypeVar("T")
# Rows, at about a kilobyte each. Fewer stay in a list: importing what writes Arrow takes longer than reading them.
IN_MEMORY = 20_000
AT_ONCE = 100  # rows of a block, written and read together; few, for a row may be 16 MB long
HASHES = 2**14


def gathered(rows: Iterable[T], columns: Mapping[str, Any], make: Callable[[dict[str, Any]], T]) -> Sequence[T]:
    """A list of a few rows; many are written to a file in the temporary folder, from which `make` makes each anew.

    `columns` names the type of each attribute. Raises what the rows raise, and Unwritable if the disk is full.
    """
    rows = iter(rows)
    few = list(islice(rows, IN_MEMORY))
    if len(few) < IN_MEMORY:
        return few

    import pyarrow as pa

    schema = pa.schema([(name, _arrow_type(kind)) for name, kind in columns.items()])
    path, everything, count = Path(tempfile.mkdtemp(prefix="truetune-rows-")) / "rows.arrow", chain(few, rows), 0
    try:
        with writing(path.parent.parent / "rows"), path.open("wb") as file, pa.ipc.new_file(file, schema) as writer:
            while block := list(islice(everything, AT_ONCE)):
                values = {name: [getattr(row, name) for row in block] for name in columns}
                writer.write(pa.RecordBatch.from_pydict(values, schema=schema))
                count += len(block)
    except BaseException:
        shutil.rmtree(path.parent, ignore_errors=True)
        raise
    table = Table(path)
    weakref.finalize(table, _remove, path.parent, os.getpid())
    return ArrowRows(table, make, array("I", range(count)))


def _arrow_type(kind: Any) -> Any:
    import pyarrow as pa

    return pa.list_(_arrow_type(kind[0])) if isinstance(kind, list) else pa.type_for_alias(kind)


def _remove(folder: Path, process: int) -> None:
    """A forked worker has the table too, and must not take it from the others."""
    if process == os.getpid():
        shutil.rmtree(folder, ignore_errors=True)


class Table:
    """A mapped Arrow file of blocks of AT_ONCE rows. Another process opens it anew by its path."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        self.path = path
        self._file = pa.ipc.open_file(pa.memory_map(str(path)))
        self._block = self._file.get_batch(0).num_rows

    def __reduce__(self) -> tuple[type[Table], tuple[Path]]:
        return Table, (self.path,)

    def rows(self, places: Sequence[int]) -> Iterator[dict[str, Any]]:
        """The rows at those places, in their order; a run of neighbours is read together."""
        for number, run in groupby(places, key=lambda place: place // self._block):
            of_block = [place % self._block for place in run]
            block = self._file.get_batch(number)
            if of_block == list(range(of_block[0], of_block[0] + len(of_block))):
                block = block.slice(of_block[0], len(of_block))
            else:
                block = block.take(of_block)
            yield from block.to_pylist()


class ArrowRows(Sequence[T]):
    """Rows of a table on disk in an order of their own, at 4 bytes of memory each; a slice is a list.

    Worker processes map the same file.
    """

    def __init__(self, table: Table, make: Callable[[dict[str, Any]], T], order: array[int]) -> None:
        self.table, self.make, self.order = table, make, order

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: Any) -> Any:
        places = self.order[index] if isinstance(index, slice) else [self.order[index]]
        rows = [self.make(row) for row in self.table.rows(places)]
        return rows if isinstance(index, slice) else rows[0]

    def __iter__(self) -> Iterator[T]:
        return map(self.make, self.table.rows(self.order))


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
