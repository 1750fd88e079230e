"""Examples to token ids and labels. Labels are masked by position, so a pad that equals eos is harmless."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypedDict

import torch
from torch import Tensor

from truetune.data.dataset import Example
from truetune.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
OverLong = Literal["error", "truncate", "skip"]


@dataclass(frozen=True)
class Row:
    """Token ids of one example; the first `prompt_length` of them are not learnt."""

    id: str
    input_ids: list[int]
    prompt_length: int
    weight: float = 1.0

    @property
    def target_tokens(self) -> int:
        return len(self.input_ids) - max(self.prompt_length, 1)


class Batch(TypedDict):
    """Tensors of shape (batch, positions), padded on the right; `weights` is (batch,)."""

    ids: list[str]
    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    weights: Tensor


class Encoder:
    """Prompt and completion are encoded apart and joined, here and in the probes: the seam is the same in both."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        with_special = tokenizer("a").input_ids
        bare = tokenizer("a", add_special_tokens=False).input_ids
        places = range(len(with_special) - len(bare) + 1)
        begin = next((place for place in places if bare and with_special[place : place + len(bare)] == bare), 1)
        self.prefix: list[int] = with_special[:begin]
        self.eos = int(tokenizer.eos_token_id)  # pyright: ignore[reportArgumentType]
        self.pad = int(tokenizer.pad_token_id)  # pyright: ignore[reportArgumentType]

    def text(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False).input_ids) if text else []

    def prompt(self, prompt: str) -> list[int]:
        return [*self.prefix, *self.text(prompt)]

    def question(self, prompt: str, room: int) -> list[int]:
        """As `prompt`, in at most `room` tokens: a longer one loses its beginning, never the tokenizer's prefix."""
        text = self.text(prompt)
        return [*self.prefix, *text[max(0, len(self.prefix) + len(text) - room) :]]

    def row(self, example: Example) -> Row:
        """`<bos> prompt completion <eos>`; a text without a prompt is learnt from its first token on."""
        prompt = self.prompt(example.prompt)
        ids = [*prompt, *self.text(example.completion), self.eos]
        return Row(example.id, ids, len(prompt), example.weight)


@dataclass(frozen=True)
class Encoded:
    """`notes` says what happened to over-long rows: nothing is ever cut or dropped silently."""

    rows: list[Row]
    notes: list[str]


def encode(encoder: Encoder, examples: Sequence[Example], context_length: int, over_long: OverLong) -> Encoded:
    """Raises UserError for an over-long example under `error`, and if a prompt leaves no room for the completion."""
    rows: list[Row] = []
    cut: list[str] = []
    for example in examples:
        row = encoder.row(example)
        if len(row.input_ids) > context_length:
            if not example.prompt:
                rows += _blocks(row, context_length)
                continue
            row = _fit(example, row, context_length, over_long)
            cut.append(example.source)
        if row is not None:
            rows.append(row)
    if not rows:
        raise UserError(f"{examples[0].source if examples else 'data'}: no example is left to train on")
    verb = {"truncate": "cut to", "skip": "left out for being over"}.get(over_long, "")
    notes = [f"{len(cut)} examples {verb} {context_length} tokens, the first: {cut[0]}"] if cut else []
    return Encoded(rows, notes)


def _fit(example: Example, row: Row, context_length: int, over_long: OverLong) -> Row | None:
    length = len(row.input_ids)
    if over_long == "skip":
        return None
    if row.prompt_length >= context_length:
        raise UserError(
            f"{example.source}: the prompt has {row.prompt_length} tokens and fills the whole context of "
            f"{context_length}, so nothing would be learnt; shorten it or set data.over_long=skip"
        )
    if over_long == "error":
        raise UserError(
            f"{example.source}: {length} tokens, the context holds {context_length}; shorten the row or set "
            "data.over_long=truncate or data.over_long=skip"
        )
    return replace(row, input_ids=row.input_ids[:context_length])


def _blocks(row: Row, context_length: int) -> list[Row]:
    """A long text becomes consecutive blocks that share one token, so that every token is predicted once."""
    step = context_length - 1
    starts = range(0, len(row.input_ids) - 1, step)
    blocks = ((f"{row.id}#{index}", row.input_ids[s : s + context_length]) for index, s in enumerate(starts))
    return [replace(row, id=name, input_ids=ids, prompt_length=1) for name, ids in blocks]


def collate(rows: Iterable[Row], pad: int) -> Batch:
    """Right-padded."""
    rows = list(rows)
    width = max(len(row.input_ids) for row in rows)
    shape = (len(rows), width)
    input_ids, labels = torch.full(shape, pad), torch.full(shape, IGNORED)
    attention_mask = torch.zeros(shape, dtype=torch.long)
    for index, row in enumerate(rows):
        length = len(row.input_ids)
        ids = torch.tensor(row.input_ids)
        input_ids[index, :length] = ids
        attention_mask[index, :length] = 1
        start = max(row.prompt_length, 1)
        labels[index, start:length] = ids[start:]
    return {
        "ids": [row.id for row in rows],
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "labels": labels,
        "weights": torch.tensor([row.weight for row in rows]),
    }
