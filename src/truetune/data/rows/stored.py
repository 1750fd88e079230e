"""Sequences that grow while memory hardly does: items in a temporary file, a choice of them, and hashes of texts."""

from __future__ import annotations

import marshal
import os
import tempfile
from abc import abstractmethod
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar, overload

from truetune.records.files import writing

T = TypeVar("T")
IN_MEMORY = 2**21  # bytes as they would be written: fewer are never on disk
HASHES = 2**14


class Lazy(Sequence[T]):
    """Each item is made when it is asked for; a slice is a list."""

    @abstractmethod
    def at(self, place: int) -> T: ...

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        places = range(len(self))[index]
        return self.at(places) if isinstance(places, int) else [self.at(place) for place in places]

    def __iter__(self) -> Iterator[T]:
        return map(self.at, range(len(self)))


class Stored(Lazy[T]):
    """All but the last items are in a file without a name where TMPDIR says, at 8 bytes of memory each.

    `flat` makes a tuple of plain values of an item, `whole` the item of them. Worker processes read the same file.
    """

    def __init__(self, flat: Callable[[T], tuple[Any, ...]], whole: Callable[..., T], items: Iterable[T] = ()) -> None:
        self._flat, self._whole = flat, whole
        self._ends, self._written = array("q", [0]), 0
        self._last: list[T] = []
        self._unwritten = bytearray()
        self._file: Any = None
        for item in items:
            self.append(item)

    def append(self, item: T) -> None:
        """Raises Unwritable if the disk is full."""
        content = marshal.dumps(self._flat(item))
        self._last.append(item)
        self._unwritten += content
        self._ends.append(self._ends[-1] + len(content))
        if len(self._unwritten) >= IN_MEMORY:
            self._write()

    def _write(self) -> None:
        with writing(Path(tempfile.gettempdir()) / "rows"):
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115
            self._file.write(self._unwritten)
            self._file.flush()
        self._written += len(self._last)
        self._last, self._unwritten = [], bytearray()

    def __len__(self) -> int:
        return len(self._ends) - 1

    def at(self, place: int) -> T:
        if place >= self._written:
            return self._last[place - self._written]
        start, end = self._ends[place], self._ends[place + 1]
        return self._whole(*marshal.loads(os.pread(self._file.fileno(), end - start, start)))

    def __getstate__(self) -> dict[str, Any]:
        """For a process that is spawned: the file goes along, open."""
        from multiprocessing.reduction import DupFd

        return {**self.__dict__, "_file": self._file and DupFd(self._file.fileno())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= {**state, "_file": state["_file"] and os.fdopen(state["_file"].detach(), "r+b")}


class Chosen(Lazy[T]):
    """Some of the rows in an order of their own, at 4 bytes each."""

    def __init__(self, rows: Lazy[T], order: array[int]) -> None:
        self._rows, self._order = rows, order

    def __len__(self) -> int:
        return len(self._order)

    def at(self, place: int) -> T:
        return self._rows.at(self._order[place])

    def __iter__(self) -> Iterator[T]:
        return map(self._rows.at, self._order)

    def where(self, wanted: Callable[[T], bool], start: int = 0) -> Chosen[T]:
        """Those from `start` on that are wanted."""
        return Chosen(self._rows, array("I", (n for n in islice(self._order, start, None) if wanted(self._rows.at(n)))))


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
        wanted = hash(text)
        place = bisect_left(self._sorted, wanted)
        return wanted in self._new or (place < len(self._sorted) and self._sorted[place] == wanted)
