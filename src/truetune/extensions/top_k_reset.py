"""The weights that training has changed most go back to the base's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from truetune.data.values import Part
from truetune.methods.adaptation import Trained


@dataclass(frozen=True)
class TopKReset:
    """In each tensor the `share` of the weights with the largest change is undone (Sun et al. 2025, ignore-top-k)."""

    conflicts: ClassVar[tuple[str, ...]] = ("lora",)

    share: Part

    def prepare(self, model: Any) -> Any:
        return model

    @torch.no_grad()
    def finish(self, trained: Trained) -> Any:
        for name, parameter in trained.model.named_parameters():
            start = trained.start[name].to(parameter)
            change = (parameter - start).abs().flatten()
            count = round(self.share * change.numel())
            largest = change.topk(count).indices
            parameter.flatten()[largest] = start.flatten()[largest]
        return trained.model
