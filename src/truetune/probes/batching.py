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

SHARED = 16  # tokens at least that prompts must begin with in common for these to be read only once
UNLIMITED = 1 << 30
WINDOWS = ("sliding_window", "window_size", "attention_window_size", "attention_chunk_size")
Together = Literal["padded", "of equal length", "alone"]  # which rows may share a batch

_together: dict[str, Together] = {}  # by architecture and its settings: copies of a model are not tried again


@contextmanager
def evaluating(model: nn.Module) -> Generator[None]:
    """Evaluation mode without gradients; the former mode is restored."""
    training, in_pieces = model.training, is_sharded(model)
    model.eval()
    try:
        # Weights that are gathered in inference mode could not be trained afterwards.
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
    counts = Counter(tuple(row[:SHARED]) for row in rows if beginnings and together == "padded" and len(row) > SHARED)

    def place(index: int) -> tuple[tuple[int, ...], int]:
        beginning = tuple(rows[index][:SHARED])
        return beginning if counts[beginning] >= 8 else (), len(rows[index])

    def differ(one: int, other: int) -> bool:
        return place(one) != place(other) if together != "padded" else place(one)[0] != place(other)[0]

    batch: list[int] = []
    for index in sorted(range(len(rows)), key=place):
        tokens = (len(batch) + 1) * (len(rows[index]) + more)
        is_full = len(batch) >= max(1, most_rows) or tokens > most_tokens or together == "alone"
        if batch and (is_full or differ(batch[0], index)):
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
    """The output of one forward pass that keeps keys and values, behind the tokens that `cache` holds.

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
    """The cache that a pass has filled, each row repeated; None if the architecture keeps none that can be repeated.

    A state (Mamba, linear attention, convolutions) cannot: nor can a pass of several tokens go on from it.
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
    """The smallest number of tokens that a layer looks back; padding that stands between tokens counts."""
    config = bare(model).config.get_text_config(decoder=True)
    values = (getattr(config, name, None) for name in WINDOWS)
    return min((value for value in values if isinstance(value, int) and value > 0), default=UNLIMITED)


def together(model: Any) -> Together:
    """Which rows may share a batch so that each has the logits that it has alone; tried once per architecture.

    Some that keep a state do not mask padding; transformers' RWKV mixes the rows of a batch in later steps.
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
    """Logits of three steps behind the rows, which all go on with the same token; shape (rows, 3, vocabulary)."""
    inner = bare(model)
    ids, mask = padded(rows, 0, next(model.parameters()).device)
    model_config, inner.generation_config = inner.generation_config, GenerationConfig()
    settings = GenerationConfig(max_new_tokens=3, use_cache=True, output_logits=True, return_dict_in_generate=True)
    settings.pad_token_id = 0
    try:
        output = inner.generate(
            input_ids=ids, attention_mask=mask, generation_config=settings, logits_processor=[_take_the_same]
        )
    finally:
        inner.generation_config = model_config
    return torch.stack(output.logits, dim=1)


def _take_the_same(input_ids: Tensor, logits: Tensor) -> Tensor:
    token = torch.tensor(4 % logits.shape[1], device=logits.device)
    return torch.zeros_like(logits).index_fill(1, token, 1.0)


def _alike(logits: Tensor, alone: Tensor, weights: torch.dtype) -> bool:
    """Whether logits agree within the precision of the weights; NaN counts as alike."""
    difference = float((logits - alone).float().pow(2).mean().sqrt()) / max(float(alone.float().std()), 1e-9)
    return not difference > (1e-3 if weights == torch.float32 else 0.1)
