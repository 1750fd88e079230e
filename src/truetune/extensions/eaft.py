"""Entropy-adaptive fine-tuning: little is learnt where the model is sure of something else."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from truetune.data.values import Count
from truetune.models.logits import nll_nats
from truetune.training.objectives import NextToken


@dataclass
class Eaft(NextToken):
    """-sg(H / ln K) ln p of each target token, H the entropy of the `candidates` K likeliest tokens, as if there were
    no others (Diao et al. 2026, with K 20).
    """

    conflicts: ClassVar[tuple[str, ...]] = ("dft", "stm")

    candidates: Count = 20

    def losses(self, logits_NV: Tensor, labels_N: Tensor) -> Tensor:
        size = min(self.candidates, logits_NV.shape[-1])
        log_p_NK = logits_NV.detach().float().topk(size).values.log_softmax(-1)
        entropy_N = -(log_p_NK.exp() * log_p_NK).sum(-1)
        return entropy_N / math.log(max(size, 2)) * nll_nats(logits_NV, labels_N)
