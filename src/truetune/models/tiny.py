"""Small language models made from a config: the embedded bases, pre-trained on what the data source offers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from truetune.data.dataset import Dataset
from truetune.data.values import Count, CountOrZero, NotNegative, Positive, Rate, Seed
from truetune.errors import UserError
from truetune.models.tokenizers import byte_bpe, word_level

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from truetune.models.language_model import LanguageModel


@dataclass(frozen=True)
class PretrainingSettings:
    """How the base is trained by maximum likelihood; the peak rate is about 20 times the fine-tuning rate."""

    steps: Count
    lr: Rate
    warmup_steps: CountOrZero
    weight_decay: NotNegative
    gradient_clip_val: Positive


@dataclass(frozen=True)
class Embedded:
    """What the architectures of the embedded bases share."""

    seed: Seed
    hidden_size: Count
    layers: Count
    context_length: Annotated[int, Field(ge=8, strict=True)]
    vocabulary_size: Annotated[int, Field(ge=300, strict=True)]
    pretraining: PretrainingSettings

    def check(self, config: Mapping[str, Any], data: Dataset) -> list[str]:
        """Refuses a pre-training that ends before its warm-up; a subclass may refuse a width, too."""
        steps, warmup_steps = self.pretraining.steps, self.pretraining.warmup_steps
        if warmup_steps > steps:
            raise UserError(
                f"model.pretraining.warmup_steps={warmup_steps} is above model.pretraining.steps={steps}; lower it"
            )
        return []

    def content(self, corpus: str) -> str:
        """Content hash of the base that this architecture, seed and corpus make."""
        parts = [type(self).__name__, asdict(self), corpus]
        return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def tokenizer(self, *, words: Sequence[str] = (), texts: Iterable[str] = ()) -> PreTrainedTokenizerBase:
        return word_level(words) if words else byte_bpe(texts, self.vocabulary_size)

    def build(self, tokenizer: PreTrainedTokenizerBase, digest: str, origin: str) -> LanguageModel:
        """A model with random weights from the seed, in train mode."""
        import torch

        from truetune.models.language_model import LanguageModel

        ids = tokenizer.get_vocab()
        common = {
            "vocab_size": len(ids),
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.layers,
            "max_position_embeddings": self.context_length,
            "tie_word_embeddings": True,
            "bos_token_id": ids["<bos>"],
            "eos_token_id": ids["<eos>"],
            "pad_token_id": ids["<pad>"],
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            model = self.model(common)
        return LanguageModel(model.train(), tokenizer, digest, origin)

    def model(self, common: dict[str, Any]) -> PreTrainedModel:
        raise NotImplementedError


@dataclass(frozen=True)
class Tiny(Embedded):
    """Llama's architecture: with learned absolute positions, one seed in three fails to extract what it has read."""

    intermediate_size: Count
    heads: Count

    def check(self, config: Mapping[str, Any], data: Dataset) -> list[str]:
        if self.hidden_size % (2 * self.heads):
            raise UserError(
                f"model.hidden_size={self.hidden_size} must divide by twice model.heads={self.heads} "
                f"(rotary positions); try model.hidden_size={2 * self.heads * 16}"
            )
        return super().check(config, data)

    def model(self, common: dict[str, Any]) -> PreTrainedModel:
        from transformers import LlamaConfig, LlamaForCausalLM

        return LlamaForCausalLM(
            LlamaConfig(
                **common,
                intermediate_size=self.intermediate_size,
                num_attention_heads=self.heads,
                num_key_value_heads=self.heads,
            )
        )
