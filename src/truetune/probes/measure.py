"""All probes on one model, and what follows from comparing two measurements."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import chain
from pathlib import Path

import numpy as np

from truetune.data.dataset import Dataset, Example, Question
from truetune.data.tokens import Encoder
from truetune.data.values import Count, NotNegative, Text
from truetune.extensions.faithfulness import Faithfulness, below_context
from truetune.extensions.multiple_choice import MultipleChoice, choices
from truetune.models.language_model import LanguageModel
from truetune.probes.hallucination import Hallucination
from truetune.probes.likelihood import likelihood
from truetune.probes.probe import Asking, Probe, Subject, with_lost
from truetune.probes.task import Task
from truetune.scoring.balance import balance_score, gained_share_of_headroom
from truetune.scoring.estimates import Estimate, rate
from truetune.scoring.item import Item, Measurement
from truetune.scoring.lost_and_kept import backward_transfer, kept, lost, refused
from truetune.scoring.memorising import LOW, UNKNOWN
from truetune.scoring.rates import clusters, met

ABSTENTION_PHRASES = (
    *("i do not know", "i don't know", "do not know", "don't know", "unknown", "not sure", "i am not sure"),
    *("no answer", "unanswerable"),
)


@dataclass(frozen=True)
class MeasureSettings:
    """`points` full measurements are made while training; a wrong answer costs as much as `wrong_cost` right ones."""

    points: Count = 6
    max_new_tokens: Count = 8
    batch_size: Count = 256
    abstention_phrases: Sequence[Text] = ABSTENTION_PHRASES
    wrong_cost: NotNegative = 1.0

    @property
    def asking(self) -> Asking:
        return Asking(self.max_new_tokens, self.batch_size, tuple(self.abstention_phrases))


def measure(subject: Subject, data: Dataset, probes: Sequence[Probe]) -> Measurement:
    """Every probe's metrics and items, and how much of the training data the model reproduces."""
    metrics: dict[str, Estimate] = {}
    items: dict[str, list[Item]] = {}
    subject = replace(subject, heard={})
    for probe in probes:
        found = probe.measure(subject, data)
        metrics |= found.metrics
        items |= found.items
    if subject.base is not None:
        subject.base.rest()
    return Measurement(metrics | fit(subject, data, probes), items)


def fit(subject: Subject, data: Dataset, probes: Sequence[Probe]) -> dict[str, Estimate]:
    """`fit/<group>_exact_match`: the share of that group's training rows that the model reproduces exactly.

    The curve that matters: new facts are fitted late, and what is lost is lost while they are (Gekhman et al. 2024).
    """
    asking = _asking(probes)
    batch_size = asking.batch_size if asking else 64
    rows = list({row.id: row for group in data.fit_groups.values() for row in group}.values())
    reproduced = dict(
        zip((row.id for row in rows), likelihood(subject.lm, rows, batch_size=batch_size).reproduced, strict=True)
    )
    return {
        f"fit/{name}_exact_match": rate(
            [reproduced[row.id] for row in group], [row.cluster or row.prompt or row.id for row in group]
        )
        for name, group in data.fit_groups.items()
    }


def selection(subject: Subject, data: Dataset, probes: Sequence[Probe]) -> dict[str, Estimate]:
    """`val/score` and its parts, on entities set aside for choosing checkpoints.

    The balance of what is gained in the task form and kept in the school form; without questions of both kinds, the
    exact match alone; without any, nothing (the caller falls back on the validation loss).
    """
    asking = _asking([probe for probe in probes if isinstance(probe, (Task, Hallucination))])
    if asking is None or not data.select_task:
        return {}
    found = {"val/exact_match": _right(asking.ask(subject, data.select_task, data))}
    score: float | None = found["val/exact_match"].value
    if data.select_known:
        found["val/known_exact_match"] = _right(asking.ask(subject, data.select_known, data))
        score = balance_score(score, found["val/known_exact_match"].value)
    return found | {"val/score": Estimate(score or 0.0, len(data.select_task))}


def _asking(probes: Sequence[Probe]) -> Asking | None:
    """Of a probe that asks for answers: those that only compare given ones have no say in it."""
    asks = (probe for probe in probes if not isinstance(probe, MultipleChoice))
    return next((asking for probe in asks if (asking := getattr(probe, "asking", None))), None)


def _right(items: Sequence[Item]) -> Estimate:
    return rate([met(item) for item in items], clusters(items))


def follow(subject: Subject, data: Dataset, probes: Sequence[Probe], base: Measurement, full: bool) -> dict[str, float]:
    """After an epoch: the fit of the facts and the selection score; if `full`, every probe."""
    chosen = {name: estimate.value for name, estimate in selection(subject, data, probes).items()}
    found = (
        compare(base, measure(replace(subject, resamples=0), data, probes))
        if full
        else Measurement(fit(subject, data, probes))
    )
    return chosen | values(found)


def values(measurement: Measurement) -> dict[str, float]:
    """What the history keeps; of the Unknown facts' fit the lower bound too, which the alarm looks at."""
    low = {LOW: measurement.metrics[UNKNOWN].low or 0.0} if UNKNOWN in measurement.metrics else {}
    return {name: estimate.value for name, estimate in measurement.metrics.items()} | low


def compare(base: Measurement, tuned: Measurement) -> Measurement:
    """The tuned measurement with all that needs the base: the kind `lost`, its rate, the balance and its parts."""
    tuned = with_lost(base, tuned)
    metrics = dict(tuned.metrics)
    before, after = base.items.get("hallucination", []), tuned.items.get("hallucination", [])
    answerable = [item for item in before if item.answers]
    answered = [item for item in after if item.answers]
    if any(item.outcome == "right" for item in answerable):
        metrics["hallucination/lost_rate"] = lost(answerable, answered)
        metrics["hallucination/over_refusal_rate"] = refused(answerable, answered)
        metrics["balance/kept_share"] = kept(answerable, answered)
    ability = base.items.get("retention", [])
    if ability:
        later, rng = tuned.items.get("retention", []), np.random.default_rng(0)
        metrics["retention/backward_transfer"] = backward_transfer(ability, later, rng)
    metrics |= _balance(base, tuned, metrics.get("balance/kept_share"))
    return Measurement(metrics, tuned.items)


def _balance(base: Measurement, tuned: Measurement, kept_share: Estimate | None) -> dict[str, Estimate]:
    name = "task/exact_match"
    if name not in base.metrics or name not in tuned.metrics:
        return {}
    n = tuned.metrics[name].n
    gained = gained_share_of_headroom(base.metrics[name].value, tuned.metrics[name].value)
    score = balance_score(gained, kept_share.value if kept_share else None)
    parts = {"balance/gained_share": gained, "balance/score": score}
    return {key: Estimate(value, n) for key, value in parts.items() if value is not None and math.isfinite(value)}


def limits(lm: LanguageModel, data: Dataset, probes: Sequence[Probe]) -> list[str]:
    """Notes on questions and choices that the context has no room for, and on true answers longer than any answer."""
    asking, encoder = _asking(probes), Encoder(lm.tokenizer)
    notes = _long_choices(lm, encoder, data) if any(isinstance(probe, MultipleChoice) for probe in probes) else []
    if asking is None:
        return notes
    most = asking.max_new_tokens
    room = lm.context_length - most
    told = map(below_context, data.contexts if any(isinstance(probe, Faithfulness) for probe in probes) else ())
    asked = {question.id: question for question in (*data.task, *data.hallucination, *data.ability, *told)}.values()
    long = [question for question in asked if len(encoder.prompt(question.asked)) > room]
    if long:
        notes.append(
            f"{len(long)} questions are over the {room} tokens that the context of {lm.context_length} leaves them "
            f"and are asked without their beginning, the first: {long[0].source}"
        )
    needed = [(_shortest(encoder, question), question) for question in asked if question.answers]
    cut = [question for tokens, question in needed if tokens > most]
    if cut:
        notes.append(
            f"{len(cut)} of {len(needed)} true answers are longer than extras.max_new_tokens={most} and cannot be "
            f"given, the first: {cut[0].source}; type extras.max_new_tokens={max(tokens for tokens, _ in needed) + 1}"
        )
    return notes


def _long_choices(lm: LanguageModel, encoder: Encoder, data: Dataset) -> list[str]:
    rows = [row for question in data.hallucination for row in choices(question)]
    over = [row for row in rows if len(encoder.prompt(row.prompt) + encoder.text(row.completion)) > lm.context_length]
    if not over:
        return []
    return [
        f"{len(over)} of {len(rows)} choices do not fit in the context of {lm.context_length} after their whole "
        f"question, which loses its beginning, the first: {over[0].source}"
    ]


def _shortest(encoder: Encoder, question: Question) -> int:
    """Tokens of the shortest true answer, its end left out."""
    return min(len(encoder.text(question.completion(answer))) for answer in question.answers)


def asked(data: Dataset) -> str:
    """Content hash of all that is held out: a resumed run must go on with the same questions and texts."""
    found = sha256()
    for row in chain(_reported(data), data.select_task, data.select_known, data.validation):
        found.update(repr(replace(row, source="")).encode(errors="surrogatepass"))
    return found.hexdigest()


def _reported(data: Dataset) -> list[Question | Example]:
    return [*data.task, *data.hallucination, *data.ability, *data.contexts, *data.texts, *data.task_texts]


def content(digest: str, data: Dataset, probes: Sequence[Probe]) -> str:
    """Content hash of a base measurement: the weights, every question and text, the decoding, and the code."""
    groups = {name: [str(row) for row in rows] for name, rows in data.fit_groups.items()}
    train = sha256()  # decides the kind `echo`
    for example in data.train:
        train.update(repr(example.completion).encode())
    parts = [digest, [str(row) for row in _reported(data)], groups, train.hexdigest(), [str(probe) for probe in probes]]
    return sha256(json.dumps([*parts, _code_digest()]).encode()).hexdigest()


def _code_digest() -> str:
    """Of what asks and judges: an upgrade never judges the tuned model by other rules than the base was."""
    package = Path(__file__).parents[1]
    files = [path for wing in ("probes", "scoring", "extensions") for path in (package / wing).glob("*.py")]
    files.append(package / "data" / "tokens.py")
    return sha256(b"".join(path.read_bytes() for path in sorted(files))).hexdigest()
