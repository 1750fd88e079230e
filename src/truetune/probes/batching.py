"""Rows that a model reads together, and what it keeps of them: keys and values, so that nothing is read twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from inspect import signature
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import GenerationConfig

from truetune.models.logits import bare
from truetune.models.sharding import is_sharded, put_away

SHARED = 16  # tokens that prompts must begin with in common for these to be read once
UNLIMITED = 1 << 30
WINDOWS = ("sliding_window", "window_size", "attention_window_size", "attention_chunk_size")
Together = Literal["padded", "of equal length", "alone"]  # which rows may share a batch

_together: dict[str, Together] = {}  # by architecture and its settings: copies of a model are not tried again


@contextmanager
def evaluating(model: nn.Module) -> Generator[None]:
    """Evaluation mode without gradients; the former mode comes back."""
    training, in_pieces = model.training, is_sharded(model)
    model.eval()
    try:
        with torch.no_grad() if in_pieces else torch.inference_mode():
            yield
    finally:
        model.train(training)
        if in_pieces:
            put_away(model)


def batches(
    rows: Sequence[Sequence[int]],
    most_rows: int,
    most_tokens: int,
    more: int = 0,
    *,
    beginnings: bool = True,
    together: Together = "padded",
) -> Iterator[list[int]]:
    """Indices of rows that share a batch: of similar length and, if asked for, with a long beginning in common.

    `more` tokens are added to each row.
    """
    times = Counter(tuple(row[:SHARED]) for row in rows if beginnings and together == "padded" and len(row) > SHARED)

    def place(index: int) -> tuple[tuple[int, ...], int]:
        beginning = tuple(rows[index][:SHARED])
        return beginning if times[beginning] >= 8 else (), len(rows[index])

    def apart(one: int, other: int) -> bool:
        return place(one) != place(other) if together != "padded" else place(one)[0] != place(other)[0]

    batch: list[int] = []
    for index in sorted(range(len(rows)), key=place):
        tokens = (len(batch) + 1) * (len(rows[index]) + more)
        full = len(batch) >= max(1, most_rows) or tokens > most_tokens or together == "alone"
        if batch and (full or apart(batch[0], index)):
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
    return bare(model)(input_ids, attention_mask=attention_mask, use_cache=True, **options)


def cached(output: Any, times: int = 1) -> Any:
    """The cache that a pass has filled, each row repeated; None where the architecture keeps none that can be.

    A state (Mamba, linear attention, convolutions) is none: it can neither be repeated nor read on from by many tokens.
    """
    cache: Any = getattr(output, "cache", None) or getattr(output, "past_key_values", None)
    if not hasattr(cache, "batch_repeat_interleave"):
        return None
    if any(hasattr(layer, "update_conv_state") for layer in getattr(cache, "layers", ())):
        return None
    if times > 1:
        cache.batch_repeat_interleave(times)
    return cache


def window(model: Any) -> int:
    """The fewest tokens back that a layer looks; it counts padding that stands between tokens."""
    config = bare(model).config.get_text_config(decoder=True)
    values = (getattr(config, name, None) for name in WINDOWS)
    return min((value for value in values if isinstance(value, int) and value > 0), default=UNLIMITED)


def together(model: Any) -> Together:
    """Which rows may share a batch so that each has the logits that it has alone: tried once per model.

    Some that keep a state do not mask padding, and RWKV of transformers mixes the rows of a batch as it goes on.
    """
    kind = f"{type(bare(model)).__name__} {bare(model).config.to_json_string()}"
    if kind in _together:
        return _together[kind]
    rows = [[3, 4, 5, 6, 7], [7, 5, 3], [6, 3, 5, 4, 7]]
    size = int(bare(model).get_input_embeddings().num_embeddings)
    rows = [[token % size for token in row] for row in rows]
    weights = next(model.parameters()).dtype  # the logits of `generate` are float32, whatever they come from
    with evaluating(model):
        alone = [_steps(model, [row]) for row in rows]
        is_padded = _alike(_steps(model, rows[:2]), torch.cat(alone[:2]), weights)
        is_equal = is_padded or _alike(_steps(model, rows[::2]), torch.cat(alone[::2]), weights)
    _together[kind] = "padded" if is_padded else "of equal length" if is_equal else "alone"
    return _together[kind]


def _steps(model: Any, rows: Sequence[Sequence[int]]) -> Tensor:
    """Logits of three steps behind the rows, which all go on with the same tokens; shape (rows, 3, vocabulary)."""
    inner = bare(model)
    ids, mask = padded(rows, 0, next(model.parameters()).device)
    of_model, inner.generation_config = inner.generation_config, GenerationConfig()
    how = GenerationConfig(max_new_tokens=3, use_cache=True, output_logits=True, return_dict_in_generate=True)
    how.pad_token_id = 0
    try:
        output = inner.generate(
            input_ids=ids, attention_mask=mask, generation_config=how, logits_processor=[_take_the_same]
        )
    finally:
        inner.generation_config = of_model
    return torch.stack(output.logits, dim=1)


def _take_the_same(input_ids: Tensor, logits: Tensor) -> Tensor:
    token = torch.tensor(4 % logits.shape[1], device=logits.device)
    return torch.zeros_like(logits).index_fill(1, token, 1.0)


def _alike(logits: Tensor, alone: Tensor, weights: torch.dtype) -> bool:
    """As far as the precision lets one tell; of weights that make no finite number nothing can be told."""
    far = float((logits - alone).float().pow(2).mean().sqrt()) / max(float(alone.float().std()), 1e-9)
    return not far > (1e-3 if weights == torch.float32 else 0.1)
