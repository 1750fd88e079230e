"""Examples to token ids and labels. Labels are masked by position, so a pad that equals eos is harmless."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby, takewhile
from typing import TYPE_CHECKING, Any, Literal

from truetune.data.chat_template import left_out, pieces
from truetune.data.dataset import Example, Prompt, Turn
from truetune.data.rows.many import gathered
from truetune.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
OverLong = Literal["error", "truncate", "skip"]


@dataclass(frozen=True)
class TokenRow:
    """Token ids of one example; the first `prompt_length` of them are not learnt, nor are the spans [start, end) of
    `unlearnt`: what others say in the middle of a conversation. `last` says that the row comes last in each epoch."""

    id: str
    input_ids: list[int]
    prompt_length: int
    weight: float = 1.0
    unlearnt: tuple[tuple[int, int], ...] = ()
    last: bool = False

    @property
    def labels(self) -> list[int]:
        """The first token is never a target: nothing predicts it."""
        start = max(self.prompt_length, 1)
        labels = [IGNORED] * min(start, len(self.input_ids)) + self.input_ids[start:]
        for begin, end in self.unlearnt:
            labels[begin:end] = [IGNORED] * len(labels[begin:end])
        return labels

    @property
    def target_tokens(self) -> int:
        return sum(label != IGNORED for label in self.labels)


COLUMNS: dict[str, Any] = {
    "id": "large_string",
    "input_ids": ["int64"],
    "prompt_length": "int64",
    "weight": "float64",
    "unlearnt": [["int64"]],
    "last": "bool",
}


def _token_row(values: dict[str, Any]) -> TokenRow:
    values["unlearnt"] = tuple(map(tuple, values["unlearnt"]))
    return TokenRow(**values)


class Encoder:
    """Prompt and completion are cut into tokens as one text, in training and in every probe.

    Cut apart, a SentencePiece vocabulary would write the first word of an answer as one behind a space. Spaces that end
    a prompt go to the completion, whose first token most vocabularies write with its space.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        with_special = tokenizer("a").input_ids
        bare = tokenizer("a", add_special_tokens=False).input_ids
        places = range(len(with_special) - len(bare) + 1)
        begin = next((place for place in places if bare and with_special[place : place + len(bare)] == bare), 1)
        self.prefix: list[int] = with_special[:begin]
        self.eos = int(tokenizer.eos_token_id)  # pyright: ignore[reportArgumentType]
        self.pad = int(tokenizer.pad_token_id)  # pyright: ignore[reportArgumentType]
        self.left_out: set[str] = set()  # parts of conversations that the chat template does not write

    def text(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False).input_ids) if text else []

    def prompt(self, prompt: Prompt) -> list[int]:
        """A conversation ends where the assistant is to answer."""
        return self.joined(prompt, "")[0]

    def joined(self, prompt: Prompt, completion: str) -> tuple[list[int], list[int]]:
        """(prompt, completion): the completion begins with the first token that the prompt alone would not have."""
        if isinstance(prompt, str):
            head, text = self.prefix, prompt.rstrip(" ")
            completion = prompt[len(text) :] + completion if completion else ""
        else:
            head, text = [], "".join(text for text, _ in pieces(self.tokenizer, prompt, ask=True))
        alone, whole = self.text(text), self.text(text + completion)
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(alone, whole, strict=False)))
        return [*head, *whole[:same]], whole[same:]

    def question(self, prompt: Prompt, room: int) -> list[int]:
        """Like `prompt`, in at most `room` tokens: a longer one loses its beginning, never the tokenizer's prefix."""
        return self._shortened(self.prompt(prompt), room)

    def _shortened(self, ids: list[int], room: int) -> list[int]:
        head = len(self.prefix) if ids[: len(self.prefix)] == self.prefix else 0  # a chat template may write none
        return [*ids[:head], *ids[max(head, len(ids) - room + head) :]]

    def row(self, example: Example) -> TokenRow:
        """`<bos> prompt completion <eos>`; a text without a prompt is learnt from its first token on."""
        if example.turns:
            return self._conversation(example)
        prompt, completion = self.joined(example.prompt, example.completion)
        end = [] if completion[-1:] == [self.eos] else [self.eos]
        return TokenRow(example.id, [*prompt, *completion, *end], len(prompt), example.weight, last=example.last)

    def choice(self, example: Example, room: int) -> TokenRow:
        """`<bos> prompt completion`, in at most `room` tokens: a longer prompt loses its beginning."""
        prompt, completion = self.joined(example.prompt, example.completion)
        if len(self.prefix) + len(completion) >= room:
            raise UserError(
                f"{example.source}: a choice has {len(completion)} tokens, and the context of {room} holds no question "
                "before it; shorten it"
            )
        prompt = self._shortened(prompt, room - len(completion))
        return TokenRow(example.id, [*prompt, *completion], len(prompt))

    def _conversation(self, example: Example) -> TokenRow:
        """No special token is added but a missing last <eos>: the template writes its own."""
        try:
            turns = [*example.turns, Turn("assistant", example.completion, example.more)]
            written = pieces(self.tokenizer, turns, ask=False)
        except UserError as error:
            raise UserError(f"{example.source}: {error}") from None
        self.left_out |= left_out(turns, "".join(text for text, _ in written))
        ids, learnt = self._pieces(written)
        if self.prefix and ids[: 2 * len(self.prefix)] == 2 * self.prefix:
            raise UserError(f"the chat template begins a text twice: its first tokens are {ids[:10]}; correct it")
        if ids[-1:] != [self.eos]:
            ids.append(self.eos)
            learnt.append(True)
        runs = [(is_learnt, len(list(run))) for is_learnt, run in groupby(learnt)]
        ends = list(accumulate(length for _, length in runs))
        spans = [(end - length, end) for (is_learnt, length), end in zip(runs, ends, strict=True) if not is_learnt]
        begins_unlearnt = bool(spans) and spans[0][0] == 0
        unlearnt = tuple(spans[1:] if begins_unlearnt else spans)
        return TokenRow(example.id, ids, spans[0][1] if begins_unlearnt else 0, example.weight, unlearnt, example.last)

    def _pieces(self, written: Sequence[tuple[str, bool]]) -> tuple[list[int], list[bool]]:
        """Tokens of the pieces as one text, and which of them are learnt: those with a character of a learnt piece."""
        characters = [learnt for text, learnt in written for _ in text]
        text = "".join(text for text, _ in written)
        try:
            encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        except NotImplementedError:  # a tokenizer in Python knows no places: its pieces are cut apart
            parts = [(self.text(text), learnt) for text, learnt in written]
            return [token for ids, _ in parts for token in ids], [learnt for ids, learnt in parts for _ in ids]
        places: Any = encoded["offset_mapping"]
        return list(encoded.input_ids), [any(characters[start:end]) for start, end in places]


@dataclass(frozen=True)
class Encoded:
    """`notes` says what happened to over-long rows: nothing is ever cut or dropped silently."""

    rows: Sequence[TokenRow]
    notes: list[str]


def encode(
    encoder: Encoder,
    examples: Sequence[Example],
    context_length: int,
    over_long: OverLong,
    max_tokens: int | None = None,
) -> Encoded:
    """Raises UserError for an over-long example under `error`, and if a prompt leaves no room for the completion.

    `max_tokens` may allow less than the context holds.
    """
    most = min(context_length, max_tokens or context_length)
    limit = f"loader.max_tokens allows {most}" if most < context_length else f"the context holds {most}"
    first, cut = "", 0

    def fitting() -> Iterator[TokenRow]:
        nonlocal first, cut
        for example in examples:
            row = encoder.row(example)
            if len(row.input_ids) <= most:
                yield row
            elif not example.prompt:
                yield from _blocks(row, most)
            else:
                first, cut = first or example.source, cut + 1
                yield from _fit(example, row, most, limit, over_long)

    rows = gathered(fitting(), COLUMNS, _token_row)
    if not rows:
        raise UserError(f"{examples[0].source if examples else 'data'}: no example is left to train on")
    verb = {"truncate": "cut to", "skip": "left out for being over"}.get(over_long, "")
    notes = [f"{cut} examples {verb} {most} tokens, the first: {first}"] if cut else []
    if encoder.left_out:
        notes.append(f"not used, since the chat template does not write it: {', '.join(sorted(encoder.left_out))}")
    return Encoded(rows, notes)


def _fit(example: Example, row: TokenRow, most: int, limit: str, over_long: OverLong) -> list[TokenRow]:
    """The row cut to what fits, or nothing."""
    if over_long == "skip":
        return []
    if row.prompt_length >= most:
        raise UserError(
            f"{example.source}: the prompt has {row.prompt_length} tokens and {limit}, so nothing would be learnt; "
            "shorten it or set loader.over_long=skip"
        )
    if over_long == "error":
        raise UserError(
            f"{example.source}: {len(row.input_ids)} tokens, {limit}; shorten the row or set "
            "loader.over_long=truncate or loader.over_long=skip"
        )
    return [replace(row, input_ids=row.input_ids[:most])]


def _blocks(row: TokenRow, most: int) -> list[TokenRow]:
    """A long text becomes consecutive blocks that share one token, so that every token is predicted once."""
    step = most - 1
    starts = range(0, len(row.input_ids) - 1, step)
    blocks = ((f"{row.id}#{index}", row.input_ids[s : s + most]) for index, s in enumerate(starts))
    return [replace(row, id=name, input_ids=ids, prompt_length=1) for name, ids in blocks]
