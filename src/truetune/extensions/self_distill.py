"""Learning from a teacher that the base itself has become."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from truetune.data.dataset import Dataset
from truetune.data.values import Count, NotNegative, Positive
from truetune.errors import UserError
from truetune.methods.keep_close import kl_to
from truetune.methods.reference import Reference
from truetune.training.objectives import Micro


@dataclass
class SelfDistill:
    """KL(teacher || tuned) at the targets, both at the `temperature`; the teacher is the base after `epochs` of `rows`.

    Of `known` ones it has learnt the form of the task and no new fact, so what it says of known facts is worth keeping.
    Of `all` it is the snapshot of Kaplan et al. (2026), one epoch old, whose predictions training must not leave.
    """

    weight: NotNegative
    epochs: Count
    rows: Literal["known", "all"] = "known"
    temperature: Positive = 1.0

    def check(self, config: Mapping[str, Any], data: Dataset) -> list[str]:
        if self.rows == "known" and not config["knowledge"]["label"]:
            raise UserError("knowledge.label=false: method=self_distill teaches from what the base knows; leave it out")
        return []

    def bind(self, reference: Reference) -> None:
        self._teacher = reference.teacher(self.epochs, self.rows)

    def __call__(self, micro: Micro) -> Tensor:
        return kl_to(self._teacher, micro, micro.is_target_BT, self.temperature)
