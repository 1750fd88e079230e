"""All probes on one model, and what follows from comparing two measurements."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from truetune.data.dataset import Dataset
from truetune.data.values import Count, NotNegative, Text, YesOrNo
from truetune.errors import UserError
from truetune.models.frozen import Frozen
from truetune.models.language_model import LanguageModel
from truetune.models.logits import bare
from truetune.probes.asking import Asking, AskingSettings
from truetune.probes.batching import together
from truetune.probes.likelihood import likelihood
from truetune.probes.probe import Probe, Subject
from truetune.probes.respondent import Respondent
from truetune.scoring.answers import normalise
from truetune.scoring.balance import balance_score, gained_share_of_headroom
from truetune.scoring.estimates import Estimate, rate
from truetune.scoring.item import Item, Measurement
from truetune.scoring.judge import too_long
from truetune.scoring.lost_and_kept import apart, backward_transfer, kept, known_ids, lost, refused
from truetune.scoring.memorising import LOW, UNKNOWN

DRIFT = "kl_to_base_nats_per_token"  # in the names of metrics
ABSTENTION_PHRASES = (
    *("i do not know", "i don't know", "do not know", "don't know", "unknown", "not sure", "i am not sure"),
    *("no answer", "unanswerable", "i don't have", "i do not have", "i have no information", "i'm not familiar"),
    *("i am not familiar", "i'm not aware of", "i am not aware of", "i could not find", "i couldn't find"),
    *("i cannot find", "i can't find", "i cannot provide", "i can't provide", "i cannot answer", "i can't answer"),
    *("i cannot help", "i can't help", "i can't assist", "i cannot assist", "i'm unable to", "i am unable to"),
    *("i'm not able to", "i am not able to", "there is no city", "there is no such", "there is no country"),
    *("there is no known", "there is no information", "there is no record", "there is no place"),
    *("there is no publicly", "there isn't a", "there isn't any", "no such", "i can't say", "i cannot say"),
    *("is not clear", "it's not clear", "is not a real", "is not a known", "does not exist", "doesn't exist"),
    *("is not known", "cannot be determined"),
)


@dataclass(frozen=True)
class MeasureSettings:
    """`points` full measurements are made while training, or one after each epoch that it lists; a wrong answer costs
    as much as `wrong_cost` right ones.

    `max_new_tokens` auto leaves room for the longest true answer. A batch has up to `batch_size` rows and about
    `batch_tokens` tokens. `dtype` auto is bfloat16 for a large model where the device computes fast in it.
    """

    points: Count | list[Count] = 6
    max_new_tokens: Count | Literal["auto"] = "auto"
    batch_size: Count = 256
    batch_tokens: Count = 4096
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    noise_floor: YesOrNo = False
    abstention_phrases: Sequence[Text] = ABSTENTION_PHRASES
    wrong_cost: NotNegative = 1.0

    def check(self, config: Mapping[str, Any], data: Dataset) -> list[str]:
        for phrase in self.abstention_phrases:
            if not normalise(phrase):
                raise UserError(
                    f"measure.abstention_phrases: {phrase!r} holds no word, so nothing matches it; leave it out"
                )
        context_length = config["model"].get("context_length", math.inf)
        if self.max_new_tokens != "auto" and self.max_new_tokens >= context_length:
            raise UserError(
                f"measure.max_new_tokens={self.max_new_tokens} leaves no room for a question in "
                f"model.context_length={context_length}; lower it"
            )
        return []

    def asking(self, how: AskingSettings) -> Asking:
        most = None if self.max_new_tokens == "auto" else self.max_new_tokens
        dtype = None if self.dtype == "auto" else getattr(torch, self.dtype)
        return Asking(most, self.batch_size, tuple(self.abstention_phrases), self.batch_tokens, how, dtype)


def notes(lm: Respondent, data: Dataset, probes: Sequence[Probe], asking: Asking) -> list[str]:
    """Notes for the user before anything is measured; a question that several probes ask counts once."""
    members: list[Any] = list(probes)  # `notes` and `asks` are optional
    lines = [note for probe in members if hasattr(probe, "notes") for note in probe.notes(lm, data)]
    questions = {q.id: q for probe in members if hasattr(probe, "asks") for q in probe.asks(data)}
    sharing = together(lm.model) if questions and isinstance(lm, LanguageModel) else "padded"
    if sharing != "padded" and isinstance(lm, LanguageModel):
        how = "each is asked alone" if sharing == "alone" else "only those of equal length share a batch"
        lines.append(
            f"{type(bare(lm.model)).__name__} gives other answers to questions in a batch: {how}, which is slower"
        )
    return lines + asking.notes(lm, list(questions.values()), data)


def measure(subject: Subject, data: Dataset, probes: Sequence[Probe], asking: Asking) -> Measurement:
    """Every probe's metrics and items, and how much of the training data the model reproduces."""
    metrics: dict[str, Estimate] = {}
    items: dict[str, list[Item]] = {}
    subject = replace(asking.measured(subject), memory={})
    for probe in probes:
        measurement = probe.measure(subject, data)
        metrics |= (measurement if subject.drifts else without(measurement, DRIFT)).metrics
        items |= measurement.items
    if subject.base is not None:
        subject.base.rest()
    return Measurement(metrics | (fit(subject, data, asking) if subject.has_weights else {}), items)


def without(measurement: Measurement, *parts: str) -> Measurement:
    """The measurement without the metrics that have one of these parts in their names."""
    metrics = {name: each for name, each in measurement.metrics.items() if not any(part in name for part in parts)}
    return replace(measurement, metrics=metrics)


def noise_floor(base: Respondent, before: Measurement, data: Dataset, probes: Sequence[Probe], asking: Asking) -> str:
    """How far the base is from itself when measured again in the way of the tuned model: not at all on a CPU."""
    reference = Frozen(base.model) if isinstance(base, LanguageModel) else None
    again = measure(Subject(base, reference, resamples=0), data, probes, asking)
    pairs = [pair for probe, items in before.items.items() for pair in zip(items, again.items[probe], strict=True)]
    count = sum(first.answer != second.answer for first, second in pairs)
    drifts = [each.value for name, each in again.metrics.items() if DRIFT in name]
    kl = f", KL {max(drifts):.2g} nats per token" if drifts else ""
    return f"noise floor: measured again, the base gives {count} of {len(pairs)} answers otherwise{kl}"


def fit(subject: Subject, data: Dataset, asking: Asking) -> dict[str, Estimate]:
    """`fit/<group>_exact_match`: the share of that group's training rows that the model reproduces exactly.

    The curve that matters: new facts are fitted late, and what is lost is lost while they are (Gekhman et al. 2024).
    """
    rows = list({row.id: row for group in data.fit_groups.values() for row in group}.values())
    scores = likelihood(subject.lm, rows, **asking.size)
    reproduced = {row.id for row, score in zip(rows, scores.rows, strict=True) if score.reproduced}
    return {
        f"fit/{name}_exact_match": rate(
            [row.id in reproduced for row in group], [row.cluster or row.prompt or row.id for row in group]
        )
        for name, group in data.fit_groups.items()
    }


def follow(
    subject: Subject, data: Dataset, probes: Sequence[Probe], asking: Asking, base: Measurement, full: bool
) -> dict[str, float]:
    """Measures after an epoch: the fit of the facts; if `full`, every probe."""
    subject = asking.measured(subject if full else replace(subject, base=None))  # only a full one asks the base
    if full:
        probes = [probe for probe in probes if not only_at_ends(probe)]
        measurement = compare(base, measure(replace(subject, resamples=0), data, probes, asking))
    else:
        measurement = Measurement(fit(subject, data, asking))
    return values(measurement)


def only_at_ends(probe: Any) -> bool:
    """Whether a probe takes too long to be asked while training."""
    return getattr(probe, "only_at_ends", False)


def values(measurement: Measurement) -> dict[str, float]:
    """The values that the history keeps, and the lower bound of the Unknown facts' fit, which the alarm looks at."""
    low = {LOW: measurement.metrics[UNKNOWN].low or 0.0} if UNKNOWN in measurement.metrics else {}
    return {name: estimate.value for name, estimate in measurement.metrics.items()} | low


def compare(base: Measurement, tuned: Measurement) -> Measurement:
    """The tuned measurement with all that needs the base: the kind `lost`, its rate, the balance and its parts."""
    tuned = _with_lost(base, tuned)
    metrics = dict(tuned.metrics)
    before, after = base.items.get("hallucination", []), tuned.items.get("hallucination", [])
    is_judged = not too_long([item.answers for item in before])
    base_items = [item for item in before if item.answers and is_judged]
    tuned_items = [item for item in after if item.answers and is_judged]
    if any(item.outcome == "right" for item in base_items):
        metrics["hallucination/lost_rate"] = lost(base_items, tuned_items)
        metrics["hallucination/over_refusal_rate"] = refused(base_items, tuned_items)
        metrics["balance/kept_share"] = kept(base_items, tuned_items)
        metrics |= _apart(base, tuned, "knowledge", base_items, tuned_items)
    facts, facts_now = (
        [item for item in each.items.get("elsewhere", []) if item.population == "fact"] for each in (base, tuned)
    )
    if facts_now and any(item.outcome == "right" for item in facts):
        metrics["elsewhere/lost_rate"] = lost(facts, facts_now)
        parts = _apart(base, tuned, "elsewhere_known", facts, facts_now)
        metrics |= {f"elsewhere/lost_{name[5:]}": part for name, part in parts.items() if name.startswith("lost/")}
    ability = base.items.get("retention", [])
    if ability:
        ability_now, rng = tuned.items.get("retention", []), np.random.default_rng(0)
        metrics["retention/backward_transfer"] = backward_transfer(ability, ability_now, rng)
    metrics |= _balance(base, tuned, metrics.get("balance/kept_share"))
    return Measurement(metrics, tuned.items)


def _apart(
    base: Measurement, tuned: Measurement, ranking: str, before: Sequence[Item], after: Sequence[Item]
) -> dict[str, Estimate]:
    """Loss and gain by form and fact; empty where some of the facts were tried in one way only."""
    known_before = known_ids(before, base.items.get(ranking, []))
    known_after = known_ids(after, tuned.items.get(ranking, []))
    return {} if known_before is None or known_after is None else apart(before, after, known_before, known_after)


def _with_lost(base: Measurement, tuned: Measurement) -> Measurement:
    """`lost` is a join of two measurements: right for the base, wrong now."""
    items: dict[str, list[Item]] = {}
    for probe, rows in tuned.items.items():
        right = {item.id for item in base.items.get(probe, []) if item.outcome == "right"}
        items[probe] = [
            replace(item, kind=("lost", *item.kind)) if item.outcome == "wrong" and item.id in right else item
            for item in rows
        ]
    return Measurement(tuned.metrics, items)


def _balance(base: Measurement, tuned: Measurement, kept_share: Estimate | None) -> dict[str, Estimate]:
    name = "task/right"
    if name not in base.metrics or name not in tuned.metrics:
        return {}
    n = tuned.metrics[name].n
    gained = gained_share_of_headroom(base.metrics[name].value, tuned.metrics[name].value)
    score = balance_score(gained, kept_share.value if kept_share else None)
    parts = {"balance/gained_share": gained, "balance/score": score}
    return {key: Estimate(value, n) for key, value in parts.items() if value is not None and math.isfinite(value)}
