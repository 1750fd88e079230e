"""Selective token masking: tokens that surprise the base too much are not learnt."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from truetune.data.tokens import IGNORED
from truetune.data.values import Positive
from truetune.methods.reference import Reference
from truetune.models.logits import nll_nats
from truetune.training.objectives import Micro, NextToken


@dataclass
class SelectiveTokens(NextToken):
    """Maximum likelihood of the target tokens whose perplexity under the base is at most `most` (Wu et al. 2025)."""

    conflicts: ClassVar[tuple[str, ...]] = ("dft", "eaft")

    most: Positive = 2.5

    def bind(self, reference: Reference) -> None:
        self._base = reference.frozen.stay()

    def __call__(self, micro: Micro) -> Tensor:
        base_BTV = self._base.logits(micro.input_ids_BT, micro.attention_mask_BT, micro.position_ids_BT)
        labels_BT = micro.labels_BT
        nll_BT = nll_nats(base_BTV[:, :-1].flatten(0, 1), labels_BT[:, 1:].flatten()).view_as(labels_BT[:, 1:])
        surprising_BT = labels_BT != IGNORED
        surprising_BT[:, 1:] &= nll_BT > math.log(self.most)
        return super().__call__(replace(micro, weights_BT=micro.weights_BT * ~surprising_BT))
