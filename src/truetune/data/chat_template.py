"""Conversations as a chat template writes them: the text in pieces, and which of them the assistant says."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from truetune.data.dataset import Turn
from truetune.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PLAIN = (
    "{%- if tools -%}{{- 'Tools: ' + tools | tojson + '\n\n' -}}{%- endif -%}"
    "{%- for message in messages -%}"
    "{%- if message.role == 'assistant' -%}{{- 'Assistant: ' -}}"
    "{%- if message.reasoning_content -%}{{- '<think>' + message.reasoning_content + '</think> ' -}}{%- endif -%}"
    "{{- message.content -}}"
    "{%- for call in message.tool_calls or [] -%}{{- '<call>' + call.function | tojson + '</call>' -}}{%- endfor -%}"
    "{{- eos_token + '\n' -}}"
    "{%- elif message.role == 'user' -%}{{- 'User: ' + message.content + '\n' -}}"
    "{%- elif message.role == 'tool' -%}{{- 'Tool: ' + message.content + '\n' -}}"
    "{%- else -%}{{- message.content + '\n\n' -}}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- 'Assistant:' -}}{%- endif -%}"
)
_DAY = datetime(2024, 7, 26)
# Replaces the function of that name that templates are given, so that a prompt is the same tomorrow. Handing a function
# of our own to apply_chat_template fails: transformers marks every argument as text of the conversation.
_FORMAT = "".join(f".replace('%{letter}', '{_DAY.strftime(f'%{letter}')}')" for letter in "aAbBdjmyYHMSpI")
_TODAY = "{%- macro strftime_now(format) -%}{{- format" + _FORMAT + " -}}{%- endmacro %}\n"
_MARK = "\ufdd0"  # by Unicode never a character of any text


def set_template(tokenizer: Any, template: str | None, origin: str) -> tuple[str, str]:
    """Sets the tokenizer's chat template and returns (which one it is, in words; all that decides the texts).

    `auto` takes the tokenizer's own or else the plain one, None the tokenizer's own; any other text is a template.
    """
    if template not in (None, "auto"):
        tokenizer.chat_template, description = template, "that of data.chat_template"
    elif tokenizer.chat_template:
        description = "the tokenizer's own"
    elif template is None:
        raise UserError(
            f"data.chat_template=null: the tokenizer of {origin} has no chat template; "
            "type data.chat_template=auto for a plain one, or the path of a Jinja file"
        )
    else:
        begins_with_bos = tokenizer("a").input_ids[:1] == [tokenizer.bos_token_id]
        tokenizer.chat_template = ("{{- bos_token -}}" if begins_with_bos else "") + PLAIN
        description = "the plain one (User: ... Assistant: ...), for the tokenizer has none"
    date_note = f", for which today is {_DAY:%d %B %Y}" if "strftime_now" in str(tokenizer.chat_template) else ""
    return f"{description}{date_note}", f"{_TODAY}{tokenizer.chat_template}"


def pieces(tokenizer: PreTrainedTokenizerBase, turns: Sequence[Turn], *, ask: bool) -> list[tuple[str, bool]]:
    """(text, whether it is learnt); with `ask` the last piece ends where the assistant is to go on.

    An answer is learnt from its first character to the end-of-text token that follows it, if the template writes one.
    Raises UserError if the template refuses the conversation, leaves out a turn, or renders one otherwise once more
    turns follow; with `ask` the last of these does no harm.
    """
    text = _render(tokenizer, turns, ask)
    place = 0
    for number, (role, content, more) in enumerate(turns, start=1):
        calls = [call["function"]["name"] for call in json.loads(more or "{}").get("tool_calls", [])]
        for words in (content.strip(), *calls):
            place = text.find(words, place)
            if place < 0:
                raise UserError(
                    f"the chat template leaves out or changes turn {number} ({role}: {words[:40]!r}); "
                    "remove the turn, or set another data.chat_template"
                )
            place += len(words)
    parts: list[tuple[str, bool]] = []
    position = 0
    for index, start, turn_end in turn_spans(tokenizer, turns, text, ask):
        if not position <= start < turn_end:
            if ask:
                continue
            what = "more turns follow" if turns[index + 1 :] else "it is asked for"
            raise UserError(
                f"the chat template renders turn {index + 1} otherwise once {what}, so what is learnt "
                "cannot be told; split the conversation, or set another data.chat_template"
            )
        eos = str(tokenizer.eos_token)
        end = text.find(eos, start, turn_end)
        end = turn_end if end < 0 else end + len(eos)
        weight = json.loads(turns[index].more or "{}").get("weight", 1)
        parts += [(text[position:start], False), (text[start:end], weight != 0)]
        position = end
    # Text after the last answer belongs neither to it nor to a question.
    return [*parts, (text[position:], False)] if ask else parts


def left_out(turns: Sequence[Turn], text: str) -> set[str]:
    """Fields (`reasoning_content`, `tools`) whose content the conversation's text does not hold in full."""
    fields = [json.loads(turn.more) for turn in turns if turn.more]
    thoughts = [str(more["reasoning_content"]).strip() for more in fields if "reasoning_content" in more]
    tools = [str(tool["function"].get("name", "")) for more in fields for tool in more.get("tools", [])]
    names = {"reasoning_content": thoughts, "tools": tools}
    return {name for name, words in names.items() if any(word not in text for word in words)}


def turn_spans(
    tokenizer: PreTrainedTokenizerBase, turns: Sequence[Turn], text: str, ask: bool
) -> Iterator[tuple[int, int, int]]:
    r"""(index, start, end) of each turn of the assistant in the conversation's text; start = end if it cannot be told.

    Most templates only append: a turn lies between the text that asks for it and the text that ends with it. Not so
    Qwen3, which writes thoughts, empty ones here, before the last answer alone. For the first of two answers:

        asked for  <|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n
        ended      <|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\nHello.<|im_end|>\n
        text       <|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n<|im_start|>user\n...

    The text begins with neither. So the turn starts at its content, `Hello.`, and ends after what follows the content
    both where it ended and in the text: `<|im_end|>\n`.
    """
    answers = 0
    for index, (role, content, more) in enumerate(turns):
        if role != "assistant":
            continue
        prompt = _render(tokenizer, turns[:index], True)
        ends_text = index + 1 == len(turns) and not ask
        head = text if ends_text else _render(tokenizer, turns[: index + 1], False)
        if more and not text.startswith(prompt):
            prompt = _render(tokenizer, turns[:index], True, thinking=True)
        if text.startswith(prompt) and text.startswith(head):
            yield index, len(prompt), len(head)
        elif not content.strip():  # a call of tools: what the template writes of it, without what it puts before
            start = len(prompt) if text.startswith(prompt) else 0
            ends = (head[place:] for place in range(start, len(head)) if text.startswith(head[place:], start))
            yield index, start, start + len(next(ends, "")) if start else 0
        else:
            start, end = _contents(tokenizer, turns, text, ask)[answers]
            _, content_end = _contents(tokenizer, turns[: index + 1], head, False)[-1]
            endings = (head[content_end:], head[content_end:].removesuffix(str(tokenizer.eos_token)))
            ending = next((ending for ending in endings if ending and text.startswith(ending, end)), "")
            if min(start, content_end) < 0 or not ending or not turns[index + 1 :]:
                yield index, 0, 0
            else:
                yield index, len(prompt) if text.startswith(prompt) else start, end + len(ending)
        answers += 1


def _contents(tokenizer: PreTrainedTokenizerBase, turns: Sequence[Turn], text: str, ask: bool) -> list[tuple[int, int]]:
    """(start, end) in the text of each thing that the assistant says; -1 if the template changes it.

    The conversation is rendered once more with marks around these; spaces stay outside, since templates strip them.
    """
    marked_turns: list[Turn] = []
    for turn in turns:
        words = turn.content.strip()
        content = turn.content.replace(words, f"{_MARK}{words}{_MARK}", 1) if turn.role == "assistant" else turn.content
        marked_turns.append(turn._replace(content=content))
    parts = _render(tokenizer, marked_turns, ask).split(_MARK)
    count = sum(turn.role == "assistant" for turn in turns)
    if "".join(parts) != text or len(parts) != 2 * count + 1:
        return [(-1, -1)] * count
    ends = list(accumulate(map(len, parts)))
    return list(zip(ends[:-1:2], ends[1::2], strict=True))


def _render(tokenizer: PreTrainedTokenizerBase, turns: Sequence[Turn], ask: bool, *, thinking: bool = False) -> str:
    if not turns:
        return ""
    template, tools, messages = str(tokenizer.get_chat_template()), None, list[dict[str, Any]]()
    for role, content, more in turns:
        extras = {name: value for name, value in json.loads(more or "{}").items() if name != "weight"}
        tools = extras.pop("tools", tools)
        if "reasoning_content" not in template and "thinking" in template and "reasoning_content" in extras:
            extras["thinking"] = extras.pop("reasoning_content")
        role = "system" if role == "developer" and "developer" not in template else role
        messages.append({"role": role, "content": content, **extras})
    options: dict[str, Any] = {"chat_template": _TODAY + template, "tokenize": False, "enable_thinking": thinking}
    try:
        return str(tokenizer.apply_chat_template(messages, tools=tools, add_generation_prompt=ask, **options))
    except Exception as error:  # a template runs code of its own, and raises what it likes
        raise UserError(f"the chat template refuses this conversation: {' '.join(str(error).split())[:200]}") from None
