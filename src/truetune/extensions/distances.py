"""Objectives that hold on to the base by what it says, or by the weights that matter for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from truetune.data.tokens import Batch
from truetune.data.values import NotNegative
from truetune.models.language_model import Frozen
from truetune.training.objectives import Micro, kl_to, pull


@dataclass
class SelfReplay:
    """KL(base || tuned) on texts that the base has said itself, which curation.self_replay mixes in with weight 0."""

    reference: Frozen
    weight: NotNegative

    def __call__(self, micro: Micro) -> Tensor:
        said_BT = micro.is_target_BT & (micro.weights_BT[:, 1:] == 0)
        if not said_BT.any():
            return micro.logits_BTV.sum() * 0
        return kl_to(self.reference, micro, said_BT)


class SelfDistill:
    """KL(teacher || tuned) at the targets: the teacher knows the form of the task and no new fact, so what it says of
    known facts is worth keeping (after Kaplan et al. 2026).
    """

    def __init__(self, teacher: Callable[[int], Frozen], weight: float, epochs: int) -> None:
        self.weight, self._teacher = weight, teacher(epochs)

    def __call__(self, micro: Micro) -> Tensor:
        return kl_to(self._teacher, micro, micro.is_target_BT)


class Ewc:
    """weight / 2 * sum of F (theta - theta_base)^2, once a step (Kirkpatrick et al. 2017), F the diagonal of the base's
    Fisher information on `texts` old texts, scaled to a mean of 1 so that `weight` compares with that of l2_sp.
    """

    def __init__(
        self,
        reference: Frozen,
        old_texts: Callable[[int, int], Iterable[Batch]],
        weight: float,
        texts: int,
        max_tokens: int,
    ) -> None:
        self.weight, self.reference, self._start = weight, reference, reference.parameters()
        self.fisher = _to_mean_one(fisher(reference, old_texts(texts, max_tokens)))

    def __call__(self, micro: Micro) -> Tensor:
        return pull(micro, self._start, self.fisher)


def fisher(reference: Frozen, texts: Iterable[Batch], seed: int = 0) -> dict[str, Tensor]:
    """Per parameter the mean over texts of (d log p(y | x) / d theta)^2, with y drawn from the model and not the text:
    that is the Fisher information and not its empirical likeness (Kunstner et al. 2019).
    """
    model = reference.trainable()
    named = dict(model.named_parameters())
    found = {name: torch.zeros_like(p) for name, p in named.items()}
    count = 0
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for batch in texts:
            input_ids = batch["input_ids"].to(model.device)
            log_p_TV = model(input_ids=input_ids, use_cache=False).logits[0, :-1].float().log_softmax(-1)
            drawn_T1 = log_p_TV.detach().exp().multinomial(1)
            grads = torch.autograd.grad(log_p_TV.gather(-1, drawn_T1).sum(), list(named.values()))
            for name, grad in zip(named, grads, strict=True):
                found[name] += grad.pow(2)
            count += 1
    return {name: total / max(count, 1) for name, total in found.items()}


def _to_mean_one(found: dict[str, Tensor]) -> dict[str, Tensor]:
    mean = sum(float(value.sum()) for value in found.values()) / sum(value.numel() for value in found.values())
    return {name: value / mean for name, value in found.items()} if mean > 0 else found
