"""Training objectives: each returns a sum and leaves the division to the one place that knows the whole window.

Shapes: B sequences, T positions, V vocabulary, N target tokens of the micro-batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from truetune.data.tokens import IGNORED
from truetune.data.values import Count, NotNegative
from truetune.models.logits import nll_nats


@dataclass(frozen=True)
class Micro:
    """One forward pass: `logits_BTV` are unshifted; position t of `labels_BT` is predicted by the logits at t - 1.

    `position_ids_BT` start again with each example of a packed row; None where a row is one example.
    """

    model: nn.Module
    logits_BTV: Tensor
    labels_BT: Tensor
    input_ids_BT: Tensor
    attention_mask_BT: Tensor
    weights_BT: Tensor
    position_ids_BT: Tensor | None = None
    head: Callable[[Tensor], Tensor] | None = None  # turns `logits_BTV`, which are hidden states then, into logits

    @property
    def is_target_BT(self) -> Tensor:
        """Which of the T - 1 predictions count."""
        return self.labels_BT[:, 1:] != IGNORED

    @property
    def is_real_BT(self) -> Tensor:
        """Which of the T - 1 predictions are of a token that follows in the same example."""
        real_BT = self.attention_mask_BT[:, 1:].bool()
        return real_BT if self.position_ids_BT is None else real_BT & (self.position_ids_BT[:, 1:] > 0)

    @property
    def target_tokens(self) -> Tensor:
        return self.is_target_BT.sum()


class Objective(Protocol):
    """`weight` scales the term; the result is a sum over the micro-batch's target tokens, in nats.

    Two more attributes are optional. `needs_logits = False` says that the logits of all positions are not needed, so
    that they may be made at the target positions only. `bind(reference)` is called once before training, with what
    `truetune.methods.reference.Reference` offers: the base, a teacher made from it, old texts.
    """

    weight: float

    def __call__(self, micro: Micro) -> Tensor: ...


@dataclass
class NextToken:
    """Maximum likelihood of the completion; an example's own weight scales its tokens.

    With `chunk`, the logits of that many target tokens are held at once, and computed again for the gradient. With
    hidden states and no chunk, those of all target tokens are, and of no others. Objectives of the same form override
    `losses`.
    """

    needs_logits: ClassVar[bool] = False

    weight: NotNegative = 1.0
    chunk: Count | None = None

    def __call__(self, micro: Micro) -> Tensor:
        predictions, labels_BT, weights_BT = micro.logits_BTV[:, :-1], micro.labels_BT[:, 1:], micro.weights_BT[:, 1:]
        if (head := micro.head) is None:
            losses_N = self.losses(predictions.flatten(0, 1), labels_BT.flatten())
            return (losses_N.view_as(labels_BT) * weights_BT).sum()

        def weighted_sum(states_ND: Tensor, labels_N: Tensor, weights_N: Tensor) -> Tensor:
            return (self.losses(head(states_ND), labels_N) * weights_N).sum()

        targets = [values[micro.is_target_BT] for values in (predictions, labels_BT, weights_BT)]
        if self.chunk is None:
            return weighted_sum(*targets)
        chunks = zip(*(values.split(self.chunk) for values in targets), strict=True)
        sums: list[Tensor] = [checkpoint(weighted_sum, *chunk, use_reentrant=False) for chunk in chunks]
        return torch.stack(sums).sum()

    def losses(self, logits_NV: Tensor, labels_N: Tensor) -> Tensor:
        """The loss of each position; 0 where it is no target."""
        return nll_nats(logits_NV, labels_N)
