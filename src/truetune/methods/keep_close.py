"""Objectives that keep the tuned model close to the base: to its predictions, or to its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from truetune.data.values import NotNegative
from truetune.methods.reference import Reference
from truetune.models.frozen import Frozen
from truetune.models.logits import kl_nats
from truetune.training.objectives import Micro


@dataclass
class KlToBase:
    """KL(base || tuned): stay close to the base where it has an opinion (Li & Hoiem 2016, learning without forgetting).

    `positions` are the completion's (`target`) or every real position of the rows (`all`).
    """

    weight: NotNegative
    positions: Literal["target", "all"] = "target"

    def bind(self, reference: Reference) -> None:
        self._base = reference.frozen.stay()

    def __call__(self, micro: Micro) -> Tensor:
        return kl_to(self._base, micro, micro.is_target_BT if self.positions == "target" else micro.is_real_BT)


@dataclass
class KlOnWeightless:
    """KL(base || tuned) at the targets of the rows of weight 0, from which nothing is learnt."""

    weight: NotNegative

    def bind(self, reference: Reference) -> None:
        self._base = reference.frozen.stay()

    def __call__(self, micro: Micro) -> Tensor:
        weightless_BT = micro.is_target_BT & (micro.weights_BT[:, 1:] == 0)
        if not weightless_BT.any():
            return micro.logits_BTV.sum() * 0
        return kl_to(self._base, micro, weightless_BT)


@dataclass
class L2Sp:
    """weight / 2 * ||theta - theta_base||^2 (Li et al. 2018, L2-SP), once a step whatever its token count."""

    needs_logits: ClassVar[bool] = False
    needs_whole_weights: ClassVar[bool] = True

    weight: NotNegative

    def bind(self, reference: Reference) -> None:
        self._start = reference.frozen.stay().parameters()

    def __call__(self, micro: Micro) -> Tensor:
        return pull(micro, self._start)


def kl_to(reference: Frozen, micro: Micro, is_chosen_BT: Tensor, temperature: float = 1.0) -> Tensor:
    """Sum of KL(reference || model), both at the temperature, over the chosen ones of the T - 1 predictions."""
    base_BTV = reference.logits(micro.input_ids_BT, micro.attention_mask_BT, micro.position_ids_BT)
    pair = (base_BTV[:, :-1][is_chosen_BT], micro.logits_BTV[:, :-1][is_chosen_BT])
    return kl_nats(*(logits_NV / temperature for logits_NV in pair)).sum()


def pull(micro: Micro, start: dict[str, Tensor], importance: dict[str, Tensor] | None = None) -> Tensor:
    """Half the sum of (theta - start)^2, each times its importance, once a step whatever its token count.

    Tensors of `start` and `importance` are moved to the model's device, and stay there.
    """
    terms: list[Tensor] = []
    for name, parameter in micro.model.named_parameters():
        if not parameter.requires_grad or name not in start:
            continue
        for values in (start, importance or {}):
            if name in values and values[name].device != parameter.device:
                values[name] = values[name].to(parameter.device)
        squares = (parameter - start[name]).pow(2)
        terms.append((squares if importance is None else importance[name] * squares).sum())
    # This undoes the window's division by its target tokens: the penalty is per step, not per token.
    return torch.stack(terms).sum() / 2 * micro.target_tokens
