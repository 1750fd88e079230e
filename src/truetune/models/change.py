"""Where a fine-tune has changed a model: how much of each layer, and in how many directions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

_LAYER = re.compile(r"\.(\d+)\.")
LARGEST = 1024  # rows or columns of a matrix whose directions are counted: of a larger one it takes minutes


def layer_of(name: str) -> str:
    """The number of the layer that a parameter is in; `before` and `behind` stand for all outside of the layers."""
    match = _LAYER.search(name)
    return match[1] if match else "before" if "embed" in name or "wte" in name or "wpe" in name else "behind"


@torch.no_grad()
def change_by_layer(start: Mapping[str, Tensor], model: Any) -> dict[str, dict[str, float]]:
    """Of each layer `relative_norm`, that of the change over that of the weights, and `effective_rank`, mean over its
    matrices: the exponential of the entropy of a change's singular values (Roy & Vetterli 2007).
    """
    sums: dict[str, list[float]] = {}
    ranks: dict[str, list[float]] = {}
    for name, parameter in model.named_parameters():
        if name not in start or start[name].shape != parameter.shape:  # quantised ones are packed
            continue
        before = start[name].to(parameter).float()
        change, layer = parameter.float() - before, layer_of(name)
        of_layer = sums.setdefault(layer, [0.0, 0.0])
        of_layer[0] += float(change.square().sum())
        of_layer[1] += float(before.square().sum())
        if change.ndim == 2 and min(change.shape) <= LARGEST and bool(change.any()):
            ranks.setdefault(layer, []).append(effective_rank(change))
    return {
        layer: {
            "relative_norm": (changed / weights) ** 0.5 if weights else 0.0,
            **({"effective_rank": sum(ranks[layer]) / len(ranks[layer])} if layer in ranks else {}),
        }
        for layer, (changed, weights) in sums.items()
    }


def effective_rank(matrix: Tensor) -> float:
    """From 1, one direction, to the smaller side of the matrix, all alike."""
    narrow = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    values = torch.linalg.eigvalsh(narrow.T.double() @ narrow.double()).clamp(min=0).sqrt()
    shares = values / values.sum()
    return float(torch.special.entr(shares).sum().exp())
