"""Several examples in one row: no padding is computed, and none of them sees another (see models/language_model.py)."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence

from truetune.data.tokens import Row


def pack(rows: Sequence[Row]) -> list[list[Row]]:
    """Packs no longer than the longest row, so that packing takes no more memory than leaving it out.

    Best fit, the longest first: each goes where the least room is left. The same rows give the same packs.
    """
    ordered = sorted(rows, key=lambda row: -len(row.input_ids))
    packs: list[list[Row]] = []
    rooms: list[tuple[int, int]] = []  # (tokens left, which pack), in order
    for row in ordered:
        length = len(row.input_ids)
        place = bisect_left(rooms, (length, -1))
        if place == len(rooms):
            rooms.append((len(ordered[0].input_ids), len(packs)))
            packs.append([])
        left, index = rooms.pop(place)
        packs[index].append(row)
        insort(rooms, (left - length, index))
    return packs
