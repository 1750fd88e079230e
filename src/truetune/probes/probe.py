"""What every probe is: it asks one model the same questions each time and keeps every answer."""

from __future__ import annotations

from collections.abc import Collection, Container, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from truetune.data.dataset import Dataset, Example, Prompt, Question
from truetune.models.language_model import Frozen, LanguageModel
from truetune.probes.decoding import Answer, Decoding, greedy_answers
from truetune.scoring.answers import key, outcome
from truetune.scoring.item import Item, Measurement
from truetune.scoring.rates import kinds


@dataclass(frozen=True)
class Subject:
    """The model under measurement, and the untouched base that some metrics compare with (None: it is the base).

    `decoding` is part of the model as it is used. `heard` remembers answers within one measurement: probes that ask
    the same questions share them (None: nothing is remembered, since weights change between measurements).
    `resamples` is that of the bootstraps behind intervals: 0 where no interval is kept.
    """

    lm: LanguageModel
    base: Frozen | None = None
    decoding: Decoding | None = None
    heard: dict[tuple[Prompt, ...], list[Answer]] | None = None
    resamples: int = 400


class Probe(Protocol):
    """`name` prefixes the metrics and the items' file."""

    name: str

    def measure(self, subject: Subject, data: Dataset) -> Measurement: ...


@dataclass(frozen=True)
class Asking:
    """How questions are put and answers judged; the same for the base and for every later measurement."""

    max_new_tokens: int
    batch_size: int
    abstention_phrases: tuple[str, ...]

    def ask(self, subject: Subject, questions: Sequence[Question], data: Dataset) -> list[Item]:
        """Items in the questions' order; `kind` lacks `lost`, which needs the base's items (see `with_lost`)."""
        answers = self.answers(subject, [question.asked for question in questions])
        domains = {name: frozenset(map(key, values)) for name, values in data.domains.items()}
        return [
            self._item(question, answer.text, answer.confidence, data.taught, domains.get(question.domain))
            for question, answer in zip(questions, answers, strict=True)
        ]

    def answers(self, subject: Subject, prompts: Sequence[Prompt]) -> list[Answer]:
        heard, key = {} if subject.heard is None else subject.heard, tuple(prompts)
        if key not in heard:
            size: dict[str, Any] = {"max_new_tokens": self.max_new_tokens, "batch_size": self.batch_size}
            heard[key] = greedy_answers(subject.lm, prompts, decoding=subject.decoding, **size)
        return heard[key]

    def _item(
        self,
        question: Question,
        answer: str,
        confidence: float,
        taught: Container[str],
        domain: Collection[str] | None,
    ) -> Item:
        item = Item(
            id=question.id,
            question=question.question,
            answers=question.answers,
            answer=answer,
            outcome=outcome(answer, question.answers, self.abstention_phrases),
            confidence=round(confidence, 6),
            population=question.population,
            cluster=question.cluster,
        )
        return replace(item, kind=kinds(item, taught, domain))


def with_lost(base: Measurement, tuned: Measurement) -> Measurement:
    """`lost` is a join of two measurements: right for the base, wrong now."""
    items: dict[str, list[Item]] = {}
    for probe, rows in tuned.items.items():
        right = {item.id for item in base.items.get(probe, []) if item.outcome == "right"}
        items[probe] = [
            replace(item, kind=("lost", *item.kind)) if item.outcome == "wrong" and item.id in right else item
            for item in rows
        ]
    return Measurement(tuned.metrics, items)


def true_answers(questions: Sequence[Question]) -> list[Example]:
    """Each answerable question with its first true answer, as a training row would have it."""
    return [
        Example(q.id, q.question, q.completion(q.answers[0]), q.source, turns=q.turns) for q in questions if q.answers
    ]
