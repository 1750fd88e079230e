"""What every builder returns: a causal language model, its tokenizer and where they come from."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class LanguageModel:
    """`digest` is the content hash of weights and tokenizer: it keys everything cached about this model."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    digest: str
    origin: str

    @property
    def context_length(self) -> int:
        return int(getattr(self.model.config, "max_position_embeddings", 0) or 1 << 30)

    def copy(self) -> LanguageModel:
        return replace(self, model=copy.deepcopy(self.model))


class Frozen:
    """A reference model that is no nn.Module attribute: no state dict, optimizer or checkpoint ever holds it.

    Lightning does not move what is not a module, so it moves itself to the tokens' device at call time.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def logits(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Shape: (batch, positions, vocabulary)."""
        model: Any = self._model.to(input_ids.device)  # pyright: ignore[reportArgumentType]
        return model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits

    def trainable(self) -> Any:
        """A copy that takes gradients, in evaluation mode."""
        return copy.deepcopy(self._model).requires_grad_(True)

    def parameters(self) -> dict[str, Tensor]:
        return dict(self._model.named_parameters())


def set_special_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    """A missing pad token borrows the end token: labels are masked by position, never by id, so nothing is lost."""
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
