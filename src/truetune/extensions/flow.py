"""Weights of rows by how easy the base finds them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from truetune.data.dataset import Example
from truetune.errors import UserError
from truetune.methods.curation import Context


@dataclass(frozen=True)
class Flow:
    """Weights each row by exp(-loss / median loss), nats per target token of the base (Sanyal et al. 2025, FLOW)."""

    def __call__(self, rows: Sequence[Example], context: Context) -> list[Example]:
        losses = context.losses(rows)
        middle = median(losses)
        if middle == 0:
            raise UserError("curation.flow: the base predicts most rows without any loss; leave it out")
        return [
            replace(row, weight=row.weight * math.exp(-loss / middle)) for row, loss in zip(rows, losses, strict=True)
        ]
