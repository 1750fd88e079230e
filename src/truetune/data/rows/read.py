"""Your files to training examples and probe questions, with every row accounted for."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, Literal, NamedTuple, TypeVar

from truetune.data.dataset import Example, Question, examples
from truetune.data.rows import json_rows, tables
from truetune.data.rows.forms import DEFAULT_TEMPLATE, Columns, Form, example, fill, form_of, question, renamed
from truetune.data.rows.many import Seen
from truetune.data.rows.row import BadRow, JsonObject, Record, named, read_utf8
from truetune.errors import UserError

OnBadRow = Literal["error", "skip"]
READERS: dict[str, Callable[[Path], Iterator[Record]]] = {
    ".jsonl": json_rows.lines,
    ".json": json_rows.array,
    ".csv": tables.separated,
    ".tsv": tables.separated,
    ".parquet": tables.parquet,
}
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

    def notes(self, name: str) -> list[str]:
        notes = [f"{name}: {self.rows_read} rows, recognised as {self.format}"]
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
) -> ReadRows:
    """What the rows teach; each file's form is that of its first row, and a .txt file is one example.

    A completion made from an answer starts with one space unless the prompt ends in white space; a `completion` is
    taken as it stands.
    """
    reader = _Reader(example, prompt_template, on_bad_row, columns or {})
    gathered = examples(reader.read(rows))
    return ReadRows(gathered, ", ".join(reader.forms), len(gathered), reader.skipped)


def read_questions(
    rows: Rows, *, prompt_template: str = "{question}", columns: Columns | None = None
) -> list[Question]:
    """What the rows ask. The template is for `question` fields; a `prompt` is asked as it stands. No row is skipped."""
    return list(_Reader(question, prompt_template, "error", columns or {}).read(rows))


@dataclass
class _Reader(Generic[T]):
    """Makes something of each row of any number of files, under ids that are unique over all of them."""

    make: Callable[[JsonObject, Form, str, str, str], T]
    prompt_template: str
    on_bad_row: OnBadRow
    columns: Columns
    skipped: list[tuple[str, str]] = field(default_factory=list)
    forms: dict[Form, None] = field(default_factory=dict)
    ids: Seen | None = field(default_factory=Seen)  # None: ids may come again
    first_places: dict[str, str] = field(default_factory=dict)  # of the ids, once one has come again

    def read(self, rows: Rows) -> Iterator[T]:
        fill(self.prompt_template, "")
        if isinstance(rows, NamedRows):
            yield from self._read_file(Path(rows.name), rows.records(), rows)
            return
        for file in data_files(rows):
            if file.suffix.lower() != ".txt":
                yield from self._read_file(file, file_records(file), rows)
            elif self.make is question:
                raise UserError(f"{file}: a text asks nothing; questions are read from files of rows")
            else:
                text = Record(1, str(file), {"id": file.stem, "text": read_text(file)})
                yield from replace(self, columns={})._read_file(file, [text], rows)

    def _read_file(self, file: Path, records: Iterable[Record], rows: Rows) -> Iterator[T]:
        form: Form | None = None
        usable, skipped_before = False, len(self.skipped)
        for record in records:
            if record.content is None:
                continue
            try:
                if isinstance(record.content, BadRow):
                    raise record.content
                row, source = renamed(record.content, self.columns, record.source), record.source
                form = form_of(row, source, form, self.columns)
                name = row.get("id")
                if isinstance(name, bool) or not isinstance(name, (str, int)) or not str(name).strip():
                    name = f"{file.stem}:{record.number}"
                item = self.make(row, form, source, str(name), self.prompt_template)
                self._check_id(item, rows)
            except BadRow as fault:
                if self.on_bad_row == "error":
                    raise
                self.skipped.append((record.source, fault.reason))
            else:
                self.forms[form] = None
                usable = True
                yield item
        if not usable:
            source, reason = self.skipped[skipped_before]
            raise UserError(f"{file}: no row can be used; the first fault is {source}: {reason}")

    def _check_id(self, item: T, rows: Rows) -> None:
        """Of ids only hashes are remembered: where one stood that comes again is learnt by reading all once more."""
        if self.ids is None:
            return
        if item.id not in self.ids:
            self.ids.add(item.id)
            return
        if not self.first_places:
            again = replace(self, on_bad_row="skip", skipped=[], forms={}, ids=None)
            with suppress(UserError):  # what is wrong with a later file is reported when it is reached
                for earlier in again.read(rows):
                    self.first_places.setdefault(earlier.id, earlier.source)
        place = self.first_places[item.id]
        raise BadRow(item.source, f'the id {named([item.id])} is that of {place} too; give each row an "id" of its own')


def file_records(path: Path) -> Iterator[Record]:
    """Goes on after a bad row, which is yielded, not raised; raises if the file as a whole cannot be used."""
    blank = rows = 0
    for record in READERS.get(path.suffix.lower(), json_rows.lines)(path):
        blank += record.content is None
        rows += record.content is not None
        yield record
    if rows == 0:
        reason = "holds only blank lines" if blank else "holds no rows"
        raise UserError(f"{path.absolute()}: the file {reason}; write at least one JSON object into it")


def iter_rows(path: str | Path) -> Iterator[tuple[int, JsonObject]]:
    """Line (or array element) numbers from 1 and their objects; the first bad row raises."""
    for record in file_records(Path(path)):
        if isinstance(record.content, BadRow):
            raise record.content
        if record.content is not None:
            yield record.number, record.content


def data_files(path: str | Path | Sequence[str | Path]) -> Iterator[Path]:
    """A folder stands for its files of rows in the order of their names."""
    entries = [path] if isinstance(path, (str, Path)) else list(path)
    if not entries:
        raise UserError("no data file is named; name at least one .jsonl, .json, .csv, .parquet or .txt file")
    for entry in map(Path, entries):
        if os.path.isdir(entry):
            files = sorted(p for p in entry.glob("*") if p.suffix.lower() in READERS and p.name[0] != ".")
            if not files:
                *most, last = READERS
                ending = f"{', '.join(most)} or {last}"
                raise UserError(f"{entry.absolute()}: the folder holds no {ending} file; name a file")
            yield from files
        elif entry.suffix.lower() in (*READERS, ".txt") or not os.path.exists(entry):
            yield entry  # a missing file is reported as missing, whatever its name
        else:
            expected = f"{', '.join(READERS)} or .txt"
            raise UserError(f"{entry.absolute()}: the name ends in {entry.suffix!r}, expected {expected}")


def read_text(path: str | Path) -> str:
    """All of a text file, its line ends as \\n; raises if there is nothing but white space."""
    text = read_utf8(Path(path)).replace("\r\n", "\n")
    if not text.strip():
        raise UserError(f"{Path(path).absolute()}: the file holds no text")
    return text


def read_template(name: str | None) -> str | None:
    """`auto` and None stand for themselves, anything else for a file of Jinja."""
    if name in (None, "auto"):
        return name
    try:
        return read_text(name)
    except UserError as error:
        raise UserError(f"data.chat_template={name}: {error} (auto, null or a Jinja file)") from None


def together(questions: Sequence[Question]) -> list[Question]:
    """Rows that ask the very same, and so get one and the same answer, as one cluster."""
    times = Counter(question.question for question in questions)
    return [q if q.cluster or times[q.question] == 1 else replace(q, cluster=q.question) for q in questions]


def in_context(questions: Sequence[Question]) -> list[Question]:
    """Those to be asked below their context: other questions than without it, so under other ids."""
    return [replace(question, id=f"{question.id}/context") for question in questions if question.context]
