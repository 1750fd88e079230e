"""What every probe is: it asks one model the same questions each time and keeps every answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from truetune.data.dataset import Dataset, Example, Prompt, Question
from truetune.data.tokens import Encoder
from truetune.models.frozen import Frozen
from truetune.models.language_model import LanguageModel
from truetune.probes.decoding import Answer, Decoding, greedy_answers
from truetune.scoring.answers import key, outcome
from truetune.scoring.item import Item, Measurement
from truetune.scoring.rates import kinds
from truetune.scoring.rules import meets


@dataclass(frozen=True)
class Subject:
    """The model under measurement, and the untouched base that some metrics compare with (None: it is the base).

    `decoding` is part of the model as it is used. `memory` holds the answers given within one measurement: probes that
    ask the same questions share them (None: nothing is remembered, since weights change between measurements).
    `resamples` is that of the bootstraps behind intervals: 0 where no interval is kept.
    """

    lm: LanguageModel
    base: Frozen | None = None
    decoding: Decoding | None = None
    memory: dict[tuple[Prompt, ...], list[Answer]] | None = None
    resamples: int = 400


class Probe(Protocol):
    """Measures one model; it is made from its YAML and `asking`, and never knows what another model answered.

    `name` prefixes the metrics and the items' file. Three members are optional: `asks(data)` returns the questions that
    are answered in words, which are looked through for those that are too long; `notes(lm, data)` what else the user
    should know before anything is measured; `selects = True` says that the probe asks as the selection questions are
    asked, so that with it there is a `val/score` to choose checkpoints by.
    """

    name: str

    def measure(self, subject: Subject, data: Dataset) -> Measurement: ...


@dataclass(frozen=True)
class Asking:
    """How questions are put and answers judged; the same for the base and for every later measurement."""

    max_new_tokens: int
    batch_size: int
    abstention_phrases: tuple[str, ...]

    def ask(self, subject: Subject, questions: Sequence[Question], data: Dataset) -> list[Item]:
        """Items in the questions' order; `kind` lacks `lost`, which needs the base's items (see `compare`)."""
        if not questions:
            return []
        answers = self.answers(subject, [question.asked for question in questions])
        domains = {name: frozenset(map(key, values)) for name, values in data.domains.items()}
        items: list[Item] = []
        for question, answer in zip(questions, answers, strict=True):
            judged = outcome(answer.text, question.answers, self.abstention_phrases)
            if question.rule:
                judged = "right" if meets(answer.text, question.rule) else "wrong"
            item = Item(
                id=question.id,
                question=question.question,
                answers=question.answers,
                answer=answer.text,
                outcome=judged,
                confidence=round(answer.confidence, 6),
                population=question.population,
                cluster=question.cluster,
            )
            kind = () if question.rule else kinds(item, data.taught, domains.get(question.domain))
            items.append(replace(item, kind=kind))
        return items

    def answers(self, subject: Subject, prompts: Sequence[Prompt]) -> list[Answer]:
        memory, prompts = {} if subject.memory is None else subject.memory, tuple(prompts)
        if prompts not in memory:
            size: dict[str, Any] = {"max_new_tokens": self.max_new_tokens, "batch_size": self.batch_size}
            memory[prompts] = greedy_answers(subject.lm, prompts, decoding=subject.decoding, **size)
        return memory[prompts]

    def notes(self, lm: LanguageModel, questions: Sequence[Question]) -> list[str]:
        """On questions that the context has no room for, and on true answers that are longer than any answer."""
        notes: list[str] = []
        encoder, most = Encoder(lm.tokenizer), self.max_new_tokens
        room = lm.context_length - most
        long = [question for question in questions if len(encoder.prompt(question.asked)) > room]
        if long:
            notes.append(
                f"{len(long)} questions are over the {room} tokens that the context of {lm.context_length} leaves them "
                f"and are asked without their beginning, the first: {long[0].source}"
            )
        answerable = [question for question in questions if question.answers]
        # Of several true answers the shortest is enough; its end token is not counted.
        needed = [min(len(encoder.text(each.completion(answer))) for answer in each.answers) for each in answerable]
        cut = [question for question, tokens in zip(answerable, needed, strict=True) if tokens > most]
        if cut:
            notes.append(
                f"{len(cut)} of {len(needed)} true answers are longer than measure.max_new_tokens={most} and cannot be "
                f"given, the first: {cut[0].source}; type measure.max_new_tokens={max(needed) + 1}"
            )
        return notes


def true_answers(questions: Sequence[Question]) -> list[Example]:
    """Each answerable question with its first true answer, as a training row would have it."""
    return [
        Example(q.id, q.question, q.completion(q.answers[0]), q.source, turns=q.turns) for q in questions if q.answers
    ]
