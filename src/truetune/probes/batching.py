"""Rows that a model reads together, and what it keeps of them: keys and values, so that nothing is read twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from truetune.models.logits import bare

SHARED = 16  # tokens that prompts must begin with in common for these to be read once
UNLIMITED = 1 << 30


@contextmanager
def evaluating(model: nn.Module) -> Generator[None]:
    """Evaluation mode without gradients; the former mode comes back."""
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(training)


def batches(
    rows: Sequence[Sequence[int]], most_rows: int, most_tokens: int, more: int = 0, *, beginnings: bool = True
) -> Iterator[list[int]]:
    """Indices of rows that share a batch: of similar length and, if asked for, with a long beginning in common.

    `more` tokens are added to each row.
    """
    times = Counter(tuple(row[:SHARED]) for row in rows if beginnings and len(row) > SHARED)

    def place(index: int) -> tuple[tuple[int, ...], int]:
        beginning = tuple(rows[index][:SHARED])
        return beginning if times[beginning] >= 8 else (), len(rows[index])

    batch: list[int] = []
    for index in sorted(range(len(rows)), key=place):
        tokens = (len(batch) + 1) * (len(rows[index]) + more)
        full = len(batch) >= max(1, most_rows) or tokens > most_tokens
        if batch and (full or place(batch[0])[0] != place(index)[0]):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def padded(rows: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Tokens and attention mask, padded on the left."""
    width = max(map(len, rows))
    ids = torch.tensor([[*[pad] * (width - len(row)), *row] for row in rows], dtype=torch.long, device=device)
    mask = torch.tensor([[*[0] * (width - len(row)), *[1] * len(row)] for row in rows], device=device)
    return ids, mask


def read(
    model: Any, input_ids: Tensor, attention_mask: Tensor, cache: Any = None, position_ids: Tensor | None = None
) -> Any:
    """One forward pass with a cache of keys and values, behind what `cache` holds: the output of transformers.

    Without a `cache`, logits of the last position are all that is promised.
    """
    parameters = signature(bare(model).forward).parameters
    if position_ids is None:
        position_ids = (attention_mask.cumsum(-1) - 1).clamp(min=0)
    options: dict[str, Any] = {"position_ids": position_ids} if "position_ids" in parameters else {}
    if cache is None and "logits_to_keep" in parameters:
        options["logits_to_keep"] = 1
    if cache is not None:  # transformers renames it within its fifth version
        options["cache" if "cache" in parameters else "past_key_values"] = cache
    return model(input_ids, attention_mask=attention_mask, use_cache=True, **options)


def cached(output: Any, times: int = 1) -> Any:
    """The cache that a pass has filled, each row repeated; None where the architecture keeps none that can be."""
    cache: Any = getattr(output, "cache", None) or getattr(output, "past_key_values", None)
    if not hasattr(cache, "batch_repeat_interleave"):
        return None
    cache.batch_repeat_interleave(times)
    return cache
