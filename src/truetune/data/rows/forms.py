"""What each column of a row means, in every form that rows come in, and a file's own names for the fields of a form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from string import ascii_uppercase
from typing import Any, Literal, cast

from truetune.data.dataset import Example, Question, Turn, continued
from truetune.data.rows.answers import ANSWERS, answers_of, choices_of, text_of
from truetune.data.rows.messages import conversation, joined, listed, readable
from truetune.data.rows.row import BadRow, JsonObject, Reading, kind, named
from truetune.errors import UserError

Form = Literal["prompt/completion", "messages", "instruction/output", "question/answers", "text"]
Columns = Mapping[str, str]  # our name -> the file's; `instances.0.output` reaches into lists and objects
DEFAULT_TEMPLATE = "Question: {question}\nAnswer:"
FIELDS: dict[Form, tuple[str, ...]] = {
    "prompt/completion": ("prompt", "completion"),
    "messages": ("messages",),
    "instruction/output": ("instruction", "input", "output"),
    "question/answers": ("question", *ANSWERS),
    "text": ("text",),
}
ALSO_USED: dict[Form, tuple[str, ...]] = {
    "messages": ("tools", "functions", "system"),
    "instruction/output": ("answerable", "context", "system", "history"),
    "question/answers": ("answerable", "context", "system", "history", "choices"),
}
# Fields to which other tools give a meaning: the user is told which of them are not used.
MEANT = {
    *(name for fields in (*FIELDS.values(), *ALSO_USED.values()) for name in fields if name != "text"),
    *("images", "image", "videos", "audios", "weight", "label", "score", "margin", "chosen", "rejected", "documents"),
    *("reasoning", "reasoning_content", "thinking", "input_ids", "labels", "assistant_masks", "chat_template_kwargs"),
}
# Fields by which a row in the form of another tool is recognised.
THEIRS = {"conversations", "response", "query", "question_stem", "answerKey", "options", "A", "chosen"}
NOT_USED = {form: MEANT - {*FIELDS[form], *ALSO_USED.get(form, ())} for form in FIELDS}
EXPECTED: dict[Form, str] = {
    "prompt/completion": '"prompt" and "completion"',
    "messages": '"messages"',
    "instruction/output": '"instruction" and "output" (and "input")',
    "question/answers": '"question" and "answers" (or "answer", "aliases")',
    "text": '"text"',
}


def unified(row: JsonObject) -> tuple[JsonObject, str]:
    """(the row with our names in place of other tools' names, the name of its form if that is not one of ours)."""
    has_messages = isinstance(row.get("prompt"), list) or isinstance(row.get("completion"), (list, dict))
    if not has_messages and THEIRS.isdisjoint(row):
        return row, ""
    row, label = dict(row), ""
    for ours, theirs, companions in (
        ("messages", "conversations", ()),
        ("output", "response", ("instruction", "query")),
        ("instruction", "query", ("output",)),
        ("question", "query", ANSWERS),
        ("completion", "response", ("prompt",)),
        ("question", "question_stem", ()),
        ("answer", "answerKey", ()),
        ("choices", "options", ()),
    ):
        if ours not in row and theirs in row and (not companions or any(name in row for name in companions)):
            label = f"{label}/{theirs}" if label else theirs
            row[ours] = row.pop(theirs)
    if "choices" not in row and {"A", "B", "question"} <= row.keys():
        row["choices"] = {letter: row[letter] for letter in ascii_uppercase if row.get(letter) not in (None, "")}
    turns, replies = listed(row.get("messages")), {"completion", "output", "answer", "answers"} & row.keys()
    turn: Any = turns[-1] if turns and isinstance(turns, list) else {}
    if "chosen" in row and not replies and turn.get("role", turn.get("from")) in (None, "user", "human"):
        ask = next((name for name in ("instruction", "question") if name in row), "prompt")
        label, ours = f"{ask}/chosen", {"instruction": "output", "question": "answer", "prompt": "completion"}[ask]
        row[ours] = row.pop("chosen")
        if turns:
            row["prompt"] = row.pop("messages")
    if isinstance(row.get("prompt"), list) or isinstance(row.get("completion"), (list, dict)):
        label = label or "prompt/completion of messages"
        row["messages"] = joined(row.pop("prompt", None), row.pop("completion", None))
    return row, label


def form_of(row: JsonObject, source: str, first: Form | None, columns: Columns) -> Form:
    """The form of a row: the first row and mapped columns decide; a later row must have the fields of the first."""
    has_answer = "answer" in row or "answers" in row or "aliases" in row
    is_question = "question" in row and (
        has_answer or str(row.get("answerable")).strip().lower() in ("false", "no", "0")
    )
    forms: dict[Form, bool] = {
        "prompt/completion": "prompt" in row and "completion" in row,
        "messages": "messages" in row,
        "instruction/output": "instruction" in row and "output" in row,
        "question/answers": is_question,
        "text": "text" in row,
    }
    for form, is_present in forms.items():
        if is_present and first in (None, form) and all(name in FIELDS[form] for name in columns if name != "id"):
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


def example(row: JsonObject, form: Form, source: str, name: str, template: str, reading: Reading) -> Example:
    """The training example of a row, under the id `name`."""
    reading.unused |= {key: None for key in row if key in NOT_USED[form] and row[key] not in (None, "", [], {})}
    if form == "text":
        return Example(name, "", text_of(row, "text", source), source)
    if form == "messages":
        turns, last = conversation(row, source, reading)
        answers = (last.content.strip(),) if last.content.strip() else ()
        return Example(name, readable(turns), last.content, source, answers, turns=turns, more=last.more)
    if form == "prompt/completion":
        completion = text_of(row, "completion", source)
        return Example(name, text_of(row, "prompt", source), completion, source, (completion.strip(),))
    words, answers, _ = _parts(row, form, source, reading)
    if not answers:
        raise BadRow(
            source, 'no answer to learn; write the abstention to teach into "answers", such as "I don\'t know"'
        )
    context = f"{text_of(row, 'context', source)}\n" if str(row.get("context") or "").strip() else ""
    if turns := _turns(row, context + words, source):
        return Example(name, readable(turns), answers[0], source, answers, turns=turns)
    prompt = context + fill(template, words)
    return Example(name, prompt, continued(prompt, answers[0]), source, answers, words=bare(context + words, template))


def question(row: JsonObject, form: Form, source: str, name: str, template: str, reading: Reading) -> Question:
    """The question of a row, under the id `name`; a text to be read for it is its `context`."""
    if form == "text":
        expected = f"expected {EXPECTED['question/answers']}: a text asks nothing"
        raise BadRow(source, f"found the fields {named(list(row))}, {expected}")
    if form in ("messages", "prompt/completion"):
        training_row = example({**row, "context": None}, form, source, name, template, reading)
        if not training_row.answers:
            raise BadRow(source, "the last message says nothing, it calls a tool: there is no answer to judge")
        item = Question(name, training_row.prompt, training_row.answers, source, turns=training_row.turns)
    else:
        words, answers, wrong = _parts(row, form, source, reading)
        if turns := _turns(row, words, source):
            item = Question(name, readable(turns), answers, source, turns=turns, wrong=wrong)
        else:
            item = Question(name, fill(template, words), answers, source, words=bare(words, template), wrong=wrong)
    names = ("population", "cluster", "domain")
    texts = {key: value for key in names if isinstance(value := row.get(key), str) and value}
    if str(row.get("context") or "").strip():
        texts["context"] = text_of(row, "context", source)
    return replace(item, **texts)


def below_context(question: Question) -> Question:
    """The question with its context above it; in a conversation the context stands at the head of the last turn."""
    context, turns = f"{question.context}\n" if question.context else "", question.turns
    if turns:
        turns = (*turns[:-1], turns[-1]._replace(content=context + turns[-1].content))
    words = question.words and context + question.words
    return replace(question, question=context + question.question, turns=turns, words=words)


def _parts(row: JsonObject, form: Form, source: str, reading: Reading) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """(question, answers, wrong answers): below a question stand its choices, below an instruction its input."""
    if form == "instruction/output":
        instruction, input_text = text_of(row, "instruction", source), row.get("input")
        if input_text is not None and not isinstance(input_text, str):
            raise BadRow(source, f'field "input": found {kind(input_text)}, expected text')
        words = f"{instruction}\n\n{input_text}" if input_text and input_text.strip() else instruction
        output = {"output": row.get("output"), "answerable": row.get("answerable")}
        return words, answers_of(output, ("output",), {}, source, reading), ()
    choices = choices_of(row, source)
    answers, words = answers_of(row, ANSWERS, choices, source, reading), text_of(row, "question", source)
    listing = "".join(f"\n{label}. {text}" for label, text in choices.items())
    return words + listing, answers, tuple(text for text in choices.values() if text not in answers)


def _turns(row: JsonObject, words: str, source: str) -> tuple[Turn, ...]:
    """Turns of Alpaca's `system` and `history` with the question as the last; none if a row has neither."""
    history, turns = listed(row.get("history")) or [], list[Turn]()
    if str(row.get("system") or "").strip():
        turns.append(Turn("system", text_of(row, "system", source)))
    for pair in history:
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise BadRow(source, f'field "history": found {kind(pair)}, expected pairs of a question and an answer')
        turns += [Turn("user", pair[0]), Turn("assistant", pair[1])]
    return (*turns, Turn("user", words)) if turns else ()


def bare(question: str, template: str) -> str:
    """The question alone, for the model's own form; empty if the user typed a template, which is then the form."""
    return question if template in (DEFAULT_TEMPLATE, "{question}") else ""


def fill(prompt_template: str, question: str) -> str:
    """Only `{question}` is replaced, so that a template may hold other braces."""
    if "{question}" not in prompt_template:
        raise UserError(f"data.prompt_template: found {prompt_template!r}, it must contain {{question}}")
    return prompt_template.replace("{question}", question)
