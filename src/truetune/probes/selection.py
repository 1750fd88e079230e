"""The score by which checkpoints are chosen: from questions set aside, which no reported number comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from truetune.data.dataset import Dataset, Question
from truetune.probes.asking import Asking
from truetune.probes.probe import Probe, Subject
from truetune.scoring.balance import balance_score
from truetune.scoring.estimates import Estimate, rate
from truetune.scoring.rates import clusters, met


def selection(subject: Subject, data: Dataset, probes: Sequence[Probe], asking: Asking) -> dict[str, Estimate]:
    """`val/score` and its parts.

    The score is the balance of what is gained in the task form and kept in the school form; without questions of both
    kinds it is the share right alone; without any, nothing (the caller falls back on the validation loss).
    """
    if not data.select_task or not any(getattr(probe, "selects", False) for probe in probes):
        return {}

    subject = asking.measured(replace(subject, base=None))  # which is not asked

    def right(questions: Sequence[Question]) -> Estimate:
        items = asking.ask(subject, questions, data)
        return rate([met(item) for item in items], clusters(items))

    estimates = {"val/right": right(data.select_task)}
    score: float | None = estimates["val/right"].value
    if data.select_known:
        is_same = data.select_known == data.select_task
        estimates["val/known_right"] = estimates["val/right"] if is_same else right(data.select_known)
        score = balance_score(score, estimates["val/known_right"].value)
    return estimates | {"val/score": Estimate(score or 0.0, len(data.select_task))}


def can_select(config: Mapping[str, Any], data: Dataset) -> bool:
    """Whether there are questions to choose weights by, and a configured probe that has a say in it."""
    from hydra.utils import get_class

    probes = [get_class(node["_target_"]) for node in config["probe"].values()]
    return bool(data.select_task) and any(getattr(probe, "selects", False) for probe in probes)
