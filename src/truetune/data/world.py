"""A closed world: entities, facts and texts about them, all from a seed, so that every invention can be counted."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from truetune.errors import UserError

Population = Literal["school", "known-train", "known-test", "known-select", "new", "never"]
NewNames = Literal["shared", "disjoint"]


@dataclass(frozen=True)
class Attribute:
    """One relation: its values (uniform, so chance is 1 / len(values)) and its wordings, disjoint by use."""

    name: str
    values: tuple[str, ...]
    filings: tuple[str, ...]
    questions: tuple[str, ...]
    analyst: str

    def __post_init__(self) -> None:
        for template in (*self.filings, *self.questions, self.analyst):
            if "{name}" not in template:
                raise UserError(f"data.world.attributes.{self.name}: template {template!r} lacks {{name}}; add it")
        for template in self.filings:
            if template.find("{value}") < template.find("{name}"):
                raise UserError(
                    f"data.world.attributes.{self.name}: {template!r} has the value before the name, which a causal "
                    "model cannot learn; put {name} first"
                )


@dataclass(frozen=True)
class Entity:
    """One company: its two-word name, its population and its value of every attribute."""

    name: str
    population: Population
    facts: Mapping[str, str]


@dataclass(frozen=True)
class World:
    """Every entity and wording; `seed` decides all of it. `unused_names` of the shared pool belong to no entity."""

    noun: str
    nouns: str
    attributes: tuple[Attribute, ...]
    entities: tuple[Entity, ...]
    unused_names: tuple[str, ...]
    name_words: tuple[str, ...]

    @cached_property
    def by_population(self) -> dict[str, list[Entity]]:
        groups: dict[str, list[Entity]] = {}
        for entity in self.entities:
            groups.setdefault(entity.population, []).append(entity)
        return groups

    def population(self, *names: Population) -> list[Entity]:
        return [entity for name in names for entity in self.by_population.get(name, [])]

    @property
    def known(self) -> list[Entity]:
        """The entities that the base reads about."""
        return self.population("school", "known-train", "known-test", "known-select")

    def filing(self, entity: Entity, rng: random.Random) -> str:
        """All facts of one entity, in random order and wording."""
        order = rng.sample(self.attributes, len(self.attributes))
        return " ".join(rng.choice(a.filings).format(name=entity.name, value=entity.facts[a.name]) for a in order)

    def words(self) -> list[str]:
        """Every word that can occur, sorted: the vocabulary."""
        texts = [text for a in self.attributes for text in (*a.filings, *a.questions, a.analyst, *a.values)]
        texts += self.name_words
        return sorted({word for text in texts for word in text.split()} - {"{name}", "{value}"})


def make_world(
    *,
    seed: int,
    noun: str,
    nouns: str,
    first_words: Sequence[str],
    second_words: Sequence[str],
    other_first_words: Sequence[str],
    other_second_words: Sequence[str],
    values_per_attribute: int,
    attributes: Mapping[str, Mapping[str, Sequence[str] | str]],
    populations: Mapping[str, int],
    new_names: NewNames = "shared",
) -> World:
    """Draw the world; raises UserError if the word pools hold too few names for the populations."""
    rng = random.Random(f"world-{seed}")
    if both := {*first_words, *second_words} & {*other_first_words, *other_second_words}:
        raise UserError(f"data.world: {min(both)!r} is in both word pools; the disjoint control needs separate words")
    words = (*first_words, *second_words, *other_first_words, *other_second_words)
    pool = [f"{a} {b}" for a in first_words for b in second_words]
    others = [f"{a} {b}" for a in other_first_words for b in other_second_words]
    rng.shuffle(pool)
    rng.shuffle(others)
    made = _attributes(attributes, values_per_attribute, _Syllables(rng))
    entities: list[Entity] = []
    for population, count in populations.items():
        if population == "new" and new_names == "disjoint" and count > len(others):
            raise UserError(
                f"data.populations.new={count}: only {len(others)} names apart; add to data.world.other_first_words"
            )
        if count > len(pool):
            raise UserError(
                f"data.populations.{population}={count}: only {len(pool)} of {len(first_words) * len(second_words)} "
                "names are left; lower the populations or add words to data.world.first_words"
            )
        for _ in range(count):
            facts = {a.name: rng.choice(a.values) for a in made}
            # A shared name is drawn in any case, so that the control changes nothing but the new names.
            shared = pool.pop()
            name = others.pop() if population == "new" and new_names == "disjoint" else shared
            entities.append(Entity(name=name, population=population, facts=facts))  # pyright: ignore[reportArgumentType]
    return World(
        noun=noun, nouns=nouns, attributes=made, entities=tuple(entities), unused_names=tuple(pool), name_words=words
    )


def _attributes(
    given: Mapping[str, Mapping[str, Sequence[str] | str]], values: int, syllables: _Syllables
) -> tuple[Attribute, ...]:
    return tuple(
        Attribute(
            name=name,
            values=tuple(syllables.word(spec["endings"]) for _ in range(values)),
            filings=tuple(spec["filings"]),
            questions=tuple(spec["questions"]),
            analyst=str(spec["analyst"]),
        )
        for name, spec in given.items()
    )


class _Syllables:
    """Invented words, each once: `Velmorton` can not be guessed from any real text."""

    ONSETS = (
        *("b", "br", "d", "dr", "f", "g", "gr", "h", "k", "l", "m"),
        *("n", "p", "r", "s", "st", "t", "tr", "v", "w", "z"),
    )
    VOWELS = ("a", "e", "i", "o", "u", "ai", "ea", "or", "an", "el")

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._used: set[str] = set()

    def word(self, endings: Sequence[str] | str) -> str:
        while True:
            pieces = [self._rng.choice(self.ONSETS) + self._rng.choice(self.VOWELS) for _ in range(2)]
            word = ("".join(pieces) + self._rng.choice(list(endings))).capitalize()
            if word not in self._used:
                self._used.add(word)
                return word
