"""The change of each layer is scaled by its depth."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from truetune.data.values import NotNegative
from truetune.methods.adaptation import Trained

_LAYER = re.compile(r"\.(\d+)\.")


@dataclass(frozen=True)
class Lines:
    """theta = base + (alpha + beta * layer / last layer) * change (Wang et al. 2024, LiNeS); alpha alone outside of
    the layers.
    """

    conflicts: ClassVar[tuple[str, ...]] = ("lora",)

    alpha: NotNegative
    beta: NotNegative

    def prepare(self, model: Any) -> Any:
        return model

    @torch.no_grad()
    def finish(self, trained: Trained) -> Any:
        depths = {name: int(match[1]) for name in trained.start if (match := _LAYER.search(name))}
        last = max(depths.values(), default=0) or 1
        for name, parameter in trained.model.named_parameters():
            scale = self.alpha + self.beta * depths.get(name, 0) / last
            parameter.copy_(torch.lerp(trained.start[name].to(parameter), parameter, scale))
        return trained.model
