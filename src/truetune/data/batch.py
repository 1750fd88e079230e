"""Rows of tokens laid out in tensors, one example a row or several."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypedDict

import torch
from torch import Tensor
from typing_extensions import NotRequired

from truetune.data.tokens import IGNORED, TokenRow


class Batch(TypedDict):
    """Tensors of shape (batch, positions), padded on the right; `weights` are those of each position's example.

    `position_ids`, which only packed rows have, start again with each example.
    """

    ids: list[str]
    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    weights: Tensor
    position_ids: NotRequired[Tensor]


def collate(rows: Iterable[TokenRow], pad: int) -> Batch:
    """A right-padded batch of one example a row."""
    batch = collate_packed([[row] for row in rows], pad)
    return {key: value for key, value in batch.items() if key != "position_ids"}  # pyright: ignore[reportReturnType]


def collate_packed(packs: Iterable[Sequence[TokenRow]], pad: int) -> Batch:
    """A right-padded batch of one pack a row: its examples one after the other, each with positions of its own."""
    packs = list(packs)

    def padded(values: Callable[[TokenRow], Iterable[float]], fill: float) -> Tensor:
        lines = [[value for row in pack for value in values(row)] for pack in packs]
        width = max(map(len, lines))
        return torch.tensor([line + [fill] * (width - len(line)) for line in lines])

    return {
        "ids": [row.id for pack in packs for row in pack],
        "input_ids": padded(lambda row: row.input_ids, pad),
        "attention_mask": padded(lambda row: [1] * len(row.input_ids), 0),
        "labels": padded(lambda row: row.labels, IGNORED),
        "weights": padded(lambda row: [float(row.weight)] * len(row.input_ids), 0.0),
        "position_ids": padded(lambda row: range(len(row.input_ids)), 0),
    }


def to_device(batch: Batch, device: torch.device) -> Batch:
    return {key: value.to(device) if isinstance(value, torch.Tensor) else value for key, value in batch.items()}  # pyright: ignore[reportReturnType]
