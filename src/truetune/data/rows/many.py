"""A million rows in little memory: in a memory-mapped Arrow file, chosen by their places, compared by hashes."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any, TypeVar

from truetune.records.disk import writing
from truetune.records.files import file_digest

T = TypeVar("T")
# Rows, at about a kilobyte each. Fewer stay in a list: importing what writes Arrow takes longer than reading them.
IN_MEMORY = 20_000
AT_ONCE = 100  # rows of a block, written and read together; few, for a row may be 16 MB long
HASHES = 2**14  # at least so many new hashes are collected before they are sorted in


def gathered(rows: Iterable[T], columns: Mapping[str, Any], make: Callable[[dict[str, Any]], T]) -> Sequence[T]:
    """A list of the rows if they are few; many go to a file in the temporary folder, from which `make` makes each anew.

    `columns` names the type of each attribute. Raises what the rows raise, and Unwritable if the disk is full.
    """
    rows = iter(rows)
    first_rows = list(islice(rows, IN_MEMORY))
    if len(first_rows) < IN_MEMORY:
        return first_rows
    path = Path(tempfile.mkdtemp(prefix="truetune-rows-")) / "rows.arrow"
    try:
        with writing(path.parent.parent / "rows"):
            write(chain(first_rows, rows), columns, path)
    except BaseException:
        shutil.rmtree(path.parent, ignore_errors=True)
        raise
    mapped_rows = mapped(path, make)
    weakref.finalize(mapped_rows.table, _remove, path.parent, os.getpid())
    return mapped_rows


def write(rows: Iterable[Any], columns: Mapping[str, Any], path: Path) -> None:
    """Writes a file of the rows in their order; rows that lie in such a file are copied, not made."""
    import pyarrow as pa

    schema = pa.schema([(name, _arrow_type(kind)) for name, kind in columns.items()])
    with path.open("wb") as file, pa.ipc.new_file(file, schema) as writer:
        if isinstance(rows, ArrowRows) and rows.change is None:
            for start in range(0, len(rows), AT_ONCE):
                writer.write(pa.concat_batches([*rows.table.blocks(rows.order[start : start + AT_ONCE])]))
            return
        rows = iter(rows)
        while block := list(islice(rows, AT_ONCE)):
            values = {name: [getattr(row, name) for row in block] for name in columns}
            writer.write(pa.RecordBatch.from_pydict(values, schema=schema))


def mapped(path: Path, make: Callable[[dict[str, Any]], T]) -> ArrowRows[T]:
    """The rows of a file, in their order there."""
    table = Table(path)
    return ArrowRows(table, make, array("I", range(table.size)))


def _arrow_type(kind: Any) -> Any:
    import pyarrow as pa

    return pa.list_(_arrow_type(kind[0])) if isinstance(kind, list) else pa.type_for_alias(kind)


def _remove(folder: Path, process: int) -> None:
    """Removes the folder, unless this is a forked worker: it has the table too, and must leave it to the others."""
    if process == os.getpid():
        shutil.rmtree(folder, ignore_errors=True)


class Table:
    """A mapped Arrow file of blocks of AT_ONCE rows, the last one shorter; another process opens it by its path."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        self.path = path.absolute()
        self._file = pa.ipc.open_file(pa.memory_map(str(path)))
        blocks = self._file.num_record_batches
        self._block = self._file.get_batch(0).num_rows if blocks else 1
        self.size = self._block * (blocks - 1) + self._file.get_batch(blocks - 1).num_rows if blocks else 0

    def __reduce__(self) -> tuple[type[Table], tuple[Path]]:
        return Table, (self.path,)

    @cached_property
    def digest(self) -> str:
        return file_digest(self.path)

    def blocks(self, places: Sequence[int]) -> Iterator[Any]:
        """The rows at those places, in their order, as Arrow's batches; a run of neighbours is read together."""
        for number, run in groupby(places, key=lambda place: place // self._block):
            offsets = [place % self._block for place in run]
            block = self._file.get_batch(number)
            if offsets == list(range(offsets[0], offsets[0] + len(offsets))):
                yield block.slice(offsets[0], len(offsets))
            else:
                yield block.take(offsets)

    def columns(self, *names: str) -> Iterator[Any]:
        """The columns of those names, block by block in the order of the file."""
        for number in range(self._file.num_record_batches):
            block = self._file.get_batch(number)
            yield [block.column(name) for name in names]


class ArrowRows(Sequence[T]):
    """Rows of a table on disk in an order of their own, at 4 bytes of memory each; a slice is a list.

    `change` is applied to each row as it is read. Worker processes map the same file.
    """

    def __init__(
        self,
        table: Table,
        make: Callable[[dict[str, Any]], T],
        order: array[int],
        change: Callable[[T], T] | None = None,
    ) -> None:
        self.table, self.make, self.order, self.change = table, make, order, change

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [*self.at(self.order[index])]
        return next(iter(self.at(array("I", [self.order[index]]))))

    def __iter__(self) -> Iterator[T]:
        for block in self.table.blocks(self.order):
            rows = map(self.make, block.to_pylist())
            yield from rows if self.change is None else map(self.change, rows)

    def at(self, order: array[int]) -> ArrowRows[T]:
        """Other rows of the same table."""
        return ArrowRows(self.table, self.make, order, self.change)

    @property
    def digest(self) -> str:
        """Content hash of the rows and their order."""
        change = self.change and f"{self.change.__module__}.{self.change.__qualname__}"
        return sha256(f"{self.table.digest} {sha256(self.order).hexdigest()} {change}".encode()).hexdigest()


def chosen(rows: Sequence[T], places: Iterable[int]) -> Sequence[T]:
    """The rows at those places, in the order of the places."""
    if isinstance(rows, ArrowRows):
        return rows.at(array("I", (rows.order[place] for place in places)))
    return [rows[place] for place in places]


def changed(rows: Sequence[T], change: Callable[[T], T]) -> Sequence[T]:
    """The rows with `change` applied to each; rows on disk are changed whenever one is read."""
    if isinstance(rows, ArrowRows) and rows.change is None:
        return ArrowRows(rows.table, rows.make, rows.order, change)
    return [change(row) for row in rows]


def attributes(rows: Sequence[Any], *names: str) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """(place, those attributes) of each row, in the order on disk, which is many times faster than that of the rows."""
    if not isinstance(rows, ArrowRows) or rows.change is not None:
        for place, row in enumerate(rows):
            yield place, tuple(getattr(row, name) for name in names)
        return
    place_of = array("i", [-1]) * rows.table.size
    for place, number in enumerate(rows.order):
        place_of[number] = place
    values = (zip(*(column.to_pylist() for column in columns), strict=True) for columns in rows.table.columns(*names))
    for number, value in enumerate(chain.from_iterable(values)):
        if place_of[number] >= 0:
            yield place_of[number], value


def lengths(rows: Sequence[Any], name: str) -> array[int]:
    """The length of the list that each row has under that name."""
    if not isinstance(rows, ArrowRows):
        return array("i", (len(getattr(row, name)) for row in rows))
    file_lengths = array("i")
    for (column,) in rows.table.columns(name):
        file_lengths.extend(column.value_lengths().to_pylist())
    return array("i", (file_lengths[number] for number in rows.order))


class Seen:
    """A set of texts at 8 bytes each: by 64-bit hashes, so a wrong yes is as rare as n in 2^64."""

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

            hashes = np.concatenate([np.asarray(self._sorted), np.fromiter(self._new, np.int64, len(self._new))])
            hashes.sort()
            self._new, self._sorted = set(), hashes.data

    def __contains__(self, text: str) -> bool:
        number = hash(text)
        place = bisect_left(self._sorted, number)
        return number in self._new or (place < len(self._sorted) and self._sorted[place] == number)
