"""Prompts that are nearly the same: a held-out question that training asks in almost the same words is no test."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence

Run = tuple[str, ...]
ALIKE = 0.7  # Jaccard similarity of the sets of three-word runs
TOO_COMMON = 20  # runs in more held-out prompts than this are a template's, and find no candidates


def normalised(text: str) -> str:
    """Texts that differ in case, spaces or how accents are written only are the same."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def near_duplicates(splits: Sequence[Sequence[str]], train: Iterable[str]) -> list[dict[int, int]]:
    """For each split: index of a held-out text -> that of the first training text that is like it."""
    indexes = [_Index(held_out) for held_out in splits]
    for number, text in enumerate(train):
        runs = _runs(text)
        for index in indexes:
            index.look(number, runs)
    return [index.found for index in indexes]


class _Index:
    def __init__(self, held_out: Sequence[str]) -> None:
        self.sets = [_runs(text) for text in held_out]
        places: defaultdict[Run, list[int]] = defaultdict(list)
        for place, runs in enumerate(self.sets):
            for run in runs:
                places[run].append(place)
        self.rare = {run: at for run, at in places.items() if len(at) <= TOO_COMMON}
        self.found: dict[int, int] = {}

    def look(self, number: int, runs: set[Run]) -> None:
        for place in {place for run in runs & self.rare.keys() for place in self.rare[run]} - self.found.keys():
            shared = len(runs & self.sets[place])
            if shared >= ALIKE * (len(runs) + len(self.sets[place]) - shared):
                self.found[place] = number


def _runs(text: str, length: int = 3) -> set[Run]:
    words = normalised(text).split()
    return {tuple(words[start : start + length]) for start in range(max(1, len(words) - length + 1))}
