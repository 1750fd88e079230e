"""Learning from a teacher that the base itself has become."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from truetune.data.values import Count, NotNegative
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

    def bind(self, reference: Reference) -> None:
        self._teacher = reference.teacher(self.epochs)

    def __call__(self, micro: Micro) -> Tensor:
        return kl_to(self._teacher, micro, micro.is_target_BT)
