"""What clipping did, measured on the very gradients that Lightning's Trainer is about to clip."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from truetune.models.sharding import whole


@dataclass(frozen=True)
class GradientStatistics:
    """`clipped_elements` is the share of gradient elements beyond the value clip; 0 when not clipping by value."""

    norm: float
    clipped: bool
    clipped_elements: float


def gradient_statistics(
    parameters: Iterable[nn.Parameter], clip_val: float | None, algorithm: Any
) -> GradientStatistics:
    """Global L2 norm before clipping (Pascanu et al. 2013) and whether the clip changes anything."""
    gradients = [p.grad.detach() for p in parameters if p.grad is not None]
    norm = float(whole(torch.nn.utils.get_total_norm(gradients))) if gradients else 0.0
    if not clip_val:
        return GradientStatistics(norm, False, 0.0)
    if str(getattr(algorithm, "value", algorithm)) == "value":
        elements = sum(int(whole((gradient.abs() > clip_val).sum())) for gradient in gradients)
        share = elements / max(1, sum(gradient.numel() for gradient in gradients))
        return GradientStatistics(norm, share > 0, share)
    return GradientStatistics(norm, norm > clip_val, 0.0)


def update_ratio(parameters: Sequence[Tensor], before: Sequence[Tensor]) -> float:
    """||theta_after - theta_before|| / ||theta_before|| of one optimizer step; about 1e-3 is healthy for Adam."""
    step_norms = torch.stack([whole((now.detach() - old).norm()) for now, old in zip(parameters, before, strict=True)])
    return float(step_norms.norm() / torch.stack([whole(old.norm()) for old in before]).norm())
