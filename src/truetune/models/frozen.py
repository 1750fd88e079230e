"""The base beside the model that is trained: it is neither trained nor stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from truetune.models.language_model import in_dtype, trainable_copy
from truetune.models.logits import AtPositions, forward

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Frozen:
    """A reference that is not trained. It is no nn.Module, so no state dict, optimizer or checkpoint holds it.

    Lightning moves modules only, so it moves itself to the tokens' device at call time. Between measurements it waits
    on the CPU, unless training asks it as well (`stay`).
    """

    def __init__(self, model: PreTrainedModel) -> None:
        """Freezes the model itself, not a copy of it."""
        self._model = model.eval().requires_grad_(False)
        self._stays = False

    @torch.no_grad()
    def logits(self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor | None = None) -> Tensor:
        """Logits, shape (batch, positions, vocabulary). Position ids mean that rows are packed (see `forward`)."""
        model: Any = self._model.to(input_ids.device)  # pyright: ignore[reportArgumentType]
        if position_ids is not None:
            return forward(model, input_ids, position_ids)
        return model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits

    def at_positions(self, device: torch.device) -> AtPositions:
        return AtPositions(self._model.to(device))  # pyright: ignore[reportArgumentType]

    def in_dtype(self, dtype: torch.dtype | None) -> Frozen:
        """This reference, or a copy of it in another number type (see `language_model.in_dtype`)."""
        model = in_dtype(self._model, dtype)
        return self if model is self._model else Frozen(model)

    def trainable(self) -> Any:
        """A copy that takes gradients, in evaluation mode."""
        return trainable_copy(self._model)

    def stay(self) -> Frozen:
        """Leaves the model on the device where it was asked last, for training that asks it at each step."""
        self._stays = True
        return self

    def rest(self) -> None:
        model: Any = self._model
        if not self._stays:
            model.to("cpu")

    def parameters(self) -> dict[str, Tensor]:
        return dict(self._model.named_parameters())
