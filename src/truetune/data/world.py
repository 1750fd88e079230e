"""A closed world: entities, facts, texts about them and exercises, all from a seed: every invention can be counted."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from truetune.data.values import Count, CountOrZero, Text
from truetune.errors import UserError

Population = Literal["school", "known-train", "known-test", "known-select", "new", "never"]
NewNames = Literal["shared", "disjoint"]
Texts = Annotated[list[Text], Field(min_length=1)]
ABILITIES: dict[str, Callable[[list[int]], list[int]]] = {
    "copy": lambda numbers: numbers,
    "reverse": lambda numbers: numbers[::-1],
    "sort": sorted,
}
NUMBERS = range(10)
LENGTHS = range(2, 5)
EXERCISE_WORDS = [*ABILITIES, "=", *map(str, NUMBERS)]
ONSETS = (
    *("b", "br", "d", "dr", "f", "g", "gr", "h", "k", "l", "m"),
    *("n", "p", "r", "s", "st", "t", "tr", "v", "w", "z"),
)
VOWELS = ("a", "e", "i", "o", "u", "ai", "ea", "or", "an", "el")


# How many entities each population has; without school questions the base never learns to answer.
Populations = with_config(ConfigDict(extra="forbid"))(
    TypedDict(
        "Populations",
        {
            "school": Count,
            "known-train": CountOrZero,
            "known-test": CountOrZero,
            "known-select": CountOrZero,
            "new": CountOrZero,
            "never": CountOrZero,
        },
        total=False,
    )
)


@with_config(ConfigDict(extra="forbid"))
class AttributeSpec(TypedDict):
    """The endings of an attribute's invented values, and its wordings."""

    endings: Texts
    filings: Texts
    questions: Texts
    analyst: Text


@with_config(ConfigDict(extra="forbid"))
class WorldSpec(TypedDict):
    """What a world is made of: a file of conf/data/world. Only new names under `disjoint` use the other words."""

    noun: Text
    nouns: Text
    first_words: Texts
    second_words: Texts
    other_first_words: Texts
    other_second_words: Texts
    values_per_attribute: Annotated[int, Field(ge=2, le=10_000, strict=True)]
    attributes: Mapping[str, AttributeSpec]


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
    """Every entity and wording, all decided by the seed. `unused_names` are shared names that no entity bears."""

    noun: str
    nouns: str
    attributes: tuple[Attribute, ...]
    entities: tuple[Entity, ...]
    unused_names: tuple[str, ...]
    name_words: tuple[str, ...]

    def population(self, *names: Population) -> list[Entity]:
        return [entity for name in names for entity in self.entities if entity.population == name]

    @cached_property
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


def make_world(spec: WorldSpec, *, seed: int, populations: Mapping[str, int], new_names: NewNames = "shared") -> World:
    """Draws the world; raises UserError if the word pools hold too few names for the populations."""
    rng = random.Random(f"world-{seed}")
    pools = [(spec["first_words"], spec["second_words"]), (spec["other_first_words"], spec["other_second_words"])]
    (shared_words, other_words) = ({*first, *second} for first, second in pools)
    if overlap := shared_words & other_words:
        raise UserError(
            f"data.world: {min(overlap)!r} is in both word pools; the disjoint control needs separate words"
        )
    shared_names, other_names = ([f"{a} {b}" for a in first for b in second] for first, second in pools)
    pool_size = len(shared_names)
    rng.shuffle(shared_names)
    rng.shuffle(other_names)
    attributes = _attributes(spec, rng)
    entities: list[Entity] = []
    for population, count in populations.items():
        is_disjoint = population == "new" and new_names == "disjoint"
        if is_disjoint and count > len(other_names):
            raise UserError(
                f"data.populations.new={count}: only {len(other_names)} names apart; "
                "add to data.world.other_first_words"
            )
        if count > len(shared_names):
            raise UserError(
                f"data.populations.{population}={count}: only {len(shared_names)} of {pool_size} "
                "names are left; lower the populations or add words to data.world.first_words"
            )
        for _ in range(count):
            facts = {attribute.name: rng.choice(attribute.values) for attribute in attributes}
            # A shared name is drawn in any case, so that the control changes nothing but the new names.
            shared_name = shared_names.pop()
            name = other_names.pop() if is_disjoint else shared_name
            entities.append(Entity(name=name, population=population, facts=facts))  # pyright: ignore[reportArgumentType]
    return World(
        noun=spec["noun"],
        nouns=spec["nouns"],
        attributes=attributes,
        entities=tuple(entities),
        unused_names=tuple(shared_names),
        name_words=tuple(word for pool in pools for words in pool for word in words),
    )


def _attributes(spec: WorldSpec, rng: random.Random) -> tuple[Attribute, ...]:
    """Attributes with invented values, each used once: `Velmorton` cannot be guessed from any real text."""
    words: set[str] = set()

    def value(endings: Sequence[str]) -> str:
        while True:
            syllables = [rng.choice(ONSETS) + rng.choice(VOWELS) for _ in range(2)]
            word = ("".join(syllables) + rng.choice(endings)).capitalize()
            if word not in words:
                words.add(word)
                return word

    return tuple(
        Attribute(
            name=name,
            values=tuple(value(attribute["endings"]) for _ in range(spec["values_per_attribute"])),
            filings=tuple(attribute["filings"]),
            questions=tuple(attribute["questions"]),
            analyst=attribute["analyst"],
        )
        for name, attribute in spec["attributes"].items()
    )


def exercise(rng: random.Random) -> tuple[str, str, str]:
    """One (ability, prompt, answer): a general ability has nothing to do with facts."""
    ability = rng.choice(list(ABILITIES))
    numbers = rng.sample(NUMBERS, rng.choice(LENGTHS))
    operands, answer = (" ".join(map(str, row)) for row in (numbers, ABILITIES[ability](numbers)))
    return ability, f"{ability} {operands} =", answer


def held_out(prompt: str) -> bool:
    """Whether an exercise belongs to the probe: decided by its text, so that training and probing never share one."""
    return random.Random(f"held-out-{prompt}").random() < 0.1
