"""A plain text as a data source."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from truetune.data.dataset import Dataset, Example
from truetune.data.rows.read import read_text
from truetune.data.values import Seed
from truetune.data.values import Text as FileName
from truetune.errors import UserError

SEGMENT = 2000  # at least so many characters, in whole paragraphs


@dataclass(frozen=True)
class Text:
    """Whole paragraphs joined to segments; a share of the segments, drawn by seed, is held out."""

    seed: Seed
    train_file: FileName
    held_out_share: Annotated[float, Field(gt=0, lt=1, strict=True)]

    def load(self) -> Dataset:
        stem, texts, text = Path(self.train_file).stem, list[str](), ""
        for paragraph in read_text(self.train_file).split("\n\n"):
            text += paragraph + "\n\n"
            if len(text) >= SEGMENT:
                texts.append(text)
                text = ""
        texts += [text] if text.strip() else []
        segments = [Example(f"{stem}/{number}", "", text, stem) for number, text in enumerate(texts)]
        order = random.Random(f"split-{self.seed}").sample(range(len(segments)), len(segments))
        held_indices = set(order[: max(1, round(len(segments) * self.held_out_share))])
        train = [segment for index, segment in enumerate(segments) if index not in held_indices]
        if not train:
            if len(segments) > 1:
                share = f"data.held_out_share={self.held_out_share:g}"
                raise UserError(f"{share}: all {len(segments)} segments are held out")
            raise UserError(f"{self.train_file}: 1 segment of text is too little to train on and hold out from")
        held_out = [segments[index] for index in sorted(held_indices)]
        return Dataset(
            train=train,
            validation=held_out[: len(held_out) // 2],
            task_texts=held_out[len(held_out) // 2 :],
            notes=[f"{self.train_file}: plain text, {len(train)} segments to train on, {len(held_out)} held out"],
        )
