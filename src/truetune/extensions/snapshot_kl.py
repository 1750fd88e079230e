"""Learning without leaving what the model said after its first epoch."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from truetune.data.values import Count, NotNegative, Positive
from truetune.methods.keep_close import kl_to
from truetune.methods.reference import Reference
from truetune.training.objectives import Micro


@dataclass
class SnapshotKl:
    """KL(snapshot || tuned) at the targets, both at the `temperature` (Kaplan et al. 2026, self-distillation).

    The snapshot is the base after `epochs` of the same rows at the same learning rate, trained before the run itself.
    """

    weight: NotNegative
    epochs: Count
    temperature: Positive

    def bind(self, reference: Reference) -> None:
        self._snapshot = reference.teacher(self.epochs, "all")

    def __call__(self, micro: Micro) -> Tensor:
        return kl_to(self._snapshot, micro, micro.is_target_BT, self.temperature)
