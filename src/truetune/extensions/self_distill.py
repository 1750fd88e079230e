"""Learning from a teacher that the base itself has become."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from truetune.data.dataset import Dataset
from truetune.data.values import Count, NotNegative
from truetune.errors import UserError
from truetune.methods.keep_close import kl_to
from truetune.methods.reference import Reference
from truetune.training.objectives import Micro


@dataclass
class SelfDistill:
    """KL(teacher || tuned) at the targets: the teacher knows the form of the task and no new fact, so what it says of
    known facts is worth keeping (after Kaplan et al. 2026).
    """

    weight: NotNegative
    epochs: Count

    def check(self, config: Mapping[str, Any], data: Dataset) -> list[str]:
        if not config["knowledge"]["label"]:
            raise UserError("knowledge.label=false: method=self_distill teaches from what the base knows; leave it out")
        return []

    def bind(self, reference: Reference) -> None:
        self._teacher = reference.teacher(self.epochs)

    def __call__(self, micro: Micro) -> Tensor:
        return kl_to(self._teacher, micro, micro.is_target_BT)
