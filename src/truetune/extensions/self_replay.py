"""Replay without old data: texts that the base says unasked are mixed in, and its predictions on them are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from truetune.data.dataset import Example
from truetune.data.values import Count, Part
from truetune.methods.curation import Context


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
