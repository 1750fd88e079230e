"""Dynamic fine-tuning: the likelier a token already is, the more of it is learnt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from truetune.models.logits import nll_nats
from truetune.training.objectives import NextToken


@dataclass
class Dft(NextToken):
    """-sg(p) ln p of each target token (Wu et al. 2025): its gradient is that of -p."""

    conflicts: ClassVar[tuple[str, ...]] = ("eaft", "stm")

    def losses(self, logits_NV: Tensor, labels_N: Tensor) -> Tensor:
        nll_N = nll_nats(logits_NV, labels_N)
        return (-nll_N.detach()).exp() * nll_N
