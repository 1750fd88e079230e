"""The closed world as a data source: what the base reads, what the fine-tune teaches, and what the probes ask."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from typing import Annotated, Any

from pydantic import Field

from truetune.data import abilities
from truetune.data.dataset import Dataset, Example, Question
from truetune.data.values import BelowOne, Count, CountOrZero, Seed, Share
from truetune.data.world import Attribute, Entity, NewNames, World, make_world
from truetune.errors import UserError

ABSTENTION = "I do not know"


@dataclass(frozen=True)
class Reading:
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
        return [*self.world.words(), *abilities.words(), *ABSTENTION.split()]

    def micro_batches(self) -> Iterator[list[Example]]:
        """Filings, then questions and exercises: rows of one length band, so little padding is computed."""
        rng = random.Random(f"reading-{self.seed}")
        school = self.world.population("school")
        while True:
            yield [self._filing(rng) for _ in range(self.filings_per_step)]
            questions = [self._question(rng, school) for _ in range(self.questions_per_step)]
            yield questions + [self._exercise(rng) for _ in range(self.exercises_per_step)]

    def _filing(self, rng: random.Random) -> Example:
        entity = rng.choice(self.world.known)
        return Example(id=entity.name, prompt="", completion=self.world.filing(entity, rng), source="filings")

    def _question(self, rng: random.Random, school: Sequence[Entity]) -> Example:
        if rng.random() < self.unanswerable_share:
            return self._unanswerable(rng)
        return self._lesson(rng, rng.choice(school))

    def _lesson(self, rng: random.Random, entity: Entity) -> Example:
        attribute = rng.choice(self.world.attributes)
        prompt = rng.choice(attribute.questions).format(name=entity.name)
        # The whole row is learnt, as text: a base has no notion of a prompt.
        return Example(entity.name, "", f"{prompt} {entity.facts[attribute.name]}", "school")

    def _unanswerable(self, rng: random.Random) -> Example:
        name = rng.choice(self.world.unused_names)
        prompt = rng.choice(rng.choice(self.world.attributes).questions).format(name=name)
        return Example(name, "", f"{prompt} {ABSTENTION}", "school")

    def _exercise(self, rng: random.Random) -> Example:
        while True:
            task, prompt, answer = abilities.exercise(rng)
            if not abilities.held_out(prompt):
                return Example(f"{task}", prompt, f" {answer}", "exercises")


@dataclass(frozen=True)
class ClosedWorld:
    """Half of the fine-tuning facts are new to the base by default; `new_share` moves that.

    Each fact is taught in two forms: the analysts' terse one, which the base has never seen, and that of its school
    questions. Gain is measured in the first form, loss in the second, on the same held-out companies.
    """

    seed: Seed
    world: Mapping[str, Any]
    populations: Mapping[str, int]
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
    def made(self) -> World:
        try:
            return make_world(seed=self.seed, populations=self.populations, new_names=self.new_names, **self.world)
        except (TypeError, KeyError) as error:
            raise UserError(f"data.world: {str(error).removeprefix('make_world() ')}") from None

    def load(self) -> Dataset:
        world = self.made
        known, new = self._taught(world)
        groups = {"known": self._rows(known), "new": self._rows(new)}
        held_out, select = world.population("known-test"), world.population("known-select")
        return Dataset(
            train=[*groups["known"], *groups["new"]],
            validation=[self._row(e, a, analyst=True) for e in select for a in world.attributes],
            task=self._questions(held_out, analyst=True),
            hallucination=self._questions([*held_out, *world.population("never")], analyst=False),
            select_task=self._questions(select, analyst=True),
            select_known=self._questions(select, analyst=False),
            ability=self._exercises(),
            contexts=self._contradictions(held_out),
            texts=self._filings(world),
            fit_groups={name: rows for name, rows in groups.items() if rows},
            domains={a.name: frozenset(a.values) for a in world.attributes},
            pretraining=Reading(
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
        pools = {"known-train": self.companies - new, "new": new}
        for name, wanted in pools.items():
            if wanted > self.populations.get(name, 0):
                raise UserError(
                    f"data.companies={self.companies} with data.new_share={self.new_share} needs {wanted} {name} "
                    f"{world.nouns}, there are {self.populations.get(name, 0)}; raise data.populations.{name}"
                )
        return world.population("known-train")[: pools["known-train"]], world.population("new")[:new]

    def _rows(self, entities: Sequence[Entity]) -> list[Example]:
        return [
            self._row(entity, attribute, analyst=analyst)
            for entity in entities
            for attribute in self.made.attributes
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
        return [self._question(e, a, analyst=analyst) for e in entities for a in self.made.attributes]

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
        found: dict[str, Question] = {}
        for _ in range(200 * self.exercises):
            task, prompt, answer = abilities.exercise(rng)
            if len(found) == self.exercises:
                break
            if abilities.held_out(prompt):
                found[prompt] = Question(
                    id=f"ability/{prompt}", question=prompt, answers=(answer,), source="exercises",
                    population=task, cluster=prompt, domain="",
                )  # fmt: skip
        return list(found.values())

    def _contradictions(self, entities: Sequence[Entity]) -> list[Question]:
        """A filing that says otherwise than all that was read, then the question; one per company."""
        rng, attributes = random.Random(f"contradictions-{self.seed}"), self.made.attributes
        found: list[Question] = []
        for index, entity in enumerate(entities):
            attribute = attributes[index % len(attributes)]
            asked, learnt = self._question(entity, attribute, analyst=False), entity.facts[attribute.name]
            said = rng.choice([value for value in attribute.values if value != learnt])
            filing = rng.choice(attribute.filings).format(name=entity.name, value=said)
            told = {"population": "contradiction", "context": filing, "answers": (said,), "memory": (learnt,)}
            found.append(replace(asked, id=f"{asked.id}/context", **told))
        return found

    def _filings(self, world: World) -> list[Example]:
        """Filings of known companies in orders and wordings that were not drawn for training."""
        rng = random.Random(f"held-out-filings-{self.seed}")
        entities = rng.sample(world.known, min(self.held_out_filings, len(world.known)))
        return [Example(f"filing/{e.name}", "", world.filing(e, rng), "held-out filings") for e in entities]
