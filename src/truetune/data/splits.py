"""Training and held-out rows are disjoint: rows set aside, rows left out, prompts that are nearly the same reported."""

from __future__ import annotations

import random
import unicodedata
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from truetune.data.dataset import Example, Question
from truetune.data.rows.many import attributes, chosen

Shingle = tuple[str, ...]  # three words that follow each other
ALIKE = 0.7  # Jaccard similarity of the sets of shingles
TOO_COMMON = 20  # a shingle in more held-out prompts than this is a template's, and finds no candidates


def normalised(text: str) -> str:
    """The text with case, spaces and the way accents are written made uniform."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def compared(row: Example) -> str:
    return _compared(row.prompt, row.completion)


def _compared(prompt: str, completion: str) -> str:
    """What must not be on both sides of a split: the prompt, or all of a text."""
    return normalised(prompt or completion)


class Split:
    """Rows of which some are set aside or left out; `notes` say how many, and why."""

    def __init__(self, rows: Sequence[Example], notes: Iterable[str] = ()) -> None:
        self.rows, self.notes = rows, [*notes]

    def shuffle(self, seed: int) -> None:
        order = array("I", range(len(self.rows)))
        random.Random(f"split-{seed}").shuffle(order)
        self.rows = chosen(self.rows, order)

    def set_aside(self, key: str, count: int) -> Sequence[Example]:
        """Takes the first rows away, at most a fifth of all; other rows that repeat one of them are left out, too."""
        size = min(count, len(self.rows) // 5)
        if size < count:
            reason = f"at most a fifth of the {len(self.rows)} may be"
            self.notes.append(f"data.{key}={count}: {size} rows are set aside, for {reason}")
        first_rows = self.rows[:size]
        self.rows = chosen(self.rows, range(size, len(self.rows)))
        self.leave_out(map(compared, first_rows), "training rows repeat a row set aside: left out of training")
        return first_rows

    def leave_out(self, texts: Iterable[str], why: str) -> None:
        """Leaves out the rows whose prompt, or text, is among the (normalised) texts."""
        texts = {*texts}
        if not texts:
            return
        rows = attributes(self.rows, "prompt", "completion")
        matches = {place for place, parts in rows if _compared(*parts) in texts}
        if matches:
            self.notes.append(f"{len(matches)} {why}")
            self.rows = chosen(self.rows, (place for place in range(len(self.rows)) if place not in matches))


def alike(held_out: Mapping[str, Iterable[Question]], train: Sequence[Example]) -> Iterator[str]:
    """A note for each split with prompts that are nearly those of training rows: such a question is no test."""
    questions_of = {split: [q for q in questions if q.question] for split, questions in held_out.items()}
    prompts = [[q.question for q in questions] for questions in questions_of.values()]
    texts = ((place, prompt) for place, (prompt,) in attributes(train, "prompt"))
    pairs_of_splits = near_duplicates(prompts, texts)
    for (split, questions), pairs in zip(questions_of.items(), pairs_of_splits, strict=True):
        if pairs:
            first, train_row = min(pairs.items(), key=lambda pair: pair[1])
            yield (
                f"{len(pairs)} of {len(questions)} {split} prompts are nearly those of training rows (at least "
                f"{ALIKE:g} of their three-word runs shared), the first: {questions[first].source} and "
                f"{train[train_row].source}"
            )


def near_duplicates(splits: Sequence[Sequence[str]], train: Iterable[tuple[int, str]]) -> list[dict[int, int]]:
    """A dict for each split: index of a held-out text -> the lowest number of a training text that is like it."""
    sets = [[_shingles(text) for text in held_out] for held_out in splits]
    places: list[dict[Shingle, list[int]]] = [defaultdict(list) for _ in splits]
    for split, index in zip(sets, places, strict=True):
        for place, shingles in enumerate(split):
            for shingle in shingles:
                index[shingle].append(place)
    rare_places = [{shingle: index for shingle, index in split.items() if len(index) <= TOO_COMMON} for split in places]
    pairs: list[dict[int, int]] = [{} for _ in splits]
    for number, text in train:
        shingles = _shingles(text)
        for held_out, rare_index, split_pairs in zip(sets, rare_places, pairs, strict=True):
            candidates = {place for shingle in shingles & rare_index.keys() for place in rare_index[shingle]}
            for place in candidates:
                shared = len(shingles & held_out[place])
                if shared >= ALIKE * (len(shingles) + len(held_out[place]) - shared):
                    split_pairs[place] = min(number, split_pairs.get(place, number))
    return pairs


def _shingles(text: str) -> set[Shingle]:
    words = normalised(text).split()
    return set(zip(words, words[1:], words[2:], strict=False)) or {tuple(words)}
