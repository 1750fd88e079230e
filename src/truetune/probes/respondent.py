"""Who can be asked: a model whose weights are here, or one that is served elsewhere and gives answers alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from truetune.data.dataset import Prompt
from truetune.models.language_model import LanguageModel


@dataclass(frozen=True)
class Answer:
    """`confidence` is the geometric mean probability of the answer's tokens, the end token included; None if it is not
    known.

    Thinking that comes first, up to `</think>`, is no part of the text.
    """

    text: str
    confidence: float | None


class Served(Protocol):
    """A model without weights, such as one behind a URL: nobody here sees its tokens, or what else it might have said.

    The first four members are those of a `LanguageModel`, too. `tokens` need be no more than an upper estimate. The
    class that loads it says `has_weights = False`.
    """

    @property
    def digest(self) -> str: ...

    @property
    def origin(self) -> str: ...

    @property
    def context_length(self) -> int: ...

    @property
    def has_chat_form(self) -> bool: ...

    def tokens(self, text: str) -> int: ...

    def answers(self, prompts: Sequence[Prompt], *, max_new_tokens: int, one_line: bool) -> list[Answer]:
        """One greedy answer a prompt, in the prompts' order."""
        ...


Respondent = LanguageModel | Served
