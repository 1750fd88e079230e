"""Your files to training examples and probe questions, with every row accounted for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, cast

from truetune.data.dataset import Example, Question, continued
from truetune.data.jsonl import MAX_LINE_BYTES, BadRow, Paths, Record, Row, data_files, kind, named, read_utf8, scan
from truetune.data.jsonl import iter_jsonl as iter_jsonl
from truetune.errors import UserError

Format = Literal["prompt/completion", "question/answers", "text"]
OnBadRow = Literal["error", "skip"]
DEFAULT_TEMPLATE = "Question: {question}\nAnswer:"
ANSWERS = ("answer", "answers", "aliases")
EXPECTED: dict[Format, str] = {
    "prompt/completion": '"prompt" and "completion"',
    "question/answers": '"question" and "answers" (or "answer", "aliases")',
    "text": '"text"',
}


@dataclass(frozen=True)
class Reading:
    """Rows read, rows skipped and blank lines add up to the lines of the files; skipped rows are (source, reason)."""

    examples: list[Example]
    format: str
    rows_read: int
    rows_skipped: list[tuple[str, str]]
    blank_lines: int = 0


def read_examples(
    path: Paths,
    *,
    prompt_template: str = DEFAULT_TEMPLATE,
    on_bad_row: OnBadRow = "error",
    max_line_bytes: int = MAX_LINE_BYTES,
) -> Reading:
    """One file, several, or the .jsonl and .json files of a folder; each file's format is that of its first row.

    A completion made from an answer starts with one space unless the prompt ends in white space; a `completion` is
    taken as it stands. A .txt file is one example.
    """
    fill(prompt_template, "")

    def make(row: Row, form: Format, record: Record, name: str) -> Example:
        prompt, completion, answers = _learnt(row, form, record.source, prompt_template)
        return Example(name, prompt, completion, record.source, answers)

    gathered: _Gathered[Example] = _Gathered(make, on_bad_row)
    for file in data_files(path):
        if file.suffix.lower() == ".txt":
            gathered.keep(Example(file.stem, "", read_text(file), str(file)), "text")
        else:
            gathered.read(file, max_line_bytes)
    formats = ", ".join(gathered.formats)
    return Reading(gathered.kept, formats, len(gathered.kept), gathered.skipped, gathered.blank)


def read_questions(
    path: Paths, *, prompt_template: str = "{question}", max_line_bytes: int = MAX_LINE_BYTES
) -> list[Question]:
    """The template is for `question` fields; a `prompt` is asked as it stands. No row is ever skipped."""
    fill(prompt_template, "")

    def make(row: Row, form: Format, record: Record, name: str) -> Question:
        if form == "text":
            raise BadRow(record.source, f"{_found(row)}, expected {EXPECTED['question/answers']}: a text asks nothing")
        if form == "prompt/completion":
            asked, answers = _text(row, "prompt", record.source), (_text(row, "completion", record.source).strip(),)
        else:
            asked = fill(prompt_template, _text(row, "question", record.source))
            answers = _answers(row, record.source)
        more: dict[str, Any] = {
            key: value for key in ("population", "cluster") if isinstance(value := row.get(key), str) and value
        }
        if row.get("context") is not None:
            more["context"] = _text(row, "context", record.source)
        return Question(name, asked, answers, record.source, **more)

    gathered: _Gathered[Question] = _Gathered(make, "error")
    for file in data_files(path):
        if file.suffix.lower() == ".txt":
            raise UserError(f"{file}: a text asks nothing; questions are read from .jsonl or .json files")
        gathered.read(file, max_line_bytes)
    return gathered.kept


def read_text(path: str | Path) -> str:
    """A whole text file, its line ends as \\n; raises if there is nothing but white space."""
    text = read_utf8(Path(path)).replace("\r\n", "\n")
    if not text.strip():
        raise UserError(f"{Path(path).absolute()}: the file holds no text")
    return text


def overlap(
    train: Sequence[Example], questions: Sequence[Question], prompt_template: str = DEFAULT_TEMPLATE
) -> list[str]:
    """Ids of questions that training asks too, bare or in the template; case and spacing do not tell them apart."""
    trained = {normalised(example.prompt) for example in train if example.prompt}
    asked = ((q.id, {normalised(q.question), normalised(fill(prompt_template, q.question))}) for q in questions)
    return [name for name, forms in asked if forms & trained]


def fill(prompt_template: str, question: str) -> str:
    """Only `{question}` is replaced, so that a template may hold other braces."""
    if "{question}" not in prompt_template:
        raise UserError(f"data.prompt_template: found {prompt_template!r}, it must contain {{question}}")
    return prompt_template.replace("{question}", question)


Made = TypeVar("Made", Example, Question)


@dataclass
class _Gathered(Generic[Made]):
    """Rows of any number of files, under ids that are unique over all of them."""

    make: Callable[[Row, Format, Record, str], Made]
    on_bad_row: OnBadRow
    kept: list[Made] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    formats: dict[Format, None] = field(default_factory=dict)
    blank: int = 0
    places: dict[str, str] = field(default_factory=dict)

    def read(self, file: Path, max_line_bytes: int) -> None:
        form: Format | None = None
        kept_before, skipped_before = len(self.kept), len(self.skipped)
        for record in scan(file, max_line_bytes):
            if record.content is None:
                self.blank += 1
                continue
            try:
                if isinstance(record.content, BadRow):
                    raise record.content
                form = _format(record.content, record.source, form)
                self.keep(self.make(record.content, form, record, _id(record.content, file, record.number)), form)
            except BadRow as fault:
                if self.on_bad_row == "error":
                    raise
                self.skipped.append((record.source, fault.reason))
        if len(self.kept) == kept_before:
            source, reason = self.skipped[skipped_before]
            raise UserError(f"{file}: no row can be used; the first fault is {source}: {reason}")

    def keep(self, item: Made, form: Format) -> None:
        if item.id in self.places:
            raise BadRow(
                item.source,
                f'the id {named([item.id])} is that of {self.places[item.id]} too; give each row an "id" of its own',
            )
        self.places[item.id] = item.source
        self.kept.append(item)
        self.formats[form] = None


def _format(row: Row, source: str, first: Format | None) -> Format:
    """The first row decides; a later one must have its fields."""
    asks = "question" in row and (any(name in row for name in ANSWERS) or row.get("answerable") is False)
    has: dict[Format, bool] = {
        "prompt/completion": "prompt" in row and "completion" in row,
        "question/answers": asks,
        "text": "text" in row,
    }
    for form, present in has.items():
        if present and first in (None, form):
            return form
    if first is None:
        raise BadRow(source, f"{_found(row)}, expected {', or '.join(EXPECTED.values())}")
    raise BadRow(source, f"{_found(row)}, expected {EXPECTED[first]} as in the rows before; use a file per format")


def _learnt(row: Row, form: Format, source: str, template: str) -> tuple[str, str, tuple[str, ...]]:
    if form == "text":
        return "", _text(row, "text", source), ()
    if form == "prompt/completion":
        completion = _text(row, "completion", source)
        return _text(row, "prompt", source), completion, (completion.strip(),)
    prompt = fill(template, _text(row, "question", source))
    answers = _answers(row, source)
    if not answers:
        raise BadRow(
            source, 'no answer to learn; write the abstention to teach into "answers", such as "I don\'t know"'
        )
    return prompt, continued(prompt, answers[0]), answers


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


def _id(row: Row, file: Path, number: int) -> str:
    given = row.get("id")
    if isinstance(given, bool) or not isinstance(given, (str, int)) or not str(given).strip():
        return f"{file.stem}:{number}"
    return str(given)


def _found(row: Row) -> str:
    return f"found the fields {named(list(row))}"


def normalised(text: str) -> str:
    return " ".join(text.casefold().split())
