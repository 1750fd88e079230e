"""Sparse entity-aware tuning: about what does not exist the model keeps saying what the base says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from truetune.data.dataset import Dataset, Example
from truetune.data.values import Part
from truetune.errors import UserError
from truetune.methods.adaptation import Trained
from truetune.methods.curation import Context


@dataclass(frozen=True)
class Perturbed:
    """The curation: adds each row once more, with weight 0 and a thing that does not exist in place of its own.

    Nothing is learnt from it; an objective keeps the base's predictions on it (Shen et al. 2026, SEAT).
    """

    adds_rows: ClassVar[bool] = True

    def check(self, config: Mapping[str, Any], data: Dataset) -> list[str]:
        if not data.stand_ins:
            why = "the rows do not say which thing each is about"
            raise UserError(f"method=seat: {why}; it works with data=closed_world and data=geography")
        return []

    def __call__(self, rows: Sequence[Example], context: Context) -> list[Example]:
        twins = [
            _about(row, context.stand_ins[row.cluster])
            for row in rows
            if row.cluster in context.stand_ins and row.cluster in row.prompt
        ]
        if not twins:
            raise UserError("curation.perturbed: no row holds the name of what it is about; leave method=seat out")
        context.note(f"seat: {len(twins)} of {len(rows)} rows are asked about things that do not exist, too")
        return [*rows, *twins]


def _about(row: Example, name: str) -> Example:
    def renamed(text: str) -> str:
        return text.replace(row.cluster, name)

    turns = tuple(turn._replace(content=renamed(turn.content)) for turn in row.turns)
    words = {"prompt": renamed(row.prompt), "words": renamed(row.words), "completion": renamed(row.completion)}
    return replace(row, id=f"seat/{row.id}", turns=turns, answers=(), asks=(), weight=0.0, **words)


@dataclass
class Sparse:
    """The adaptation: of each tensor a fixed `share` of the weights, drawn at random, is trained.

    The part of SEAT's text that could be read does not say which weights it trains; these are any.
    """

    needs_whole_weights: ClassVar[bool] = True

    share: Part

    def check(self, config: Mapping[str, Any], data: Dataset) -> list[str]:
        if decay := config["optimizer"].get("weight_decay"):
            raise UserError(f"adaptation.sparse: optimizer.weight_decay={decay} moves every weight; type 0 for it")
        return []

    def prepare(self, model: Any) -> Any:
        self._handles = [
            parameter.register_hook(partial(_masked, torch.rand_like(parameter) < self.share))
            for parameter in model.parameters()
            if parameter.requires_grad
        ]
        return model

    def finish(self, trained: Trained) -> Any:
        for handle in self._handles:
            handle.remove()
        return trained.model


def _masked(mask: Tensor, gradient: Tensor) -> Tensor:
    return gradient * mask.to(gradient.device)
