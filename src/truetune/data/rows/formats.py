"""The forms that a row may have, and what each teaches and asks."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, cast

from truetune.data.dataset import Example, Question, continued
from truetune.data.rows.columns import Columns
from truetune.data.rows.conversations import conversation, readable
from truetune.data.rows.json_rows import BadRow, Row, kind, named
from truetune.errors import UserError

Format = Literal["prompt/completion", "messages", "instruction/output", "question/answers", "text"]
DEFAULT_TEMPLATE = "Question: {question}\nAnswer:"
ANSWERS = ("answer", "answers", "aliases")
FIELDS: dict[Format, tuple[str, ...]] = {
    "prompt/completion": ("prompt", "completion"),
    "messages": ("messages",),
    "instruction/output": ("instruction", "input", "output"),
    "question/answers": ("question", *ANSWERS),
    "text": ("text",),
}
EXPECTED: dict[Format, str] = {
    "prompt/completion": '"prompt" and "completion"',
    "messages": '"messages"',
    "instruction/output": '"instruction" and "output" (and "input")',
    "question/answers": '"question" and "answers" (or "answer", "aliases")',
    "text": '"text"',
}


def form_of(row: Row, source: str, first: Format | None, columns: Columns) -> Format:
    """The first row decides, and a column that was mapped; a later row must have the fields of the first."""
    asks = "question" in row and (any(name in row for name in ANSWERS) or row.get("answerable") is False)
    has: dict[Format, bool] = {
        "prompt/completion": "prompt" in row and "completion" in row,
        "messages": "messages" in row,
        "instruction/output": "instruction" in row and "output" in row,
        "question/answers": asks,
        "text": "text" in row,
    }
    for form, present in has.items():
        if present and first in (None, form) and all(name in FIELDS[form] for name in columns if name != "id"):
            return form
    if first is None:
        raise BadRow(source, f"{_found(row)}, expected {', or '.join(EXPECTED.values())}")
    raise BadRow(source, f"{_found(row)}, expected {EXPECTED[first]} as in the rows before; use a file per format")


def example(row: Row, form: Format, source: str, name: str, template: str) -> Example:
    if form == "text":
        return Example(name, "", _text(row, "text", source), source)
    if form == "messages":
        turns, answer = conversation(row["messages"], source)
        return Example(name, readable(turns), answer, source, (answer.strip(),), turns=turns)
    if form == "prompt/completion":
        completion = _text(row, "completion", source)
        return Example(name, _text(row, "prompt", source), completion, source, (completion.strip(),))
    row = _as_question(row, form, source)
    prompt = fill(template, _text(row, "question", source))
    answers = _answers(row, source)
    if not answers:
        raise BadRow(
            source, 'no answer to learn; write the abstention to teach into "answers", such as "I don\'t know"'
        )
    return Example(name, prompt, continued(prompt, answers[0]), source, answers)


def question(row: Row, form: Format, source: str, name: str, template: str) -> Question:
    if form == "text":
        raise BadRow(source, f"{_found(row)}, expected {EXPECTED['question/answers']}: a text asks nothing")
    if form in ("messages", "prompt/completion"):
        asking = example(row, form, source, name, template)
        found = Question(name, asking.prompt, asking.answers, source, turns=asking.turns)
    else:
        row = _as_question(row, form, source)
        found = Question(name, fill(template, _text(row, "question", source)), _answers(row, source), source)
    more = {key: value for key in ("population", "cluster") if isinstance(value := row.get(key), str) and value}
    if row.get("context") is not None:
        more["context"] = _text(row, "context", source)
    return replace(found, **more)


def _as_question(row: Row, form: Format, source: str) -> Row:
    """An instruction is a question, with its input, if there is one, below it."""
    if form != "instruction/output":
        return row
    asked, given = _text(row, "instruction", source), row.get("input")
    if given is not None and not isinstance(given, str):
        raise BadRow(source, f'field "input": found {kind(given)}, expected text')
    with_input = f"{asked}\n\n{given}" if given and given.strip() else asked
    return {**row, "question": with_input, "answers": _text(row, "output", source), "answer": None, "aliases": None}


def _answers(row: Row, source: str) -> tuple[str, ...]:
    """All aliases in order, without repeats; nothing only if the row says so: an empty list, or answerable false."""
    answerable = row.get("answerable")
    if answerable is not None and not isinstance(answerable, bool):
        raise BadRow(source, f'field "answerable": found {kind(answerable)}, expected true or false')
    given = {name: row[name] for name in ANSWERS if row.get(name) is not None}
    answers: dict[str, None] = {}
    for name, value in given.items():
        for answer in cast("list[object]", value) if isinstance(value, list) else [value]:
            answers[_text({name: answer}, name, source).strip()] = None
    if answers and answerable is False:
        raise BadRow(source, 'field "answerable": found false and an answer; drop one of them')
    if not answers and answerable is not False and (answerable is True or not given):
        raise BadRow(source, 'field "answers": found no answer; write one, or "answerable": false if there is none')
    return tuple(answers)


def _text(row: Row, name: str, source: str) -> str:
    value = row.get(name)
    if not isinstance(value, str):
        raise BadRow(source, f'field "{name}": found {kind(value)}, expected text')
    if not value.strip():
        raise BadRow(source, f'field "{name}": found no text; write some or remove the row')
    return value


def _found(row: Row) -> str:
    return f"found the fields {named(list(row))}"


def fill(prompt_template: str, question: str) -> str:
    """Only `{question}` is replaced, so that a template may hold other braces."""
    if "{question}" not in prompt_template:
        raise UserError(f"data.prompt_template: found {prompt_template!r}, it must contain {{question}}")
    return prompt_template.replace("{question}", question)
