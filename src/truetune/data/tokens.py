"""Examples to token ids and labels. Labels are masked by position, so a pad that equals eos is harmless."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import accumulate, groupby, takewhile
from typing import TYPE_CHECKING, Any

from truetune.data.chat_template import left_out, pieces
from truetune.data.dataset import Example, Prompt, Turn
from truetune.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
AT_ONCE, CHARACTERS = 200, 500_000  # at most so many examples, of so many characters, are tokenized together


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
    "input_ids": ["int32"],
    "prompt_length": "int64",
    "weight": "float64",
    "unlearnt": [["int64"]],
    "last": "bool",
}


def token_row(values: dict[str, Any]) -> TokenRow:
    values["unlearnt"] = tuple(map(tuple, values["unlearnt"]))
    return TokenRow(**values)


class Encoder:
    """Tokenizes prompt and completion as one text, in training and in every probe.

    Tokenized apart, the first word of an answer would be written by a SentencePiece vocabulary as if a space stood
    before it. Spaces that end a prompt go to the completion, whose first token most vocabularies write with its space.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        with_special = tokenizer("a").input_ids
        ids = tokenizer("a", add_special_tokens=False).input_ids
        places = range(len(with_special) - len(ids) + 1)
        begin = next((place for place in places if ids and with_special[place : place + len(ids)] == ids), 1)
        self.prefix: list[int] = with_special[:begin]
        self.eos = int(tokenizer.eos_token_id)  # pyright: ignore[reportArgumentType]
        self.pad = int(tokenizer.pad_token_id)  # pyright: ignore[reportArgumentType]
        self.left_out: set[str] = set()  # parts of conversations that the chat template does not write
        self._ids_of_block: dict[str, list[int]] = {}  # texts that `rows` has tokenized together

    @property
    def content(self) -> str | None:
        """Hash of all that decides the tokens; None where a tokenizer in Python decides them."""
        tokenizer: Any = self.tokenizer
        try:
            backend = tokenizer.backend_tokenizer.to_str()
        except Exception:  # the Rust library raises just that for a part written in Python
            return None
        special = (tokenizer.special_tokens_map, getattr(tokenizer, "split_special_tokens", None))
        parts = (str(type(tokenizer)), backend, tokenizer.chat_template, special, self.prefix, self.eos)
        return sha256(repr(parts).encode()).hexdigest()

    def text(self, text: str) -> list[int]:
        if text in self._ids_of_block:
            return self._ids_of_block[text]
        return list(self.tokenizer(text, add_special_tokens=False).input_ids) if text else []

    def rows(self, examples: Iterable[Example]) -> Iterator[tuple[Example, TokenRow]]:
        """Each example with its row; the texts of many plain examples are tokenized at once, on all cores."""
        for block in _cut_together(examples):
            pairs = [self._plain(row.prompt, row.completion) for row in block if not row.turns]
            texts = list(filter(None, {text for head, tail in pairs for text in (head, head + tail)}))
            ids: Any = self.tokenizer(texts, add_special_tokens=False).input_ids if texts else []
            self._ids_of_block = dict(zip(texts, ids, strict=True))
            yield from zip(block, map(self.row, block), strict=True)
        self._ids_of_block = {}

    def prompt(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt; a conversation ends where the assistant is to answer."""
        return self.joined(prompt, "")[0]

    def joined(self, prompt: Prompt, completion: str) -> tuple[list[int], list[int]]:
        """(prompt, completion): the completion begins with the first token that the prompt alone would not have."""
        if isinstance(prompt, str):
            head, (text, completion) = self.prefix, self._plain(prompt, completion)
        else:
            head, text = [], "".join(text for text, _ in pieces(self.tokenizer, prompt, ask=True))
        prompt_ids, all_ids = self.text(text), self.text(text + completion)
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(prompt_ids, all_ids, strict=False)))
        return [*head, *all_ids[:shared]], all_ids[shared:]

    @staticmethod
    def _plain(prompt: str, completion: str) -> tuple[str, str]:
        """(prompt without the spaces at its end, those spaces and the completion)."""
        text = prompt.rstrip(" ")
        return text, prompt[len(text) :] + completion if completion else ""

    def question(self, prompt: Prompt, room: int) -> list[int]:
        """Like `prompt`, in at most `room` tokens: a longer one loses its beginning, never the tokenizer's prefix."""
        return self._shortened(self.prompt(prompt), room)

    def _shortened(self, ids: list[int], room: int) -> list[int]:
        head = len(self.prefix) if ids[: len(self.prefix)] == self.prefix else 0  # a chat template may write no prefix
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
        """The template writes the special tokens; only a missing last <eos> is added."""
        try:
            turns = [*example.turns, Turn("assistant", example.completion, example.more)]
            text_pieces = pieces(self.tokenizer, turns, ask=False)
        except UserError as error:
            raise UserError(f"{example.source}: {error}") from None
        self.left_out |= left_out(turns, "".join(text for text, _ in text_pieces))
        ids, flags = self._pieces(text_pieces)
        if self.prefix and ids[: 2 * len(self.prefix)] == 2 * self.prefix:
            raise UserError(f"the chat template begins a text twice: its first tokens are {ids[:10]}; correct it")
        if ids[-1:] != [self.eos]:
            ids.append(self.eos)
            flags.append(True)
        runs = [(is_learnt, len(list(run))) for is_learnt, run in groupby(flags)]
        ends = list(accumulate(length for _, length in runs))
        spans = [(end - length, end) for (is_learnt, length), end in zip(runs, ends, strict=True) if not is_learnt]
        begins_unlearnt = bool(spans) and spans[0][0] == 0
        gaps = tuple(spans[1:] if begins_unlearnt else spans)
        return TokenRow(example.id, ids, spans[0][1] if begins_unlearnt else 0, example.weight, gaps, example.last)

    def _pieces(self, text_pieces: Sequence[tuple[str, bool]]) -> tuple[list[int], list[bool]]:
        """Tokens of the pieces as one text, and which of them are learnt: those with a character of a learnt piece."""
        characters = [is_learnt for text, is_learnt in text_pieces for _ in text]
        text = "".join(text for text, _ in text_pieces)
        try:
            encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        except NotImplementedError:  # a tokenizer in Python knows no offsets: each piece is tokenized alone
            parts = [(self.text(text), is_learnt) for text, is_learnt in text_pieces]
            return [token for ids, _ in parts for token in ids], [is_learnt for ids, is_learnt in parts for _ in ids]
        places: Any = encoded["offset_mapping"]
        return list(encoded.input_ids), [any(characters[start:end]) for start, end in places]


def _cut_together(examples: Iterable[Example]) -> Iterator[list[Example]]:
    block, characters = list[Example](), 0
    for example in examples:
        size = len(example.prompt) + len(example.completion)
        if block and (len(block) >= AT_ONCE or characters + size > CHARACTERS):
            yield block
            block, characters = [], 0
        block.append(example)
        characters += size
    if block:
        yield block
