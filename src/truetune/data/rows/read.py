"""Your files to training examples and probe questions, with every row accounted for."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, Literal, TypeVar

from truetune.data.dataset import Example, Question, stored
from truetune.data.rows.columns import Columns, renamed
from truetune.data.rows.formats import DEFAULT_TEMPLATE, Format, example, fill, form_of, question
from truetune.data.rows.json_rows import MAX_LINE_BYTES, ROWS, BadRow, Record, Row, named, read_utf8, scan
from truetune.data.rows.stored import Seen, Stored
from truetune.errors import UserError

OnBadRow = Literal["error", "skip"]
Paths = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class Reading:
    """Rows read, rows skipped and blank lines add up to the lines of the files; skipped rows are (source, reason)."""

    examples: Stored[Example]
    format: str
    rows_read: int
    rows_skipped: list[tuple[str, str]]
    blank_lines: int = 0

    @property
    def asks_questions(self) -> bool:
        """Whether prompts are questions in the prompt template."""
        return "question/" in self.format or "instruction/" in self.format


def read_examples(
    path: Paths,
    *,
    prompt_template: str = DEFAULT_TEMPLATE,
    on_bad_row: OnBadRow = "error",
    max_line_bytes: int = MAX_LINE_BYTES,
    columns: Columns | None = None,
) -> Reading:
    """One file, several, or the files of a folder; each file's format is that of its first row.

    A completion made from an answer starts with one space unless the prompt ends in white space; a `completion` is
    taken as it stands. A .txt file is one example.
    """
    fill(prompt_template, "")
    examples = stored()
    gathered = _Gathered(examples, example, prompt_template, on_bad_row, columns or {})
    for file in data_files(path):
        if file.suffix.lower() == ".txt":
            gathered.keep(Example(file.stem, "", read_text(file), str(file)), "text")
        else:
            gathered.read(file, scan(file, max_line_bytes))
    return gathered.reading(examples)


def read_records(
    name: str, records: Iterable[Record], *, prompt_template: str, on_bad_row: OnBadRow, columns: Columns
) -> Reading:
    """As `read_examples`, of rows that come from no file; `name` is that of the data set."""
    fill(prompt_template, "")
    examples = stored()
    gathered = _Gathered(examples, example, prompt_template, on_bad_row, columns)
    gathered.read(Path(name), records)
    return gathered.reading(examples)


def read_questions(
    path: Paths,
    *,
    prompt_template: str = "{question}",
    max_line_bytes: int = MAX_LINE_BYTES,
    columns: Columns | None = None,
) -> list[Question]:
    """The template is for `question` fields; a `prompt` is asked as it stands. No row is ever skipped."""
    fill(prompt_template, "")
    questions: list[Question] = []
    gathered = _Gathered(questions, question, prompt_template, "error", columns or {})
    for file in data_files(path):
        if file.suffix.lower() == ".txt":
            raise UserError(f"{file}: a text asks nothing; questions are read from files of rows")
        gathered.read(file, scan(file, max_line_bytes))
    return questions


def ask_records(name: str, records: Iterable[Record], *, prompt_template: str, columns: Columns) -> list[Question]:
    """As `read_questions`, of rows that come from no file."""
    fill(prompt_template, "")
    questions: list[Question] = []
    _Gathered(questions, question, prompt_template, "error", columns).read(Path(name), records)
    return questions


def data_files(path: Paths) -> Iterator[Path]:
    """A folder stands for its files of rows in the order of their names."""
    given = [path] if isinstance(path, (str, Path)) else list(path)
    if not given:
        raise UserError("no data file is named; name at least one .jsonl, .json, .csv, .parquet or .txt file")
    for entry in map(Path, given):
        if os.path.isdir(entry):
            found = sorted(p for p in entry.glob("*") if p.suffix.lower() in ROWS and p.name[0] != ".")
            if not found:
                raise UserError(f"{entry.absolute()}: the folder holds no {_or(ROWS)} file; name a file")
            yield from found
        elif entry.suffix.lower() in (*ROWS, ".txt") or not os.path.exists(entry):
            yield entry  # a missing file is said to be missing, whatever its name
        else:
            raise UserError(f"{entry.absolute()}: the name ends in {entry.suffix!r}, expected {_or((*ROWS, '.txt'))}")


def _or(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def read_text(path: str | Path) -> str:
    """A whole text file, its line ends as \\n; raises if there is nothing but white space."""
    text = read_utf8(Path(path)).replace("\r\n", "\n")
    if not text.strip():
        raise UserError(f"{Path(path).absolute()}: the file holds no text")
    return text


def read_template(named: str | None) -> str | None:
    """`auto` and None stand for themselves, anything else for a file of Jinja."""
    if named in (None, "auto"):
        return named
    try:
        return read_text(named)
    except UserError as error:
        raise UserError(f"data.chat_template={named}: {error} (auto, null or a Jinja file)") from None


Made = TypeVar("Made", Example, Question)


@dataclass
class _Gathered(Generic[Made]):
    """Rows of any number of files, under ids that are unique over all of them."""

    kept: list[Made] | Stored[Made]
    make: Callable[[Row, Format, str, str, str], Made]
    prompt_template: str
    on_bad_row: OnBadRow
    columns: Columns
    skipped: list[tuple[str, str]] = field(default_factory=list)
    formats: dict[Format, None] = field(default_factory=dict)
    blank: int = 0
    ids: Seen = field(default_factory=Seen)
    places: dict[str, str] | None = None  # of each id, from the first one on that comes again

    def reading(self, examples: Stored[Example]) -> Reading:
        return Reading(examples, ", ".join(self.formats), len(examples), self.skipped, self.blank)

    def read(self, file: Path, records: Iterable[Record]) -> None:
        form: Format | None = None
        kept_before, skipped_before = len(self.kept), len(self.skipped)
        for record in records:
            if record.content is None:
                self.blank += 1
                continue
            try:
                if isinstance(record.content, BadRow):
                    raise record.content
                row, source = renamed(record.content, self.columns, record.source), record.source
                form = form_of(row, source, form, self.columns)
                name = _id(row, file, record.number)
                self.keep(self.make(row, form, source, name, self.prompt_template), form)
            except BadRow as fault:
                if self.on_bad_row == "error":
                    raise
                self.skipped.append((record.source, fault.reason))
        if len(self.kept) == kept_before:
            source, reason = self.skipped[skipped_before]
            raise UserError(f"{file}: no row can be used; the first fault is {source}: {reason}")

    def keep(self, item: Made, form: Format) -> None:
        if self.places is None and item.id in self.ids:
            self.places = {row.id: row.source for row in self.kept}
        if self.places is not None and item.id in self.places:
            raise BadRow(
                item.source,
                f'the id {named([item.id])} is that of {self.places[item.id]} too; give each row an "id" of its own',
            )
        if self.places is None:
            self.ids.add(item.id)
        else:
            self.places[item.id] = item.source
        self.kept.append(item)
        self.formats[form] = None


def _id(row: Row, file: Path, number: int) -> str:
    given = row.get("id")
    if isinstance(given, bool) or not isinstance(given, (str, int)) or not str(given).strip():
        return f"{file.stem}:{number}"
    return str(given)


def together(questions: Sequence[Question]) -> list[Question]:
    """Rows that ask the very same, and so get one and the same answer, as one cluster."""
    times = Counter(question.question for question in questions)
    return [q if q.cluster or times[q.question] == 1 else replace(q, cluster=q.question) for q in questions]


def in_context(questions: Sequence[Question]) -> list[Question]:
    """Those to be asked below their context: other questions than without it, so under other ids."""
    return [replace(question, id=f"{question.id}/context") for question in questions if question.context]
