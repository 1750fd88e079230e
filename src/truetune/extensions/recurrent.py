"""Recurrent language models (LSTM, GRU, Elman) with the interface of a Hugging Face causal language model.

`AutoModelForCausalLM` knows them once this module is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import AutoConfig, AutoModelForCausalLM, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.utils.generic import ModelOutput

from truetune.data.values import BelowOne
from truetune.models.tiny import Embedded

CELLS: Mapping[str, Callable[..., nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


class RecurrentConfig(PretrainedConfig):
    """`max_position_embeddings` bounds what is trained on; the model itself has no positions."""

    model_type = "truetune_recurrent"

    def __init__(
        self,
        vocab_size: int = 32,
        hidden_size: int = 16,
        num_hidden_layers: int = 1,
        cell: str = "lstm",
        dropout: float = 0.0,
        max_position_embeddings: int = 128,
        initializer_range: float = 0.02,
        **others: Any,
    ) -> None:
        self.vocab_size, self.hidden_size, self.num_hidden_layers = vocab_size, hidden_size, num_hidden_layers
        self.cell, self.dropout, self.initializer_range = cell, dropout, initializer_range
        self.max_position_embeddings = max_position_embeddings
        others.setdefault("tie_word_embeddings", True)
        super().__init__(**others)


@dataclass
class RecurrentOutput(ModelOutput):
    """`state` is the hidden state after each row's last real token: shape (layers, batch, hidden), two for an LSTM."""

    logits: Any = None
    state: Any = None


class RecurrentForCausalLM(PreTrainedModel, GenerationMixin):
    config_class = RecurrentConfig
    base_model_prefix = "rnn"
    _tied_weights_keys = {"head.weight": "embeddings.weight"}  # noqa: RUF012
    _is_stateful = True

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__(config)
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        dropout = config.dropout if config.num_hidden_layers > 1 else 0.0
        self.rnn = CELLS[config.cell](
            config.hidden_size, config.hidden_size, config.num_hidden_layers, batch_first=True, dropout=dropout
        )
        self.norm = nn.LayerNorm(config.hidden_size)
        self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embeddings

    def get_output_embeddings(self) -> nn.Linear:
        return self.head

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        state: Any = None,
        use_cache: bool | None = None,
        **_: Any,
    ) -> RecurrentOutput:
        """Rows may be padded on either side; logits at padding mean nothing."""
        vectors = self.embeddings(input_ids)
        if state is not None or attention_mask is None or bool(attention_mask.all()):
            hidden, state = self.rnn(vectors, state)
        else:
            hidden, state = self._masked(vectors, attention_mask)
        return RecurrentOutput(logits=self.head(self.norm(hidden)), state=state if use_cache else None)

    def _masked(self, vectors: Tensor, attention_mask: Tensor) -> tuple[Tensor, Any]:
        """Each row's real tokens are moved to its front and back again, so that padding never touches the state."""
        width = vectors.shape[1]
        start = attention_mask.long().argmax(1, keepdim=True)
        place = torch.arange(width, device=vectors.device)
        front, back = (place + start) % width, (place - start) % width
        aligned = vectors.gather(1, front.unsqueeze(-1).expand_as(vectors))
        lengths = attention_mask.sum(1).cpu()
        packed, state = self.rnn(pack_padded_sequence(aligned, lengths, batch_first=True, enforce_sorted=False))
        hidden, _ = pad_packed_sequence(packed, batch_first=True, total_length=width)
        return hidden.gather(1, back.unsqueeze(-1).expand_as(hidden)), state

    def prepare_inputs_for_generation(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, input_ids: Tensor, attention_mask: Tensor | None = None, state: Any = None, **_: Any
    ) -> dict[str, Any]:
        if state is not None:
            return {"input_ids": input_ids[:, -1:], "state": state, "use_cache": True}
        return {"input_ids": input_ids, "attention_mask": attention_mask, "use_cache": True}

    def _update_model_kwargs_for_generation(
        self, outputs: Any, model_kwargs: dict[str, Any], *args: Any, **others: Any
    ) -> dict[str, Any]:
        updated = super()._update_model_kwargs_for_generation(outputs, model_kwargs, *args, **others)
        return {**updated, "state": outputs.state}


AutoConfig.register(RecurrentConfig.model_type, RecurrentConfig, exist_ok=True)
AutoModelForCausalLM.register(RecurrentConfig, RecurrentForCausalLM, exist_ok=True)


@dataclass(frozen=True)
class TinyRecurrent(Embedded):
    """An LSTM, a GRU or Elman's network."""

    cell: Literal["lstm", "gru", "rnn"]
    dropout: BelowOne

    def model(self, common: dict[str, Any]) -> PreTrainedModel:
        return RecurrentForCausalLM(RecurrentConfig(**common, cell=self.cell, dropout=self.dropout))
