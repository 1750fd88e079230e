"""What every builder returns: a causal language model, its tokenizer and where they come from."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import torch

from truetune.data.chat_template import set_template
from truetune.errors import Say
from truetune.models.logits import bare
from truetune.models.sharding import is_sharded

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


LARGE = 50_000_000  # parameters; measuring a model from this size on is bound by matrix products


@dataclass(frozen=True)
class LanguageModel:
    """`digest` is the content hash of weights and tokenizer: it keys everything cached about this model."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    digest: str
    origin: str

    @property
    def context_length(self) -> int:
        config = self.model.config.get_text_config(decoder=True)  # the text part of a model that takes images too
        return int(getattr(config, "max_position_embeddings", 0) or 1 << 30)

    @property
    def ends(self) -> list[int]:
        """The tokens that end an answer: the tokenizer's, and the model's own (chat models end a turn with another)."""
        settings: Any = getattr(bare(self.model), "generation_config", None)
        ids: Any = getattr(settings, "eos_token_id", None)
        more: list[int] = [] if ids is None else torch.as_tensor(ids).flatten().tolist()
        return sorted({int(self.tokenizer.eos_token_id), *more})  # pyright: ignore[reportArgumentType]

    @property
    def has_chat_form(self) -> bool:
        return bool(self.tokenizer.chat_template)

    def tokens(self, text: str) -> int:
        """The number of tokens that the text takes as a part of an answer."""
        return len(self.tokenizer(text, add_special_tokens=False).input_ids)

    def copy(self) -> LanguageModel:
        """A copy that can be trained, whether or not this model is frozen."""
        return replace(self, model=trainable_copy(self.model).train())

    @property
    def is_read(self) -> bool:
        """Whether the weights are loaded; else they are only shapes, to be read later, in pieces."""
        return not next(self.model.parameters()).is_meta

    def cpu(self) -> LanguageModel:
        return self.to(torch.device("cpu"))

    def to(self, device: torch.device) -> LanguageModel:
        """Moves the model itself."""
        model: Any = self.model
        if self.is_read:
            model.to(device)
        return self


def with_template(lm: LanguageModel, template: str | None, say: Say) -> LanguageModel:
    """The model with the template that its conversations are written in; reports which one that is."""
    name, content = set_template(lm.tokenizer, template, lm.origin)
    say(f"chat template: {name}")
    return replace(lm, digest=sha256(f"{lm.digest} {content}".encode()).hexdigest())


def fastest(accelerator: str = "auto") -> torch.device:
    """The device of a model that no Trainer places: a GPU if there is one, unless `accelerator` is `cpu`."""
    return torch.device("cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu")


def fast_dtype(accelerator: str = "auto") -> torch.dtype:
    """bfloat16 where matrix products are computed in it, else float32."""
    if fastest(accelerator).type == "cuda":
        is_fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        features: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        is_fast = features.get("avx512_bf16") or features.get("amx_bf16")
    return torch.bfloat16 if is_fast else torch.float32


def in_dtype(model: Any, dtype: torch.dtype | None) -> Any:
    """The model itself, or a copy if its weights are of another type; quantised weights and those in pieces stay as
    they are.

    `dtype` None means the fast type for a float32 model of at least LARGE parameters, else the weights' own type.
    """
    weights = next(model.parameters())
    if dtype is None:
        size = sum(parameter.numel() for parameter in model.parameters())
        dtype = fast_dtype() if size >= LARGE and weights.dtype == torch.float32 else weights.dtype
    if weights.dtype == dtype or getattr(model, "is_quantized", False) or is_sharded(model):
        return model
    twin = copy.deepcopy(model).to(dtype)
    buffers = dict(model.named_buffers())
    for name, buffer in twin.named_buffers():
        if name.endswith("inv_freq"):  # in 16 bits, angles of rotary positions are off by up to a radian
            buffer.data = buffers[name].clone()
    return twin


def trainable_copy(model: Any) -> Any:
    """A copy that takes gradients, except for quantised weights, which are whole numbers."""
    twin = copy.deepcopy(model)
    for parameter in twin.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    return twin


def set_special_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    """The end token stands in for a missing pad token: labels are masked by position, not by id, so nothing is lost."""
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
