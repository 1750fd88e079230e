"""Replay without old data: texts that the base says unasked are mixed in, and its predictions on them are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from truetune.data.dataset import Example
from truetune.data.values import Count, NotNegative, Part
from truetune.methods.curation import Context
from truetune.methods.keep_close import kl_to
from truetune.methods.reference import Reference
from truetune.training.objectives import Micro


@dataclass(frozen=True)
class DrawnTexts:
    """The curation: `ratio` texts to each row, with weight 0, so that next_token learns nothing from them."""

    adds_rows: ClassVar[bool] = True

    ratio: Part
    max_tokens: Count

    def __call__(self, rows: Sequence[Example], context: Context) -> list[Example]:
        texts = context.drawn(round(self.ratio * len(rows)), self.max_tokens)
        return [
            *rows,
            *(Example(f"self_replay/{index}", "", text, "the base", weight=0.0) for index, text in enumerate(texts)),
        ]


@dataclass
class KlOnDrawnTexts:
    """The objective: KL(base || tuned) at the targets of weight 0."""

    weight: NotNegative

    def bind(self, reference: Reference) -> None:
        self._base = reference.frozen.stay()

    def __call__(self, micro: Micro) -> Tensor:
        drawn_BT = micro.is_target_BT & (micro.weights_BT[:, 1:] == 0)
        if not drawn_BT.any():
            return micro.logits_BTV.sum() * 0
        return kl_to(self._base, micro, drawn_BT)
