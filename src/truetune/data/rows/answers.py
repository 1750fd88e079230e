"""The answers of a row: aliases, published layouts of them, numbers, choices by letter, and that there is none."""

from __future__ import annotations

from collections.abc import Mapping
from string import ascii_uppercase
from typing import Any

from truetune.data.rows.messages import listed, spelt
from truetune.data.rows.row import BadRow, JsonObject, Reading, kind, named

ANSWERS = ("answer", "answers", "aliases")


def choices_of(row: JsonObject, source: str) -> dict[str, str]:
    """Label -> text, from a list, an object of labels, or ARC's object of two lists."""
    value: Any = listed(row.get("choices"))
    if isinstance(value, dict) and isinstance(value.get("text"), list):
        value = dict(zip(value.get("label") or ascii_uppercase, value["text"], strict=False))
    if isinstance(value, list):
        value = dict(zip(ascii_uppercase, value, strict=False))
    if not value:
        return {}
    if not isinstance(value, dict):
        raise BadRow(source, f'field "choices": found {kind(value)}, expected a list of texts')
    return {str(label): text_of({"choices": text}, "choices", source).strip() for label, text in value.items()}


def answers_of(
    row: JsonObject, names: tuple[str, ...], choices: Mapping[str, str], source: str, reading: Reading
) -> tuple[str, ...]:
    """All aliases in order, without repeats; empty only if the row says so: an empty list, or answerable false."""
    answerable = _truth(row.get("answerable"), source)
    # One answer, or an output, may be JSON that is to be learnt: text is parsed as a list for several answers only.
    literals = ("answer", "output")
    fields = {name: row[name] if name in literals else listed(row[name]) for name in names if row.get(name) is not None}
    answers, nulls = dict[str, None](), 0
    for name, value in fields.items():
        if isinstance(value, dict):  # SQuAD's and TriviaQA's
            value = value.get("text", [value.get("value", value), *(value.get("aliases") or [])])
        aliases: list[Any] = value if isinstance(value, list) else [value]
        nulls += aliases.count(None)
        for answer in aliases:
            if answer is not None and not (answer == "" and answerable is False):
                text = text_of({name: answer}, name, source).strip()
                answers |= dict.fromkeys(_choice(answer, text, choices, source) if choices else [text])
    if answers and answerable is False:
        raise BadRow(source, 'field "answerable": found false and an answer; drop one of them')
    reading.nulls += nulls
    if not answers and answerable is not False and (answerable is True or nulls or not fields):
        raise BadRow(source, 'field "answers": found no answer; write one, or "answerable": false if there is none')
    return tuple(answers)


def _truth(value: object, source: str) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    words = str(spelt(value)).strip().lower()
    if words not in ("", "true", "yes", "1", "false", "no", "0"):
        raise BadRow(source, f'field "answerable": found {named([words])}, expected true or false')
    return words in ("true", "yes", "1") if words else None


def _choice(answer: object, text: str, choices: Mapping[str, str], source: str) -> list[str]:
    """[text, label] of the choice that an answer names by its label, its text, or its place as a number from 0."""
    labels = {label for label in choices if text.strip("(). ").upper() == label.upper() or text == choices[label]}
    if isinstance(answer, int) and not isinstance(answer, bool):
        labels |= {*[*choices][answer : answer + 1]} if answer >= 0 else set()
    if len(labels) != 1:
        which = "may be any of" if labels else "is none of"
        raise BadRow(source, f'field "answer": {named([text])} {which} the choices {named([*choices.values()])}')
    (label,) = labels
    return [choices[label], label]


def text_of(row: JsonObject, name: str, source: str) -> str:
    value = spelt(row.get(name)) if name in (*ANSWERS, "output", "choices") else row.get(name)
    if not isinstance(value, str):
        raise BadRow(source, f'field "{name}": found {kind(value)}, expected text')
    if not value.strip():
        raise BadRow(source, f'field "{name}": found no text; write some or remove the row')
    return value
