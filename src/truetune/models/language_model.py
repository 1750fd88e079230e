"""What every builder returns: a causal language model, its tokenizer and where they come from."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from truetune.data.chat_template import set_template
from truetune.errors import UserError

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
        config = self.model.config.get_text_config(decoder=True)  # of a model that sees as well, the part that reads
        return int(getattr(config, "max_position_embeddings", 0) or 1 << 30)

    @property
    def ends(self) -> list[int]:
        """The tokens that end an answer: the tokenizer's, and the model's own (chat models end a turn with another)."""
        own: Any = getattr(bare(self.model), "generation_config", None)
        named: Any = getattr(own, "eos_token_id", None)
        more: list[int] = [] if named is None else torch.as_tensor(named).flatten().tolist()
        return sorted({int(self.tokenizer.eos_token_id), *more})  # pyright: ignore[reportArgumentType]

    def copy(self) -> LanguageModel:
        """One to be trained, whether or not this one is frozen."""
        return replace(self, model=_trainable(self.model).train())

    def to(self, device: torch.device) -> LanguageModel:
        """Moves the model itself."""
        model: Any = self.model
        model.to(device)
        return self


def with_template(lm: LanguageModel, template: str | None, say: Callable[[str], None]) -> LanguageModel:
    """The model with the template that its conversations are written in; says which that is."""
    which, content = set_template(lm.tokenizer, template, lm.origin)
    say(f"chat template: {which}")
    return replace(lm, digest=sha256(f"{lm.digest} {content}".encode()).hexdigest())


def fastest(accelerator: str = "auto") -> torch.device:
    """Where to ask a model that no Trainer places: a GPU if there is one, unless `accelerator` is `cpu`."""
    return torch.device("cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu")


class Frozen:
    """A reference that nobody trains; no nn.Module attribute, so no state dict, optimizer or checkpoint holds it.

    Lightning does not move what is not a module, so it moves itself to the tokens' device at call time. Between
    measurements it waits on the CPU, unless training asks it as well (`stay`).
    """

    def __init__(self, model: PreTrainedModel) -> None:
        """The model itself, not a copy of it."""
        self._model = model.eval().requires_grad_(False)
        self._stays = False

    @torch.no_grad()
    def logits(self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor | None = None) -> Tensor:
        """Shape: (batch, positions, vocabulary). Position ids say that the rows are packed (see `forward`)."""
        model: Any = self._model.to(input_ids.device)  # pyright: ignore[reportArgumentType]
        if position_ids is not None:
            return forward(model, input_ids, position_ids)
        return model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits

    def at_positions(self, device: torch.device) -> AtPositions:
        return AtPositions(self._model.to(device))  # pyright: ignore[reportArgumentType]

    def trainable(self) -> Any:
        """A copy that takes gradients, in evaluation mode."""
        return _trainable(self._model)

    def stay(self) -> Frozen:
        """For one that training asks at each step: from now on it stays where it was asked last."""
        self._stays = True
        return self

    def rest(self) -> None:
        model: Any = self._model
        if not self._stays:
            model.to("cpu")

    def parameters(self) -> dict[str, Tensor]:
        return dict(self._model.named_parameters())


def _trainable(model: Any) -> Any:
    """A copy; quantised weights, which are whole numbers, take no gradients."""
    made = copy.deepcopy(model)
    for parameter in made.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    return made


def forward(model: Any, input_ids: Tensor, position_ids: Tensor | None = None) -> Tensor:
    """Unshifted logits, shape (batch, positions, vocabulary).

    No attention mask: rows are padded on the right, where a causal model's real positions never look. And only without
    a mask and a cache do positions that start again keep the examples of a packed row apart (transformers 5).
    """
    packed = {} if position_ids is None else {"position_ids": position_ids}
    return model(input_ids=input_ids, use_cache=False, **packed).logits


def states(body: Any, input_ids: Tensor, position_ids: Tensor | None = None) -> Tensor:
    """What the head turns into logits, shape (batch, positions, hidden); otherwise as `forward`."""
    packed = {} if position_ids is None else {"position_ids": position_ids}
    return body(input_ids=input_ids, use_cache=False, **packed).last_hidden_state


def body(model: Any) -> Any:
    """The model without its head."""
    return bare(model).base_model


def head(model: Any) -> Any:
    return bare(model).get_output_embeddings()


def bare(model: Any) -> Any:
    """Without the wrapper of an adapter, whose layers stay in it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@torch.no_grad()
def parts_into_head(model: Any) -> bool:
    """Whether the model's logits are simply its head's: some models scale them or cap them."""
    training, rows = model.training, model.get_input_embeddings().num_embeddings
    ids = torch.arange(3, 9, device=next(model.parameters()).device).remainder(rows).unsqueeze(0)
    try:
        model.eval()
        whole, parted = forward(model, ids), head(model)(states(body(model), ids))
        return torch.allclose(whole, parted, rtol=1e-3, atol=1e-4)
    except (AttributeError, TypeError):
        return False
    finally:
        model.train(training)


class AtPositions:
    """Logits at chosen positions of rows padded on the right, a few at a time: all at once can outgrow the model."""

    def __init__(self, model: Any) -> None:
        self._model, self._parts = model, parts_into_head(model)

    @torch.no_grad()
    def __call__(self, input_ids: Tensor, chosen_BT: Tensor, size: int) -> Iterator[Tensor]:
        """Shape of each: (up to `size` positions, vocabulary)."""
        made = states(body(self._model), input_ids) if self._parts else forward(self._model, input_ids)
        for part in made[chosen_BT].split(size):
            yield head(self._model)(part) if self._parts else part


@torch.no_grad()
def check_packing(lm: LanguageModel) -> None:
    """Raises UserError if examples in one row see each other in this model: logits must be those of each alone."""
    model: Any = lm.model
    training, device = model.training, next(model.parameters()).device
    ids = torch.arange(3, 3 + 12, device=device).remainder(model.get_input_embeddings().num_embeddings).unsqueeze(0)
    positions = torch.cat([torch.arange(7), torch.arange(5)]).to(device).unsqueeze(0)
    try:
        model.eval()
        packed = forward(model, ids, positions)
        other = forward(model, torch.cat([ids[:, :7].flip(1), ids[:, 7:]], dim=1), positions)
        alone = torch.cat([forward(model, ids[:, :7]), forward(model, ids[:, 7:])], dim=1)
    except TypeError as error:
        raise UserError(f"data.packing=true: {type(model).__name__} takes no position ids ({error})") from None
    finally:
        model.train(training)
    moved = float((packed - other)[:, 7:].abs().max())
    far = float((packed - alone).abs().max() / alone.abs().max())
    if moved > 0 or far > (1e-3 if packed.dtype == torch.float32 else 5e-2):
        raise UserError(
            f"data.packing=true: {type(model).__name__} lets packed examples see each other (a change in one moves the "
            f"next one's logits by {moved:.2g}, and packing by {far:.2g} of their size); leave data.packing out"
        )


def set_special_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    """A missing pad token borrows the end token: labels are masked by position, never by id, so nothing is lost."""
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
