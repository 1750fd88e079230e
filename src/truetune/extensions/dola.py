"""Decoding by the contrast of layers: what the last layer has learnt over an early one (Chuang et al. 2024)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from truetune.data.dataset import Dataset
from truetune.data.values import Share
from truetune.errors import UserError
from truetune.models.logits import bare


@dataclass(frozen=True)
class Dola:
    """log p_last - log p_early of the early layer whose prediction is farthest from the last one's, among tokens with
    p_last >= `plausible` * its greatest. The early layers are those of the lower or the upper half; in a model of
    one layer, its input.
    """

    layers: Literal["low", "high"] = "low"
    plausible: Share = 0.1

    def check(self, config: Mapping[str, Any], data: Dataset) -> list[str]:
        if "cell" in config["model"]:
            cell = config["model"]["cell"]
            raise UserError(f"method=dola contrasts a Transformer's layers; model.cell={cell} shows none")
        return []

    @contextmanager
    def processor(self, model: Any) -> Generator[Callable[[Tensor, Tensor], Tensor]]:
        """A logits processor for `generate`, whose forward passes must return hidden states."""
        hidden: list[tuple[Tensor, ...]] = []
        inner = bare(model)
        hook = inner.register_forward_hook(lambda _m, _i, output: hidden.append(output.hidden_states))

        def process(_: Tensor, scores_BV: Tensor) -> Tensor:
            states = hidden.pop()
            hidden.clear()
            last = len(states) - 1
            first = min(1, last - 1)
            low, high = range(first, min(max(2, last // 2 + 1), last)), range(max(first, last // 2), last)
            head, early = inner.get_output_embeddings(), low if self.layers == "low" else high
            early_LBV = torch.stack([head(states[layer][:, -1]).float().log_softmax(-1) for layer in early])
            return contrast(scores_BV, early_LBV, self.plausible)

        try:
            yield process
        finally:
            hook.remove()


def contrast(last_BV: Tensor, early_LBV: Tensor, plausible: float) -> Tensor:
    """Scores of the next token; -inf where it is not plausible."""
    last_BV = last_BV.float().log_softmax(-1)
    farthest_B = torch.stack([jensen_shannon(last_BV, early_BV) for early_BV in early_LBV]).argmax(0)
    early_BV = early_LBV[farthest_B, torch.arange(len(last_BV), device=last_BV.device)]
    floor_B1 = last_BV.max(-1, keepdim=True).values + torch.tensor(plausible).log()
    return (last_BV - early_BV).masked_fill(last_BV < floor_B1, -torch.inf)


def jensen_shannon(p_log_BV: Tensor, q_log_BV: Tensor) -> Tensor:
    """The Jensen-Shannon divergence in nats, from 0 to ln 2; symmetric."""
    middle_BV = torch.logaddexp(p_log_BV, q_log_BV) - torch.tensor(2.0).log()
    one = (p_log_BV.exp() * (p_log_BV - middle_BV)).sum(-1)
    other = (q_log_BV.exp() * (q_log_BV - middle_BV)).sum(-1)
    return (one + other) / 2
