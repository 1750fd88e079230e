"""Several examples in one row: no padding is computed, and none of them sees another (see models/language_model.py)."""

from __future__ import annotations

from array import array
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from truetune.data.rows.many import lengths
from truetune.data.tokens import TokenRow


@dataclass(frozen=True)
class Packs(Dataset[list[TokenRow]]):
    """`members` are the numbers of the first pack's rows, then of the next; `ends` is where each pack ends in them."""

    rows: Sequence[TokenRow]
    members: NDArray[np.int64]
    ends: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> list[TokenRow]:
        start = self.ends[index - 1] if index else 0
        return [self.rows[int(member)] for member in self.members[start : self.ends[index]]]


def pack(rows: Sequence[TokenRow]) -> Packs:
    """Packs no longer than the longest row, so that packing takes no more memory than leaving it out.

    Best fit, the longest first: each goes where the least room that holds it is left. The same rows give the same
    packs.
    """
    sizes = np.asarray(lengths(rows, "input_ids"))
    order = np.argsort(-sizes, kind="stable")
    longest, shortest = int(sizes.max()), int(sizes.min())
    pack_numbers = array("I")  # the pack of each row, in that order
    rooms: list[tuple[int, int]] = []  # (tokens left, which pack), in order
    count = 0
    for length in map(int, sizes[order]):
        place = bisect_left(rooms, (length, -1))
        if place == len(rooms):
            rooms.append((longest, count))
            count += 1
        room, index = rooms.pop(place)
        pack_numbers.append(index)
        if room - length >= shortest:
            insort(rooms, (room - length, index))
    return Packs(rows, order[np.argsort(pack_numbers, kind="stable")], np.cumsum(np.bincount(pack_numbers)))
