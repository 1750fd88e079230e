"""Reads a user's files into training examples and probe questions, with every row accounted for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, Literal, NamedTuple, TypeVar

from truetune.data.dataset import Example, Question, examples
from truetune.data.rows.files import PROBE, data_files, file_records
from truetune.data.rows.forms import DEFAULT_TEMPLATE, Columns, Form, example, fill, form_of, question, renamed, unified
from truetune.data.rows.many import Seen
from truetune.data.rows.row import BadRow, JsonObject, Reading, Record, named, read_utf8
from truetune.errors import UserError

OnBadRow = Literal["error", "skip"]
T = TypeVar("T", Example, Question)


class NamedRows(NamedTuple):
    """Rows that come from no file; `name` is that of the data set, `records` reads them from the first on."""

    name: str
    records: Callable[[], Iterable[Record]]

    def __str__(self) -> str:
        return self.name


Rows = str | Path | Sequence[str | Path] | NamedRows  # a file, several, a folder of them, or none at all


@dataclass(frozen=True)
class ReadRows:
    """Rows read and rows skipped add up to the rows of the files; skipped rows are (source, reason)."""

    examples: Sequence[Example]
    format: str
    rows_read: int
    rows_skipped: list[tuple[str, str]]
    remarks: Sequence[str] = ()
    fields_not_used: Sequence[str] = ()
    below_contexts: bool = False  # whether rows are learnt below what is to be read for them

    def notes(self, name: str) -> list[str]:
        notes = [f"{name}: {self.rows_read} rows, recognised as {self.format}", *self.remarks]
        if self.rows_skipped:
            source, reason = self.rows_skipped[0]
            notes.append(f"{len(self.rows_skipped)} rows skipped, the first: {source}: {reason}")
        return notes


def read_examples(
    rows: Rows,
    *,
    prompt_template: str = DEFAULT_TEMPLATE,
    on_bad_row: OnBadRow = "error",
    columns: Columns | None = None,
    splits: Sequence[str] = ("train",),
) -> ReadRows:
    """The examples that rows teach; a file's form is that of its first row, and a .txt file is one example.

    A completion made from an answer starts with one space unless the prompt ends in white space; a `completion` is
    taken as it stands.
    """
    reader = _Reader(example, prompt_template, on_bad_row, columns or {}, Reading(splits))
    items = examples(reader.read(rows))
    remarks, fields = reader.reading.notes, [*reader.reading.unused]
    return ReadRows(
        items, ", ".join(reader.reading.forms), len(items), reader.skipped, remarks, fields, reader.below_contexts
    )


def read_questions(
    rows: Rows,
    *,
    prompt_template: str = "{question}",
    columns: Columns | None = None,
    reading: Reading | None = None,
) -> list[Question]:
    """The questions that rows ask. The template is for `question` fields; a `prompt` is asked as it stands.

    No row is skipped. `reading` collects the notes on the files.
    """
    return list(_Reader(question, prompt_template, "error", columns or {}, reading or Reading(PROBE)).read(rows))


@dataclass
class _Reader(Generic[T]):
    """Makes an example or a question of each row of any number of files, under ids that are unique over all of them."""

    make: Callable[[JsonObject, Form, str, str, str, Reading], T]
    prompt_template: str
    on_bad_row: OnBadRow
    columns: Columns
    reading: Reading
    skipped: list[tuple[str, str]] = field(default_factory=list)
    below_contexts: bool = False
    ids: Seen | None = field(default_factory=Seen)  # None: ids may repeat
    first_places: dict[str, str] = field(default_factory=dict)  # where each id first stood; filled once an id repeats

    def read(self, rows: Rows) -> Iterator[T]:
        fill(self.prompt_template, "")
        if isinstance(rows, NamedRows):
            yield from self._read_file(Path(rows.name), rows.records(), rows)
            return
        for file in data_files(rows, self.reading):
            if file.suffix.lower() != ".txt":
                yield from self._read_file(file, file_records(file, self.reading), rows)
            elif self.make is question:
                raise UserError(f"{file}: a text asks nothing; questions are read from files of rows")
            else:
                text = Record(1, str(file), {"id": file.stem, "text": read_text(file)})
                yield from replace(self, columns={})._read_file(file, [text], rows)

    def _read_file(self, file: Path, records: Iterable[Record], rows: Rows) -> Iterator[T]:
        form: Form | None = None
        has_usable_row, skipped_count, reading = False, len(self.skipped), Reading()
        for record in records:
            if record.content is None:
                continue
            try:
                if isinstance(record.content, BadRow):
                    raise record.content
                source = record.source
                row, label = unified(renamed(record.content, self.columns, source))
                form = form_of(row, source, form, self.columns)
                name = row.get("id")
                if isinstance(name, bool) or not isinstance(name, (str, int)) or not str(name).strip():
                    name = f"{file.stem}:{record.number}"
                item = self.make(row, form, source, str(name), self.prompt_template, reading)
                self._check_id(item, rows)
            except BadRow as fault:
                if self.on_bad_row == "error":
                    raise
                self.skipped.append((record.source, fault.reason))
            else:
                self.reading.forms[f"{label} ({form})" if label else form] = None
                self.below_contexts |= bool(row.get("context")) and form in ("question/answers", "instruction/output")
                has_usable_row = True
                yield item
        if not has_usable_row:
            source, reason = self.skipped[skipped_count]
            raise UserError(f"{file}: no row can be used; the first fault is {source}: {reason}")
        self.reading.unused |= reading.unused
        if reading.unused:
            self.reading.notes.append(f"{file}: not used: {', '.join(reading.unused)}")
        if reading.nulls:
            self.reading.notes.append(f"{file}: {reading.nulls} null answers left out")

    def _check_id(self, item: T, rows: Rows) -> None:
        """Raises BadRow for a repeated id. Only hashes of ids are kept: its first place is found by reading anew."""
        if self.ids is None:
            return
        if item.id not in self.ids:
            self.ids.add(item.id)
            return
        if not self.first_places:
            reading = Reading(self.reading.splits)
            second_reader = replace(self, on_bad_row="skip", reading=reading, skipped=[], ids=None)
            with suppress(UserError):  # what is wrong with a later file is reported when it is reached
                for first_item in second_reader.read(rows):
                    self.first_places.setdefault(first_item.id, first_item.source)
        place = self.first_places[item.id]
        raise BadRow(item.source, f'the id {named([item.id])} is that of {place} too; give each row an "id" of its own')


def read_text(path: str | Path) -> str:
    """All of a text file, its line ends as \\n; raises if there is nothing but white space."""
    text = read_utf8(Path(path)).replace("\r\n", "\n")
    if not text.strip():
        raise UserError(f"{Path(path).absolute()}: the file holds no text")
    return text


def read_template(name: str | None) -> str | None:
    """The text of the Jinja file of that name; `auto` and None are returned as they are."""
    if name in (None, "auto"):
        return name
    try:
        return read_text(name)
    except UserError as error:
        raise UserError(f"data.chat_template={name}: {error} (auto, null or a Jinja file)") from None


def together(questions: Sequence[Question]) -> list[Question]:
    """The questions, where those that ask the very same, and so get the same answer, become one cluster."""
    times = Counter(question.question for question in questions)
    return [q if q.cluster or times[q.question] == 1 else replace(q, cluster=q.question) for q in questions]


def in_context(questions: Sequence[Question]) -> list[Question]:
    """The questions to be asked below their context: others than without it, so under other ids."""
    return [replace(question, id=f"{question.id}/context") for question in questions if question.context]
