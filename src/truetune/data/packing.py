"""Several examples in one row: no padding is computed, and none of them sees another (see models/language_model.py)."""

from __future__ import annotations

from array import array
from bisect import bisect_left, insort
from collections.abc import Sequence

import numpy as np

from truetune.data.stored import Lazy
from truetune.data.tokens import Row


class Packs(Lazy[list[Row]]):
    def __init__(self, rows: Sequence[Row], members: Sequence[Sequence[int]]) -> None:
        self._rows, self._members = rows, members

    def __len__(self) -> int:
        return len(self._members)

    def at(self, place: int) -> list[Row]:
        return [self._rows[index] for index in self._members[place]]


def pack(rows: Sequence[Row]) -> Packs:
    """Packs no longer than the longest row, so that packing takes no more memory than leaving it out.

    Best fit, the longest first: each goes where the least room is left. The same rows give the same packs.
    """
    lengths = array("i", (len(row.input_ids) for row in rows))
    longest = max(lengths)
    packs: list[array[int]] = []
    rooms: list[tuple[int, int]] = []  # (tokens left, which pack), in order
    for member in map(int, np.argsort(np.negative(lengths), kind="stable")):
        place = bisect_left(rooms, (lengths[member], -1))
        if place == len(rooms):
            rooms.append((longest, len(packs)))
            packs.append(array("q"))
        left, index = rooms.pop(place)
        packs[index].append(member)
        insort(rooms, (left - lengths[member], index))
    return Packs(rows, packs)
