"""Conversations as a chat template writes them: the text in pieces, those that the assistant says marked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
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
    say(f"chat template: {said}")
    digest = sha256(f"{lm.digest} {tokenizer.chat_template}".encode()).hexdigest()
    return replace(lm, digest=digest)


def pieces(tokenizer: PreTrainedTokenizerBase, turns: Turns, *, ask: bool) -> list[tuple[str, bool]]:
    """(text, whether it is learnt); with `ask` the last piece ends where the assistant is to go on.

    An answer is learnt from its first character to the end-of-text token that follows it, if the template writes one.
    Raises UserError if the template refuses the conversation, leaves out a turn, or renders one otherwise once more
    turns follow.
    """
    whole = _render(tokenizer, turns, ask)
    _nothing_left_out(turns, whole)
    found: list[tuple[str, bool]] = []
    done = 0
    for index, (role, _) in enumerate(turns):
        if role == "assistant":
            before, after = _render(tokenizer, turns[:index], True), _render(tokenizer, turns[: index + 1], False)
            if not (whole.startswith(before) and whole.startswith(after) and done <= len(before) < len(after)):
                raise UserError(
                    f"the chat template renders turn {index + 1} otherwise once more turns follow, so what is learnt "
                    "cannot be told; split the conversation, or set another data.chat_template"
                )
            eos = str(tokenizer.eos_token)
            end = whole.find(eos, len(before), len(after))
            end = len(after) if end < 0 else end + len(eos)
            found += [(whole[done : len(before)], False), (whole[len(before) : end], True)]
            done = end
    # What follows the last answer is no part of it, nor of any question.
    return [*found, (whole[done:], False)] if ask else found


def _render(tokenizer: PreTrainedTokenizerBase, turns: Turns, ask: bool) -> str:
    if not turns:
        return ""
    messages = [{"role": role, "content": content} for role, content in turns]
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=ask))
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
