"""Rows of chat messages: checked, and split into what was said before and the answer that comes last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from truetune.data.dataset import Turn
from truetune.data.rows.json_rows import BadRow, kind, named

ROLES = ("system", "user", "assistant")


def conversation(value: object, source: str) -> tuple[tuple[Turn, ...], str]:
    """(the turns before, the last assistant turn); raises BadRow naming the message that cannot be used."""
    if not isinstance(value, list):
        raise BadRow(source, f'field "messages": found {kind(value)}, expected a list of {{"role", "content"}} objects')
    turns = [_turn(message, number, source) for number, message in enumerate(cast("list[object]", value), start=1)]
    roles = [turn.role for turn in turns]
    if "assistant" not in roles:
        raise BadRow(source, 'field "messages": no assistant turn, so nothing would be learnt; add one')
    if roles[-1] != "assistant":
        raise BadRow(source, f'field "messages": the last turn is of the {roles[-1]}; it must be the assistant\'s')
    if roles.count("system") > 1:
        raise BadRow(source, 'field "messages": two system turns; join them into one')
    if "system" in roles[1:]:
        raise BadRow(source, 'field "messages": the system turn must be the first')
    if "user" not in roles[: roles.index("assistant")]:
        raise BadRow(source, 'field "messages": the assistant speaks before any user; put a user turn first')
    return tuple(turns[:-1]), turns[-1].content


def _turn(message: object, number: int, source: str) -> Turn:
    place = f'field "messages", message {number}'
    if not isinstance(message, dict):
        raise BadRow(source, f'{place}: found {kind(message)}, expected {{"role": ..., "content": ...}}')
    fields = cast("dict[str, object]", message)
    role, content = fields.get("role"), fields.get("content")
    if role not in ROLES:
        found = f'"role" is {named([role])}' if isinstance(role, str) else f"found the fields {named(list(fields))}"
        raise BadRow(source, f'{place}: {found}, expected a "role" of {", ".join(ROLES)}')
    if not isinstance(content, str):
        raise BadRow(source, f'{place}: "content" is {kind(content)}, expected text')
    if not content.strip():
        raise BadRow(source, f'{place}: "content" holds no text; write some or remove the row')
    return Turn(str(role), content)


def readable(turns: Sequence[Turn]) -> str:
    """For people: a report, a comparison of prompts. What a model sees is what the chat template writes."""
    if len(turns) == 1:
        return turns[0].content
    return "\n".join(f"{turn.role}: {turn.content}" for turn in turns)
