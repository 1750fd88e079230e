"""Where a fine-tune has changed a model: how much of each layer, and in how many directions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

_LAYER = re.compile(r"\.(\d+)\.")
LARGEST = 1024  # shorter side of a matrix up to which its directions are counted: more take minutes


def layer_of(name: str) -> str:
    """The number of the layer that a parameter is in; outside of the layers `before` (embeddings) or `behind`."""
    match = _LAYER.search(name)
    return match[1] if match else "before" if "embed" in name or "wte" in name or "wpe" in name else "behind"


@torch.no_grad()
def change_by_layer(start: Mapping[str, Tensor], model: Any) -> dict[str, dict[str, float]]:
    """Two numbers for each layer. `relative_norm` is the norm of the change over that of the weights. `effective_rank`,
    a mean over the layer's matrices, is the exponential of the entropy of a change's singular values (Roy & Vetterli
    2007).
    """
    sums: dict[str, list[float]] = {}  # of each layer: squares of the change, squares of the weights
    ranks: dict[str, list[float]] = {}
    for name, parameter in model.named_parameters():
        if name not in start or start[name].shape != parameter.shape:  # quantised weights are packed, in another shape
            continue
        before = start[name].to(parameter).float()
        change, layer = parameter.float() - before, layer_of(name)
        layer_sums = sums.setdefault(layer, [0.0, 0.0])
        layer_sums[0] += float(change.square().sum())
        layer_sums[1] += float(before.square().sum())
        if change.ndim == 2 and min(change.shape) <= LARGEST and bool(change.any()):
            ranks.setdefault(layer, []).append(effective_rank(change))
    return {
        layer: {
            "relative_norm": (change_sum / weight_sum) ** 0.5 if weight_sum else 0.0,
            **({"effective_rank": sum(ranks[layer]) / len(ranks[layer])} if layer in ranks else {}),
        }
        for layer, (change_sum, weight_sum) in sums.items()
    }


def effective_rank(matrix: Tensor) -> float:
    """From 1 (one direction) to the shorter side of the matrix (all directions equally strong)."""
    narrow = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    values = torch.linalg.eigvalsh(narrow.T.double() @ narrow.double()).clamp(min=0).sqrt()
    shares = values / values.sum()
    return float(torch.special.entr(shares).sum().exp())
