"""Elastic weight consolidation: each weight is held to the base's by how much the base's predictions depend on it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from truetune.data.batch import Batch
from truetune.data.values import Count, NotNegative
from truetune.methods.keep_close import pull
from truetune.methods.reference import Reference
from truetune.models.frozen import Frozen
from truetune.training.objectives import Micro


@dataclass
class Ewc:
    """weight / 2 * sum of F (theta - theta_base)^2, once a step (Kirkpatrick et al. 2017), F the diagonal of the base's
    Fisher information on `texts` old texts, scaled to a mean of 1 so that `weight` compares with that of l2_sp.
    """

    needs_whole_weights: ClassVar[bool] = True

    weight: NotNegative
    texts: Count
    max_tokens: Count

    def bind(self, reference: Reference) -> None:
        base = reference.frozen.stay()
        self._start = base.parameters()
        self.fisher = fisher(base, reference.old_texts(self.texts, self.max_tokens))
        size = sum(values.numel() for values in self.fisher.values())
        mean = sum(float(values.sum()) for values in self.fisher.values()) / size
        if mean > 0:
            self.fisher = {name: values / mean for name, values in self.fisher.items()}

    def __call__(self, micro: Micro) -> Tensor:
        return pull(micro, self._start, self.fisher)


def fisher(base: Frozen, texts: Iterable[Batch], seed: int = 0) -> dict[str, Tensor]:
    """The mean over texts of (d log p(y | x) / d theta)^2 for each weight, y drawn from the model and not the text:
    that is the Fisher information and not its empirical likeness (Kunstner et al. 2019).
    """
    model = base.trainable()
    parameters = dict(model.named_parameters())
    squares = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    count = 0
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for batch in texts:
            input_ids = batch["input_ids"].to(model.device)
            log_p_TV = model(input_ids=input_ids, use_cache=False).logits[0, :-1].float().log_softmax(-1)
            y_T1 = log_p_TV.detach().exp().multinomial(1)
            gradients = torch.autograd.grad(log_p_TV.gather(-1, y_T1).sum(), list(parameters.values()))
            for name, gradient in zip(parameters, gradients, strict=True):
                squares[name] += gradient.pow(2)
            count += 1
    return {name: total / max(count, 1) for name, total in squares.items()}
