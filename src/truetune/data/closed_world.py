"""The closed world as a data source: what the base reads, what the fine-tune teaches, and what the probes ask."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from itertools import islice, product, repeat
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
    settings: ClosedWorld

    micro_batches_per_step = 2

    @property
    def description(self) -> str:
        return f"filings of {len(self.world.known)} {self.world.nouns}"

    @property
    def content(self) -> str:
        """Hash of everything that decides the stream; new facts are not part of it, so arms of a study share a base."""
        entities = [(e.name, e.population, dict(e.facts)) for e in self.world.known]
        setup = self.settings
        refused_names = self.world.unused_names if setup.unanswerable_share else []  # no name that a probe asks for
        parts = [entities, self.vocabulary(), [str(a) for a in self.world.attributes], list(refused_names)]
        sizes = [setup.filings_per_step, setup.questions_per_step, setup.exercises_per_step, setup.unanswerable_share]
        return sha256(json.dumps([setup.seed, parts, sizes]).encode()).hexdigest()

    def vocabulary(self) -> Sequence[str]:
        return [*self.world.words(), *EXERCISE_WORDS, *ABSTENTION.split()]

    def micro_batches(self) -> Iterator[list[Example]]:
        """Filings, then questions and exercises: rows of one length band, so little padding is computed."""
        rng, world, setup = random.Random(f"reading-{self.settings.seed}"), self.world, self.settings
        school = world.population("school")

        def question() -> Example:
            """All of the row is learnt, as a text: a base has no notion of a prompt."""
            entity = None if rng.random() < setup.unanswerable_share else rng.choice(school)
            name = rng.choice(world.unused_names) if entity is None else entity.name
            attribute = rng.choice(world.attributes)
            prompt = rng.choice(attribute.questions).format(name=name)
            answer = ABSTENTION if entity is None else entity.facts[attribute.name]
            return Example(name, "", f"{prompt} {answer}", "school")

        practice = (exercise(rng) for _ in repeat(None))
        exercises = (
            Example(name, ask, f" {answer}", "exercises") for name, ask, answer in practice if not held_out(ask)
        )
        while True:
            companies = (rng.choice(world.known) for _ in range(setup.filings_per_step))
            yield [Example(company.name, "", world.filing(company, rng), "filings") for company in companies]
            yield [*(question() for _ in range(setup.questions_per_step)), *islice(exercises, setup.exercises_per_step)]


@dataclass(frozen=True)
class ClosedWorld:
    """Half of the fine-tuning facts are new to the base by default; `new_share` changes that.

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
        known_ones, new_ones = self._taught(world)
        groups = {
            name: [self._row(e, a, analyst=form) for e in entities for a in world.attributes for form in (True, False)]
            for name, entities in (("known", known_ones), ("new", new_ones))
        }
        test_entities, select_entities = world.population("known-test"), world.population("known-select")
        # Filings in orders and wordings that were not drawn for training.
        rng = random.Random(f"held-out-filings-{self.seed}")
        sample = rng.sample(world.known, min(self.held_out_filings, len(world.known)))
        held_out_filings = [Example(f"filing/{e.name}", "", world.filing(e, rng), "held-out filings") for e in sample]
        return Dataset(
            train=[*groups["known"], *groups["new"]],
            validation=[self._row(e, a, analyst=True) for e in select_entities for a in world.attributes],
            task=self._questions(test_entities, analyst=True),
            hallucination=self._questions([*test_entities, *world.population("never")], analyst=False),
            select_task=self._questions(select_entities, analyst=True),
            select_known=self._questions(select_entities, analyst=False),
            ability=self._exercises(),
            contexts=self._contradictions(test_entities),
            texts=held_out_filings,
            fit_groups={name: rows for name, rows in groups.items() if rows},
            domains={a.name: frozenset(a.values) for a in world.attributes},
            exact=True,
            pretraining=WorldTexts(world, self),
            stand_ins=dict(zip((e.name for e in (*known_ones, *new_ones)), world.unused_names, strict=False)),
            notes=[
                f"a closed world of {len(world.entities)} invented {world.nouns}; the base knows {len(world.known)}",
                f"fine-tuning teaches {len(known_ones) + len(new_ones)} {world.nouns}, {len(new_ones)} new "
                f"({self.new_names} names)",
            ],
        )

    def _taught(self, world: World) -> tuple[list[Entity], list[Entity]]:
        """(known, new) to teach: their sum is fixed while the share of new ones varies: fewer facts would confound."""
        new_count = round(self.companies * self.new_share)
        pools: dict[Population, int] = {"known-train": self.companies - new_count, "new": new_count}
        for name, count in pools.items():
            available = len(world.population(name))
            if count > available:
                raise UserError(
                    f"data.companies={self.companies} with data.new_share={self.new_share} needs {count} {name} "
                    f"{world.nouns}, there are {available}; raise data.populations.{name}"
                )
        return world.population("known-train")[: pools["known-train"]], world.population("new")[:new_count]

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
        """Questions about every attribute of each company; one that does not exist has no true answer."""
        questions: list[Question] = []
        for entity, attribute in product(entities, self.invented.attributes):
            row = self._row(entity, attribute, analyst=analyst)
            answers = () if entity.population == "never" else row.answers
            names = (entity.population, entity.name, attribute.name)
            questions.append(Question(row.id, row.prompt, answers, row.source, *names))
        return questions

    def _exercises(self) -> list[Question]:
        """Exercises with distinct held-out prompts, which the base never practised."""
        rng = random.Random(f"exercises-{self.seed}")
        questions: dict[str, Question] = {}
        for _ in range(200 * self.exercises):  # an end, for there may be fewer distinct held-out prompts
            ability, prompt, answer = exercise(rng)
            if len(questions) == self.exercises:
                break
            if held_out(prompt):
                questions[prompt] = Question(f"ability/{prompt}", prompt, (answer,), "exercises", ability, prompt)
        return list(questions.values())

    def _contradictions(self, entities: Sequence[Entity]) -> list[Question]:
        """Questions below a filing that contradicts all that was read; one per company."""
        rng, attributes = random.Random(f"contradictions-{self.seed}"), self.invented.attributes
        questions: list[Question] = []
        all_questions = self._questions(entities, analyst=False)
        for index, entity in enumerate(entities):
            place = index % len(attributes)
            attribute, question = attributes[place], all_questions[index * len(attributes) + place]
            true_value = entity.facts[attribute.name]
            value = rng.choice([value for value in attribute.values if value != true_value])
            filing = rng.choice(attribute.filings).format(name=entity.name, value=value)
            changes = {"population": "contradiction", "context": filing, "answers": (value,), "memory": (true_value,)}
            questions.append(replace(question, id=f"{question.id}/context", **changes))
        return questions
