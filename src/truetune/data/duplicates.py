"""Prompts that are nearly the same: a held-out question that training asks in almost the same words is no test."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

ALIKE = 0.7  # Jaccard similarity of the sets of three-word runs
TOO_COMMON = 20  # runs in more held-out prompts than this are a template's, and find no candidates


def near_duplicates(held_out: Sequence[str], train: Iterable[str]) -> dict[int, int]:
    """Index of a held-out text -> that of the first training text that is like it."""
    sets = [_runs(text) for text in held_out]
    places: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    for index, runs in enumerate(sets):
        for run in runs:
            places[run].append(index)
    rare = {run: at for run, at in places.items() if len(at) <= TOO_COMMON}
    found: dict[int, int] = {}
    for number, text in enumerate(train):
        runs = _runs(text)
        for index in {index for run in runs & rare.keys() for index in rare[run]} - found.keys():
            shared = len(runs & sets[index])
            if shared >= ALIKE * (len(runs) + len(sets[index]) - shared):
                found[index] = number
    return found


def _runs(text: str, length: int = 3) -> set[tuple[str, ...]]:
    words = text.casefold().split()
    return {tuple(words[start : start + length]) for start in range(max(1, len(words) - length + 1))}
