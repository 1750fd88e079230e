"""The messages of a conversation, as different tools write them, made into uniform turns."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

from truetune.data.dataset import FIRST, Turn
from truetune.data.rows.row import BadRow, JsonObject, Number, Reading, kind, named

ROLES = {
    **{role: role for role in ("system", "developer", "user", "assistant", "tool")},
    **dict.fromkeys(("gpt", "chatgpt", "model", "bot", "function_call"), "assistant"),  # ShareGPT's and others'
    **dict.fromkeys(("observation", "function", "function_response", "ipython"), "tool"),
    "human": "user",
}
REASONING = ("reasoning_content", "reasoning", "thinking")
LEARNT = ("weight", "train", "loss", "learn")  # false or 0: a message of the assistant that is read and not learnt
# To these other tools give a meaning: the user is told that they are not used.
MEANT = ("images", "image", "videos", "audio", "audios", "train_detail", "refusal", "annotations", "prefix")


def conversation(row: JsonObject, source: str, reading: Reading) -> tuple[tuple[Turn, ...], Turn]:
    """(the turns before, the last one that is learnt); raises BadRow naming the message that cannot be used."""
    value, tools = listed(row["messages"]), listed(row.get("tools")) or listed(row.get("functions"))
    if not isinstance(value, list):
        raise BadRow(source, f'field "messages": found {kind(value)}, expected a list of {{"role", "content"}} objects')
    turns = [_turn(message, number, source, reading) for number, message in enumerate(cast("list[Any]", value), 1)]
    roles = [turn.role for turn in turns]
    if isinstance(row.get("system"), str) and str(row["system"]).strip() and roles[:1] != ["system"]:
        turns, roles = [Turn("system", str(row["system"])), *turns], ["system", *roles]
    if "assistant" not in roles:
        raise BadRow(source, 'field "messages": no assistant turn, so nothing would be learnt; add one')
    if roles[-1] != "assistant":
        raise BadRow(source, f'field "messages": the last turn is of the {roles[-1]}; it must be the assistant\'s')
    if sum(role in FIRST for role in roles) > 1:
        raise BadRow(source, 'field "messages": two system turns; join them into one')
    if {*FIRST} & {*roles[1:]}:
        raise BadRow(source, 'field "messages": the system turn must be the first')
    if "user" not in roles[: roles.index("assistant")]:
        raise BadRow(source, 'field "messages": the assistant speaks before any user; put a user turn first')
    last_learnt = max((i for i, turn in enumerate(turns) if turn.role == "assistant" and is_learnt(turn)), default=None)
    if last_learnt is None:
        raise BadRow(source, 'field "messages": no turn of the assistant is to be learnt; remove the row')
    if tools:
        tool_list = tools if isinstance(tools, list) else [tools]
        functions = [tool if "function" in tool else {"type": "function", "function": tool} for tool in tool_list]
        turns[0] = turns[0]._replace(more=json.dumps({**more(turns[0]), "tools": pruned(functions)}))
    return tuple(turns[:last_learnt]), turns[last_learnt]


def _turn(message: object, number: int, source: str, reading: Reading) -> Turn:
    place = f'field "messages", message {number}'
    if not isinstance(message, dict):
        raise BadRow(source, f'{place}: found {kind(message)}, expected {{"role": ..., "content": ...}}')
    fields = {name: value for name, value in cast(JsonObject, message).items() if value is not None}
    role, content = fields.get("role", fields.get("from")), fields.get("content", fields.get("value"))
    if not isinstance(role, str) or role.lower() not in ROLES:
        fault = f'"role" is {named([role])}' if isinstance(role, str) else f"found the fields {named(list(fields))}"
        raise BadRow(source, f'{place}: {fault}, expected a "role" of system, user, assistant, tool')
    extras: JsonObject = {name: fields[name] for name in ("name", "tool_call_id") if name in fields}
    calls = fields.get("tool_calls") or fields.get("function_call")
    if role == "function_call":
        calls, content = content, None
    if calls:
        extras["tool_calls"] = _calls(calls, place, source)
    if isinstance(content, list):
        content, thoughts = _parts(cast("list[Any]", content), place, source)
        fields |= {"reasoning_content": thoughts} if thoughts else {}
    reasoning = next((str(fields[name]) for name in REASONING if str(fields.get(name) or "").strip()), "")
    extras |= {"reasoning_content": reasoning} if reasoning else {}
    for name in LEARNT:
        if fields.get(name, 1) not in (0, 1):
            raise BadRow(source, f'{place}: "{name}" is {json.dumps(fields[name])}, expected 0 or 1')
        extras |= {"weight": 0} if fields.get(name, 1) == 0 and ROLES[role.lower()] == "assistant" else {}
    reading.unused |= {f"messages.{name}": None for name in MEANT if fields.get(name)}
    role = ROLES[role.lower()]
    if content is None and calls and role == "assistant":
        content = ""
    elif not isinstance(content, str):
        raise BadRow(source, f'{place}: "content" is {kind(content)}, expected text')
    elif not content.strip() and not calls and role != "tool":
        raise BadRow(source, f'{place}: "content" holds no text; write some or remove the row')
    return Turn(role, content, json.dumps(extras) if extras else "")


def _parts(parts: Sequence[Any], place: str, source: str) -> tuple[str, str]:
    """(words, thoughts) of a content that is a list of parts, each joined."""
    words = {"text": "", "thinking": ""}
    for part in parts:
        sort = "text" if isinstance(part, str) else str(part.get("type")) if isinstance(part, dict) else kind(part)
        sort = "thinking" if sort in REASONING else "text" if sort in ("input_text", "output_text") else sort
        text = part if isinstance(part, str) else part.get("text") or part.get(sort) if isinstance(part, dict) else None
        if sort not in words or not isinstance(text, str):
            raise BadRow(source, f'{place}: "content" has a part of type {named([sort])}; only text can be learnt')
        words[sort] += text
    return words["text"], words["thinking"]


def _calls(value: Any, place: str, source: str) -> list[JsonObject]:
    """Calls of tools as templates take them; arguments that are written as text are parsed."""
    calls: list[JsonObject] = []
    value = listed(value)
    for call in value if isinstance(value, list) else [value]:
        function = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise BadRow(source, f'{place}: a call of a tool is {kind(call)} without the "name" of a function')
        arguments = listed(function.get("arguments", function.get("parameters", {})))
        entry: JsonObject = {"type": "function", "function": pruned({"name": function["name"], "arguments": arguments})}
        calls.append({"id": call["id"], **entry} if call.get("id") else entry)
    return calls


def joined(prompt: Any, reply: Any) -> list[Any]:
    """One conversation of a prompt, which is not learnt, and a reply; a reply may repeat the prompt before it."""
    prompts, replies = (
        [{"role": role, "content": text}] if isinstance(text, str) else text if isinstance(text, list) else [text]
        for role, text in (("user", prompt), ("assistant", reply))
    )
    first = replies[0] if replies and isinstance(replies[0], dict) else {}
    if first.get("role", first.get("from")) in (*FIRST, "user", "human"):
        prompts, replies = replies[:-1], replies[-1:]
    context = ({**message, "weight": 0} if isinstance(message, dict) else message for message in prompts if message)
    return [*context, *replies]


def more(turn: Turn) -> JsonObject:
    return json.loads(turn.more) if turn.more else {}


def is_learnt(turn: Turn) -> bool:
    return more(turn).get("weight", 1) != 0


def pruned(value: Any) -> Any:
    """The value without nulls: Parquet gives every object the fields of all others."""
    if isinstance(value, Mapping):
        return {name: pruned(inner) for name, inner in value.items() if inner is not None}
    return [pruned(inner) for inner in value] if isinstance(value, list) else value


def listed(value: Any) -> Any:
    """Parses a list or object that a cell holds as text, in JSON or as Python and NumPy print it; else the value."""
    text = value.strip() if isinstance(value, str) else ""
    if text[:1] + text[-1:] not in ("[]", "{}"):
        return value
    with suppress(ValueError, RecursionError):
        return json.loads(text, parse_float=Number)
    with suppress(ValueError, SyntaxError, MemoryError, RecursionError):
        # NumPy prints no comma between texts.
        literal = ast.literal_eval(re.sub(r"(?<=['\"])\s+(?=['\"])", ", ", text))
        return literal if isinstance(literal, (list, dict)) else value
    return value


def spelt(value: object) -> object:
    """A number or truth value as text, spelt as in the file; any other value as it is."""
    if isinstance(value, Number):
        return value.spelling
    return json.dumps(value) if isinstance(value, (bool, int, float)) else value


def readable(turns: Sequence[Turn]) -> str:
    """A conversation as text for people: a report, a comparison of prompts. A model sees what the template writes."""
    if len(turns) == 1:
        return turns[0].content
    return "\n".join(f"{turn.role}: {turn.content or json.dumps(more(turn).get('tool_calls', ''))}" for turn in turns)
