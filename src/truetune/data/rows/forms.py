"""The forms that a row may have, what each teaches and asks, and a file's own names for the fields of a form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, cast

from truetune.data.dataset import Example, Question, Turn, continued
from truetune.data.rows.row import BadRow, JsonObject, kind, named
from truetune.errors import UserError

Form = Literal["prompt/completion", "messages", "instruction/output", "question/answers", "text"]
Columns = Mapping[str, str]  # our name -> the file's; `instances.0.output` reaches into lists and objects
DEFAULT_TEMPLATE = "Question: {question}\nAnswer:"
ANSWERS = ("answer", "answers", "aliases")
FIELDS: dict[Form, tuple[str, ...]] = {
    "prompt/completion": ("prompt", "completion"),
    "messages": ("messages",),
    "instruction/output": ("instruction", "input", "output"),
    "question/answers": ("question", *ANSWERS),
    "text": ("text",),
}
EXPECTED: dict[Form, str] = {
    "prompt/completion": '"prompt" and "completion"',
    "messages": '"messages"',
    "instruction/output": '"instruction" and "output" (and "input")',
    "question/answers": '"question" and "answers" (or "answer", "aliases")',
    "text": '"text"',
}
ROLES = ("system", "user", "assistant")


def form_of(row: JsonObject, source: str, first: Form | None, columns: Columns) -> Form:
    """The first row decides, and a column that was mapped; a later row must have the fields of the first."""
    asks = "question" in row and (any(name in row for name in ANSWERS) or row.get("answerable") is False)
    has: dict[Form, bool] = {
        "prompt/completion": "prompt" in row and "completion" in row,
        "messages": "messages" in row,
        "instruction/output": "instruction" in row and "output" in row,
        "question/answers": asks,
        "text": "text" in row,
    }
    for form, present in has.items():
        if present and first in (None, form) and all(name in FIELDS[form] for name in columns if name != "id"):
            return form
    fields = f"found the fields {named(list(row))}"
    if first is None:
        raise BadRow(source, f"{fields}, expected {', or '.join(EXPECTED.values())}")
    raise BadRow(source, f"{fields}, expected {EXPECTED[first]} as in the rows before; use a file per format")


def renamed(row: JsonObject, columns: Columns, source: str) -> JsonObject:
    """The row with our names beside its own; raises BadRow for a column that it lacks."""
    values: JsonObject = {}
    for name, path in columns.items():
        value: object = row
        for index, part in enumerate([path] if path in row else path.split(".")):
            if isinstance(value, dict) and part in value:
                value = value[part]
            elif isinstance(value, list) and part.isdecimal() and int(part) < len(cast("list[object]", value)):
                value = cast("list[object]", value)[int(part)]
            else:
                where = f"no column {named([part])}" if index == 0 else f"nothing at {part!r} of {path!r}"
                raise BadRow(source, f"data.columns.{name}={path}: {where}; the columns are {named(list(row))}")
        values[name] = value
    return {**row, **values}


def example(row: JsonObject, form: Form, source: str, name: str, template: str) -> Example:
    """What the row teaches, under the id `name`."""
    if form == "text":
        return Example(name, "", _text(row, "text", source), source)
    if form == "messages":
        turns, answer = conversation(row["messages"], source)
        return Example(name, readable(turns), answer, source, (answer.strip(),), turns=turns)
    if form == "prompt/completion":
        completion = _text(row, "completion", source)
        return Example(name, _text(row, "prompt", source), completion, source, (completion.strip(),))
    asked, answers = _asked(row, form, source)
    prompt = fill(template, asked)
    if not answers:
        raise BadRow(
            source, 'no answer to learn; write the abstention to teach into "answers", such as "I don\'t know"'
        )
    return Example(name, prompt, continued(prompt, answers[0]), source, answers, words=bare(asked, template))


def question(row: JsonObject, form: Form, source: str, name: str, template: str) -> Question:
    """What the row asks, under the id `name`."""
    if form == "text":
        expected = f"expected {EXPECTED['question/answers']}: a text asks nothing"
        raise BadRow(source, f"found the fields {named(list(row))}, {expected}")
    if form in ("messages", "prompt/completion"):
        taught = example(row, form, source, name, template)
        plain = Question(name, taught.prompt, taught.answers, source, turns=taught.turns)
    else:
        asked, answers = _asked(row, form, source)
        plain = Question(name, fill(template, asked), answers, source, words=bare(asked, template))
    names = ("population", "cluster", "domain")
    more = {key: value for key in names if isinstance(value := row.get(key), str) and value}
    if row.get("context") is not None:
        more["context"] = _text(row, "context", source)
    return replace(plain, **more)


def _asked(row: JsonObject, form: Form, source: str) -> tuple[str, tuple[str, ...]]:
    """(question, answers): an instruction is a question, with its input, if there is one, below it."""
    if form != "instruction/output":
        return _text(row, "question", source), _answers(row, source)
    instruction, given = _text(row, "instruction", source), row.get("input")
    if given is not None and not isinstance(given, str):
        raise BadRow(source, f'field "input": found {kind(given)}, expected text')
    asked = f"{instruction}\n\n{given}" if given and given.strip() else instruction
    output = _text(row, "output", source)
    return asked, _answers({"answers": output, "answerable": row.get("answerable")}, source)


def _answers(row: JsonObject, source: str) -> tuple[str, ...]:
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


def _text(row: JsonObject, name: str, source: str) -> str:
    value = row.get(name)
    if not isinstance(value, str):
        raise BadRow(source, f'field "{name}": found {kind(value)}, expected text')
    if not value.strip():
        raise BadRow(source, f'field "{name}": found no text; write some or remove the row')
    return value


def bare(question: str, template: str) -> str:
    """The question alone, for the model's own form; a template that the user typed is the form to be used."""
    return question if template in (DEFAULT_TEMPLATE, "{question}") else ""


def fill(prompt_template: str, question: str) -> str:
    """Only `{question}` is replaced, so that a template may hold other braces."""
    if "{question}" not in prompt_template:
        raise UserError(f"data.prompt_template: found {prompt_template!r}, it must contain {{question}}")
    return prompt_template.replace("{question}", question)


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
        fault = f'"role" is {named([role])}' if isinstance(role, str) else f"found the fields {named(list(fields))}"
        raise BadRow(source, f'{place}: {fault}, expected a "role" of {", ".join(ROLES)}')
    if not isinstance(content, str):
        raise BadRow(source, f'{place}: "content" is {kind(content)}, expected text')
    if not content.strip():
        raise BadRow(source, f'{place}: "content" holds no text; write some or remove the row')
    return Turn(str(role), content)


def readable(turns: Sequence[Turn]) -> str:
    """A conversation for people: a report, a comparison of prompts. A model sees what the chat template writes."""
    return turns[0].content if len(turns) == 1 else "\n".join(f"{turn.role}: {turn.content}" for turn in turns)
