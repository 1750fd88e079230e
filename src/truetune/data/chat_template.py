"""Conversations as a chat template writes them: the text in pieces, those that the assistant says marked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from truetune.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from truetune.models.language_model import LanguageModel

Turns = Sequence[tuple[str, str]]  # (role, content)
PLAIN = (
    "{%- for message in messages -%}"
    "{%- if message.role == 'assistant' -%}{{- 'Assistant: ' + message.content + eos_token + '\n' -}}"
    "{%- elif message.role == 'user' -%}{{- 'User: ' + message.content + '\n' -}}"
    "{%- else -%}{{- message.content + '\n\n' -}}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- 'Assistant:' -}}{%- endif -%}"
)
_DAY = datetime(2024, 7, 26)
# Shadows the function of that name that templates are given, so that a prompt is the same tomorrow.
_FORMAT = "".join(f".replace('%{letter}', '{_DAY.strftime(f'%{letter}')}')" for letter in "aAbBdjmyYHMSpI")
_TODAY = "{%- macro strftime_now(format) -%}{{- format" + _FORMAT + " -}}{%- endmacro %}\n"
_MARK = "\ufdd0"  # by Unicode never a character of any text


def with_template(lm: LanguageModel, template: str | None, say: Callable[[str], None]) -> LanguageModel:
    """The model with the template that its conversations are written in; says which that is.

    `auto` takes the tokenizer's own or else the plain one, None the tokenizer's own; any other text is a template.
    """
    tokenizer: Any = lm.tokenizer
    if template not in (None, "auto"):
        tokenizer.chat_template, said = template, "that of data.chat_template"
    elif tokenizer.chat_template:
        said = "the tokenizer's own"
    elif template is None:
        raise UserError(
            f"data.chat_template=null: the tokenizer of {lm.origin} has no chat template; "
            "type data.chat_template=auto for a plain one, or the path of a Jinja file"
        )
    else:
        begins_with_bos = tokenizer("a").input_ids[:1] == [tokenizer.bos_token_id]
        tokenizer.chat_template = ("{{- bos_token -}}" if begins_with_bos else "") + PLAIN
        said = "the plain one (User: ... Assistant: ...), for the tokenizer has none"
    dated = f", for which today is {_DAY:%d %B %Y}" if "strftime_now" in str(tokenizer.chat_template) else ""
    say(f"chat template: {said}{dated}")
    digest = sha256(f"{lm.digest} {_TODAY}{tokenizer.chat_template}".encode()).hexdigest()
    return replace(lm, digest=digest)


def pieces(tokenizer: PreTrainedTokenizerBase, turns: Turns, *, ask: bool) -> list[tuple[str, bool]]:
    """(text, whether it is learnt); with `ask` the last piece ends where the assistant is to go on.

    An answer is learnt from its first character to the end-of-text token that follows it, if the template writes one.
    Raises UserError if the template refuses the conversation, leaves out a turn, or ends one otherwise once more turns
    follow; what is only asked can do with any end.
    """
    whole = _render(tokenizer, turns, ask)
    _nothing_left_out(turns, whole)
    found: list[tuple[str, bool]] = []
    done = 0
    for index, (role, _) in enumerate(turns):
        if role == "assistant":
            start, after = _span(tokenizer, turns, index, whole, ask)
            if not done <= start < after:
                if ask:
                    continue
                what = "more turns follow" if turns[index + 1 :] else "it is asked for"
                raise UserError(
                    f"the chat template renders turn {index + 1} otherwise once {what}, so what is learnt "
                    "cannot be told; split the conversation, or set another data.chat_template"
                )
            eos = str(tokenizer.eos_token)
            end = whole.find(eos, start, after)
            end = after if end < 0 else end + len(eos)
            found += [(whole[done:start], False), (whole[start:end], True)]
            done = end
    # What follows the last answer is no part of it, nor of any question.
    return [*found, (whole[done:], False)] if ask else found


def _span(tokenizer: PreTrainedTokenizerBase, turns: Turns, index: int, whole: str, ask: bool) -> tuple[int, int]:
    """From where the turn's text was asked for to what ends it; empty if that cannot be told.

    Some templates write a turn otherwise once more turns follow (Qwen3 its thoughts, Phi-3 the end of the text): then
    its content counts, and what ends a turn in both.
    """
    before, after = _render(tokenizer, turns[:index], True), _render(tokenizer, turns[: index + 1], False)
    if whole.startswith(before) and whole.startswith(after):
        return len(before), len(after)
    start, end = _places(tokenizer, turns, whole, ask)[sum(role == "assistant" for role, _ in turns[:index])]
    _, last = _places(tokenizer, turns[: index + 1], after, False)[-1]
    endings = (after[last:], after[last:].removesuffix(str(tokenizer.eos_token)))
    ending = next((text for text in endings if text and whole.startswith(text, end)), "")
    if min(start, last) < 0 or not ending or not turns[index + 1 :]:
        return 0, 0
    return len(before) if whole.startswith(before) else start, end + len(ending)


def _places(tokenizer: PreTrainedTokenizerBase, turns: Turns, whole: str, ask: bool) -> list[tuple[int, int]]:
    """Where the contents of the assistant's turns begin and end in the whole; -1 if the template changes them."""
    marked = [(role, _marked(content) if role == "assistant" else content) for role, content in turns]
    parts = _render(tokenizer, marked, ask).split(_MARK)
    count = sum(role == "assistant" for role, _ in turns)
    if "".join(parts) != whole or len(parts) != 2 * count + 1:
        return [(-1, -1)] * count
    ends = list(accumulate(map(len, parts)))
    return list(zip(ends[:-1:2], ends[1::2], strict=True))


def _marked(content: str) -> str:
    """The spaces around it stay outside: templates strip them."""
    text = content.strip()
    return content.replace(text, f"{_MARK}{text}{_MARK}", 1)


def _render(tokenizer: PreTrainedTokenizerBase, turns: Turns, ask: bool) -> str:
    if not turns:
        return ""
    messages = [{"role": role, "content": content} for role, content in turns]
    try:
        template = _TODAY + tokenizer.get_chat_template()
        options: dict[str, Any] = {"chat_template": template, "tokenize": False, "enable_thinking": False}
        return str(tokenizer.apply_chat_template(messages, add_generation_prompt=ask, **options))
    except Exception as error:  # a template runs code of its own, and raises what it likes
        raise UserError(f"the chat template refuses this conversation: {' '.join(str(error).split())[:200]}") from None


def _nothing_left_out(turns: Turns, whole: str) -> None:
    place = 0
    for number, (role, content) in enumerate(turns, start=1):
        place = whole.find(content.strip(), place)
        if place < 0:
            raise UserError(
                f"the chat template leaves out or changes turn {number} ({role}: {content.strip()[:40]!r}); "
                "remove the turn, or set another data.chat_template"
            )
        place += len(content.strip())
