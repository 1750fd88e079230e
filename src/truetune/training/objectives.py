"""Training objectives: each returns a sum and leaves the division to the one place that knows the whole window.

Shapes: B sequences, T positions, V vocabulary, N target tokens of the micro-batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from truetune.data.tokens import IGNORED
from truetune.data.values import Count, NotNegative
from truetune.models.language_model import Frozen
from truetune.models.logits import kl_nats, nll_nats


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
    """`weight` scales the term; the result is a sum over the micro-batch's target tokens, in nats."""

    weight: float

    def __call__(self, micro: Micro) -> Tensor: ...


@dataclass
class NextToken:
    """Maximum likelihood of the completion; an example's own weight scales its tokens.

    With `chunk`, the logits of so many target tokens are held at once, and made again for the gradient; given states
    and no chunk, those of all target tokens, and of no other.
    """

    weight: NotNegative = 1.0
    chunk: Count | None = None

    def __call__(self, micro: Micro) -> Tensor:
        if micro.head is not None:
            return self._at_targets(micro, micro.head)
        labels_BT = micro.labels_BT[:, 1:]
        nll_N = nll_nats(micro.logits_BTV[:, :-1].flatten(0, 1), labels_BT.flatten())
        return (nll_N.view_as(labels_BT) * micro.weights_BT[:, 1:]).sum()

    def _at_targets(self, micro: Micro, head: Callable[[Tensor], Tensor]) -> Tensor:
        chosen_BT = micro.is_target_BT
        states_ND, labels_N = micro.logits_BTV[:, :-1][chosen_BT], micro.labels_BT[:, 1:][chosen_BT]
        whole = (states_ND, labels_N, micro.weights_BT[:, 1:][chosen_BT])
        if self.chunk is None:
            return _nll(head, *whole)
        parts = (part.split(self.chunk) for part in whole)
        sums: list[Tensor] = [checkpoint(_nll, head, *part, use_reentrant=False) for part in zip(*parts, strict=True)]
        return torch.stack(sums).sum()


def _nll(head: Callable[[Tensor], Tensor], states_ND: Tensor, labels_N: Tensor, weights_N: Tensor) -> Tensor:
    return (F.cross_entropy(head(states_ND).float(), labels_N, reduction="none") * weights_N).sum()


def kl_to(reference: Frozen, micro: Micro, chosen_BT: Tensor) -> Tensor:
    """Sum of KL(reference || model) at the chosen ones of the T - 1 predictions."""
    base_BTV = reference.logits(micro.input_ids_BT, micro.attention_mask_BT, micro.position_ids_BT)
    return kl_nats(base_BTV[:, :-1][chosen_BT], micro.logits_BTV[:, :-1][chosen_BT]).sum()


@dataclass
class KlToBase:
    """KL(base || tuned): stay close to the base where it has an opinion (Li & Hoiem 2016, learning without forgetting).

    `positions` are the completion's (`target`) or every real position of the rows (`all`).
    """

    reference: Frozen
    weight: NotNegative
    positions: Literal["target", "all"] = "target"

    def __call__(self, micro: Micro) -> Tensor:
        return kl_to(self.reference, micro, micro.is_target_BT if self.positions == "target" else micro.is_real_BT)


def pull(micro: Micro, start: dict[str, Tensor], importance: dict[str, Tensor] | None = None) -> Tensor:
    """Half the sum of (theta - start)^2, each times its importance, once a step whatever its token count.

    What is not yet on the model's device is moved there for good.
    """
    terms: list[Tensor] = []
    for name, parameter in micro.model.named_parameters():
        if parameter.requires_grad and name in start:
            squares = (parameter - _moved(start, name, parameter.device)).pow(2)
            if importance is not None:
                squares = _moved(importance, name, parameter.device) * squares
            terms.append(squares.sum())
    # The window's division by its target tokens is undone: the penalty is per step, not per token.
    return torch.stack(terms).sum() / 2 * micro.target_tokens


def _moved(values: dict[str, Tensor], name: str, device: torch.device) -> Tensor:
    if values[name].device != device:
        values[name] = values[name].to(device)
    return values[name]


@dataclass
class L2Sp:
    """weight / 2 * ||theta - theta_base||^2 (Li et al. 2018, L2-SP), once a step whatever its token count."""

    reference: Frozen
    weight: NotNegative

    def __post_init__(self) -> None:
        self._start = self.reference.parameters()

    def __call__(self, micro: Micro) -> Tensor:
        return pull(micro, self._start)
