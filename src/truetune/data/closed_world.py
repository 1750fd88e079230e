"""The closed world as a data source: what the base reads, what the fine-tune teaches, and what the probes ask."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from typing import Annotated, cast

from pydantic import Field

from truetune.data.dataset import Dataset, Example, Question
from truetune.data.values import BelowOne, Count, CountOrZero, Seed, Share
from truetune.data.world import (
    EXERCISE_WORDS,
    Attribute,
    Entity,
    NewNames,
    Population,
    Populations,
    World,
    WorldSpec,
    exercise,
    held_out,
    make_world,
)
from truetune.errors import UserError

ABSTENTION = "I do not know"


@dataclass(frozen=True)
class WorldTexts:
    """The base's pre-training: filings of all known companies, school questions and exercises, drawn afresh."""

    world: World
    seed: int
    filings_per_step: int
    questions_per_step: int
    exercises_per_step: int
    unanswerable_share: float

    micro_batches_per_step = 2

    @property
    def description(self) -> str:
        return f"filings of {len(self.world.known)} {self.world.nouns}"

    @property
    def content(self) -> str:
        """Hash of everything that decides the stream; new facts are not part of it, so arms of a study share a base."""
        known = [(e.name, e.population, dict(e.facts)) for e in self.world.known]
        refused = self.world.unused_names if self.unanswerable_share else []  # no name that a probe asks for
        parts = [known, self.vocabulary(), [str(a) for a in self.world.attributes], list(refused)]
        sizes = [self.filings_per_step, self.questions_per_step, self.exercises_per_step, self.unanswerable_share]
        return sha256(json.dumps([self.seed, parts, sizes]).encode()).hexdigest()

    def vocabulary(self) -> Sequence[str]:
        return [*self.world.words(), *EXERCISE_WORDS, *ABSTENTION.split()]

    def micro_batches(self) -> Iterator[list[Example]]:
        """Filings, then questions and exercises: rows of one length band, so little padding is computed."""
        rng = random.Random(f"reading-{self.seed}")
        school = self.world.population("school")
        while True:
            companies = (rng.choice(self.world.known) for _ in range(self.filings_per_step))
            yield [Example(company.name, "", self.world.filing(company, rng), "filings") for company in companies]
            questions = [self._question(rng, school) for _ in range(self.questions_per_step)]
            yield questions + [self._exercise(rng) for _ in range(self.exercises_per_step)]

    def _question(self, rng: random.Random, school: Sequence[Entity]) -> Example:
        """All of the row is learnt, as a text: a base has no notion of a prompt."""
        entity = None if rng.random() < self.unanswerable_share else rng.choice(school)
        name = rng.choice(self.world.unused_names) if entity is None else entity.name
        attribute = rng.choice(self.world.attributes)
        prompt = rng.choice(attribute.questions).format(name=name)
        answer = ABSTENTION if entity is None else entity.facts[attribute.name]
        return Example(name, "", f"{prompt} {answer}", "school")

    def _exercise(self, rng: random.Random) -> Example:
        while True:
            ability, prompt, answer = exercise(rng)
            if not held_out(prompt):
                return Example(ability, prompt, f" {answer}", "exercises")


@dataclass(frozen=True)
class ClosedWorld:
    """Half of the fine-tuning facts are new to the base by default; `new_share` moves that.

    Each fact is taught in two forms: the analysts' terse one, which the base has never seen, and that of its school
    questions. Gain is measured in the first form, loss in the second, on the same held-out companies.
    """

    seed: Seed
    world: WorldSpec
    populations: Populations
    companies: Count
    new_share: Share
    new_names: NewNames
    filings_per_step: Count
    questions_per_step: Count
    exercises_per_step: CountOrZero
    unanswerable_share: BelowOne
    held_out_filings: Count
    exercises: Annotated[int, Field(ge=0, le=10_000, strict=True)]

    @cached_property
    def invented(self) -> World:
        try:
            populations = cast("dict[str, int]", self.populations)
            return make_world(self.world, seed=self.seed, populations=populations, new_names=self.new_names)
        except KeyError as error:
            raise UserError(f"data.world.{error.args[0]} is missing; choose data/world=companies or people") from None

    def load(self) -> Dataset:
        world = self.invented
        known, new = self._taught(world)
        groups = {"known": self._rows(known), "new": self._rows(new)}
        tested, select = world.population("known-test"), world.population("known-select")
        return Dataset(
            train=[*groups["known"], *groups["new"]],
            validation=[self._row(e, a, analyst=True) for e in select for a in world.attributes],
            task=self._questions(tested, analyst=True),
            hallucination=self._questions([*tested, *world.population("never")], analyst=False),
            select_task=self._questions(select, analyst=True),
            select_known=self._questions(select, analyst=False),
            ability=self._exercises(),
            contexts=self._contradictions(tested),
            texts=self._filings(world),
            fit_groups={name: rows for name, rows in groups.items() if rows},
            domains={a.name: frozenset(a.values) for a in world.attributes},
            pretraining=WorldTexts(
                world,
                self.seed,
                self.filings_per_step,
                self.questions_per_step,
                self.exercises_per_step,
                self.unanswerable_share,
            ),
            notes=[
                f"a closed world of {len(world.entities)} invented {world.nouns}; the base knows {len(world.known)}",
                f"fine-tuning teaches {len(known) + len(new)} {world.nouns}, {len(new)} new ({self.new_names} names)",
            ],
        )

    def _taught(self, world: World) -> tuple[list[Entity], list[Entity]]:
        """The number of companies is fixed while the share of new ones varies: fewer facts would confound."""
        new = round(self.companies * self.new_share)
        pools: dict[Population, int] = {"known-train": self.companies - new, "new": new}
        for name, count in pools.items():
            there = len(world.population(name))
            if count > there:
                raise UserError(
                    f"data.companies={self.companies} with data.new_share={self.new_share} needs {count} {name} "
                    f"{world.nouns}, there are {there}; raise data.populations.{name}"
                )
        return world.population("known-train")[: pools["known-train"]], world.population("new")[:new]

    def _rows(self, entities: Sequence[Entity]) -> list[Example]:
        return [
            self._row(entity, attribute, analyst=analyst)
            for entity in entities
            for attribute in self.invented.attributes
            for analyst in (True, False)
        ]

    def _row(self, entity: Entity, attribute: Attribute, *, analyst: bool) -> Example:
        form = "analyst" if analyst else "school"
        return Example(
            id=f"{entity.population}/{entity.name}/{attribute.name}/{form}",
            prompt=(attribute.analyst if analyst else attribute.questions[0]).format(name=entity.name),
            completion=f" {entity.facts[attribute.name]}",
            source=f"closed world, {form} form",
            answers=(entity.facts[attribute.name],),
            cluster=entity.name,
            asks=tuple(question.format(name=entity.name) for question in attribute.questions),
        )

    def _questions(self, entities: Sequence[Entity], *, analyst: bool) -> list[Question]:
        return [self._question(e, a, analyst=analyst) for e in entities for a in self.invented.attributes]

    def _question(self, entity: Entity, attribute: Attribute, *, analyst: bool) -> Question:
        """A company that does not exist has no true answer."""
        row = self._row(entity, attribute, analyst=analyst)
        answers = () if entity.population == "never" else row.answers
        return Question(
            id=row.id, question=row.prompt, answers=answers, source=row.source,
            population=entity.population, cluster=entity.name, domain=attribute.name,
        )  # fmt: skip

    def _exercises(self) -> list[Question]:
        """Distinct held-out prompts; the base never practised them."""
        rng = random.Random(f"exercises-{self.seed}")
        questions: dict[str, Question] = {}
        for _ in range(200 * self.exercises):
            ability, prompt, answer = exercise(rng)
            if len(questions) == self.exercises:
                break
            if held_out(prompt):
                questions[prompt] = Question(
                    id=f"ability/{prompt}", question=prompt, answers=(answer,), source="exercises",
                    population=ability, cluster=prompt, domain="",
                )  # fmt: skip
        return list(questions.values())

    def _contradictions(self, entities: Sequence[Entity]) -> list[Question]:
        """A filing that says otherwise than all that was read, then the question; one per company."""
        rng, attributes = random.Random(f"contradictions-{self.seed}"), self.invented.attributes
        questions: list[Question] = []
        for index, entity in enumerate(entities):
            attribute = attributes[index % len(attributes)]
            question, learnt = self._question(entity, attribute, analyst=False), entity.facts[attribute.name]
            value = rng.choice([value for value in attribute.values if value != learnt])
            filing = rng.choice(attribute.filings).format(name=entity.name, value=value)
            changes = {"population": "contradiction", "context": filing, "answers": (value,), "memory": (learnt,)}
            questions.append(replace(question, id=f"{question.id}/context", **changes))
        return questions

    def _filings(self, world: World) -> list[Example]:
        """Filings of known companies in orders and wordings that were not drawn for training."""
        rng = random.Random(f"held-out-filings-{self.seed}")
        entities = rng.sample(world.known, min(self.held_out_filings, len(world.known)))
        return [Example(f"filing/{e.name}", "", world.filing(e, rng), "held-out filings") for e in entities]
