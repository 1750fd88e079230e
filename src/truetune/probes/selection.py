"""The score by which checkpoints are chosen: from questions set aside, which no reported number comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from truetune.data.dataset import Dataset
from truetune.probes.asking import Asking
from truetune.probes.probe import Probe, Subject
from truetune.scoring.selection_score import Selected


def selection(subject: Subject, data: Dataset, probes: Sequence[Probe], asking: Asking) -> Selected | None:
    """What is gained in the task form and kept in the school form; None without questions (the caller falls back on the
    validation loss).
    """
    if not data.select_task or not any(getattr(probe, "selects", False) for probe in probes):
        return None
    subject = asking.measured(replace(subject, base=None))  # the base is not asked
    task = asking.ask(subject, data.select_task, data)
    is_same = data.select_known == data.select_task
    return Selected.of(task, task if is_same else asking.ask(subject, data.select_known, data))


def can_select(config: Mapping[str, Any], data: Dataset) -> bool:
    """Whether there are questions to choose weights by, and a configured probe that asks such questions."""
    from hydra.utils import get_class

    probes = [get_class(node["_target_"]) for node in config["probe"].values()]
    return bool(data.select_task) and any(getattr(probe, "selects", False) for probe in probes)
