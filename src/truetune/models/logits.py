"""Logits: how they are made, whole or where they are needed, and what is computed from them.

Shapes: B sequences, T positions, N target tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from truetune.data.tokens import IGNORED
from truetune.errors import UserError
from truetune.models.sharding import IN_BODY

CHUNK = 1024  # positions whose logits are held at once where no gradient is needed


def nll_nats(logits_NV: Tensor, labels_N: Tensor) -> Tensor:
    """-ln p(label) of each row; 0 where nothing is a target."""
    return F.cross_entropy(logits_NV.float(), labels_N, ignore_index=IGNORED, reduction="none")


def kl_nats(p_logits_NV: Tensor, q_logits_NV: Tensor) -> Tensor:
    """KL(p || q) of each row, entropy term included, so that KL(p, p) is 0."""
    return kl_of_logs(p_logits_NV.float().log_softmax(-1), q_logits_NV.float().log_softmax(-1))


def kl_of_logs(p_log_NV: Tensor, q_log_NV: Tensor) -> Tensor:
    """KL(p || q) of each row, given log-probabilities."""
    return (p_log_NV.exp() * (p_log_NV - q_log_NV)).sum(-1)


def forward(model: Any, input_ids: Tensor, position_ids: Tensor | None = None) -> Tensor:
    """Unshifted logits, shape (batch, positions, vocabulary).

    No attention mask is passed: rows are padded on the right, where a causal model's real positions never look. And
    only without a mask and a cache does transformers 5 keep the examples of a packed row apart by their positions.
    """
    options = {} if position_ids is None else {"position_ids": position_ids}
    return bare(model)(input_ids=input_ids, use_cache=False, **options).logits


def states(body: Any, input_ids: Tensor, position_ids: Tensor | None = None) -> Tensor:
    """Hidden states that the head turns into logits, shape (batch, positions, hidden); otherwise as `forward`."""
    options = {} if position_ids is None else {"position_ids": position_ids}
    return body(input_ids=input_ids, use_cache=False, **options).last_hidden_state


def body(model: Any) -> Any:
    """The model without its head; of a model in pieces, a method that gathers the weights for the pass."""
    inner = bare(model)
    return getattr(inner, IN_BODY, inner.base_model)


def head(model: Any) -> Any:
    return bare(model).get_output_embeddings()


def bare(model: Any) -> Any:
    """The model without the wrapper of an adapter; the adapter's layers stay in it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@torch.no_grad()
def parts_into_head(model: Any) -> bool:
    """Whether logits are simply the head of the hidden states: some models scale them or cap them."""
    training, vocabulary = model.training, model.get_input_embeddings().num_embeddings
    ids = torch.arange(3, 9, device=next(model.parameters()).device).remainder(vocabulary).unsqueeze(0)
    try:
        model.eval()
        return torch.allclose(forward(model, ids), head(model)(states(body(model), ids)), rtol=1e-3, atol=1e-4)
    except (AttributeError, TypeError):
        return False
    finally:
        model.train(training)


class AtPositions:
    """Logits at chosen positions of rows padded on the right, a few at a time: all may be larger than the model."""

    def __init__(self, model: Any) -> None:
        self._model, self._has_plain_head = model, parts_into_head(model)

    @torch.no_grad()
    def __call__(self, input_ids: Tensor, is_chosen_BT: Tensor, size: int) -> Iterator[Tensor]:
        """Yields logits of shape (up to `size` positions, vocabulary)."""
        values = states(body(self._model), input_ids) if self._has_plain_head else forward(self._model, input_ids)
        for part in values[is_chosen_BT].split(size):
            yield head(self._model)(part) if self._has_plain_head else part


@torch.no_grad()
def check_packing(model: Any) -> None:
    """Raises UserError if examples in one row see each other in this model; tries two, of 7 and 5 tokens."""
    training, device = model.training, next(model.parameters()).device
    ids = torch.arange(3, 3 + 12, device=device).remainder(model.get_input_embeddings().num_embeddings).unsqueeze(0)
    positions = torch.cat([torch.arange(7), torch.arange(5)]).to(device).unsqueeze(0)
    try:
        model.eval()
        packed_logits = forward(model, ids, positions)
        changed_logits = forward(model, torch.cat([ids[:, :7].flip(1), ids[:, 7:]], dim=1), positions)
        separate_logits = torch.cat([forward(model, ids[:, :7]), forward(model, ids[:, 7:])], dim=1)
    except TypeError as error:
        raise UserError(f"loader.packing=true: {type(model).__name__} takes no position ids ({error})") from None
    finally:
        model.train(training)
    leak = float((packed_logits - changed_logits)[:, 7:].abs().max())
    gap = float((packed_logits - separate_logits).abs().max() / separate_logits.abs().max())
    if leak > 0 or gap > (1e-3 if packed_logits.dtype == torch.float32 else 5e-2):
        raise UserError(
            f"loader.packing=true: {type(model).__name__} lets packed examples see each other (a change in one moves "
            f"the next one's logits by {leak:.2g}, and packing by {gap:.2g} of their size); leave loader.packing out"
        )
