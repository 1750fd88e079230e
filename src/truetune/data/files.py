"""A user's own files of rows as a data source."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, repeat
from typing import Literal

from pydantic import ConfigDict, with_config
from typing_extensions import NotRequired, TypedDict

from truetune.data.dataset import Dataset, Example, Question, examples
from truetune.data.rows.files import PROBE, VALIDATION
from truetune.data.rows.forms import below_context
from truetune.data.rows.read import (
    NamedRows,
    OnBadRow,
    ReadRows,
    in_context,
    read_examples,
    read_questions,
    read_template,
    together,
)
from truetune.data.rows.row import Reading
from truetune.data.splits import Split, alike, compared, normalised
from truetune.data.values import CountOrZero, Positive, Seed, Text
from truetune.errors import UserError
from truetune.scoring.answers import end_in_numbers


@with_config(ConfigDict(extra="forbid"))
class Mix(TypedDict):
    """`weight` rows of the file to each row of the training file."""

    file: Text
    weight: Positive
    columns: NotRequired[dict[str, Text]]


@dataclass(frozen=True)
class Files:
    """Training rows from one file; validation and probe rows from others, or set aside from the first by seed.

    `columns` are for these files; a file of `mixture` brings its own. `split` is the training file's.
    """

    seed: Seed
    train_file: Text
    probe_file: Text | None
    retention_file: Text | None
    probe_questions: CountOrZero
    validation_rows: CountOrZero
    prompt_template: Text
    on_bad_row: OnBadRow
    validation_file: Text | None = None
    split: Text = "train"
    columns: Mapping[str, Text | None] = field(default_factory=dict)
    mixture: Sequence[Mix] = ()
    chat_template: Text | None = "auto"
    form: Literal["auto", "chat", "plain"] = "auto"

    def source(self, what: Literal["train", "validation", "probe"]) -> str | NamedRows | None:
        """Where rows of that kind come from; None: they are set aside from the training rows."""
        return {"train": self.train_file, "validation": self.validation_file, "probe": self.probe_file}[what]

    def load(self) -> Dataset:
        """Raises UserError with file and line for a row that cannot be used."""
        columns = {name: column for name, column in self.columns.items() if column is not None}
        rows = self._read(self.source("train") or "", columns)
        train = Split(rows.examples, rows.notes(self.train_file))
        train.shuffle(self.seed)
        fields = dict.fromkeys(rows.fields_not_used)
        questions, held_out = self._probe(train, columns, fields)
        contexts = in_context(questions)
        if rows.below_contexts:
            questions = [below_context(question) for question in questions]  # as the training rows are taught
        probe_texts = {normalised(q.question) for q in questions} | {compared(row) for row in held_out}
        texts = [] if self.retention_file is None else self._read(self.retention_file, {}).examples
        retained_texts = {compared(text) for text in texts}
        train.leave_out(retained_texts, f"training rows repeat a text of {self.retention_file}: left out of training")
        validation = self._validation(train, probe_texts, columns)
        if not train.rows:
            why = [note for note in train.notes if "left out of training" in note]
            file = self.probe_file or self.validation_file or self.retention_file
            way_out = "name other rows there" if file and why else "lower data.probe_questions or data.validation_rows"
            raise UserError("; ".join([f"{self.train_file}: no row is left to train on", *why, way_out]))
        if numbers := sum(end_in_numbers(question.answers) for question in questions):
            note = f"{numbers} of {len(questions)} probe questions are judged on the number behind #### alone"
            train.notes.append(note)
        train.notes += alike({"probe": questions, "validation": map(_as_question, validation)}, train.rows)
        has_template = "question/" in rows.format or "instruction/" in rows.format  # prompts that the template has made
        mixed_rows = self._mixed(train, probe_texts | retained_texts | {compared(row) for row in validation})
        return Dataset(
            train=examples(chain(train.rows, mixed_rows)) if self.mixture else train.rows,
            validation=validation,
            task=together(questions),
            task_texts=held_out,
            hallucination=together(questions),
            contexts=contexts,
            select_task=[_as_question(row) for row in validation if row.answers],
            texts=texts,
            fit_groups={"train": train.rows[:200]},
            notes=train.notes,
            chat_template=read_template(self.chat_template),
            prompt_template=self.prompt_template if has_template else "{question}",
            shots={"": [row for row in train.rows[:8] if row.words]} if has_template else {},
            form=self.form,
            fields_not_used=[*fields],
        )

    def _read(self, source: str | NamedRows, columns: Mapping[str, str]) -> ReadRows:
        template, on_bad_row = self.prompt_template, self.on_bad_row
        splits = VALIDATION if source == self.validation_file else (self.split,)
        return read_examples(source, prompt_template=template, on_bad_row=on_bad_row, columns=columns, splits=splits)

    def _probe(
        self, train: Split, columns: Mapping[str, str], fields: dict[str, None]
    ) -> tuple[list[Question], list[Example]]:
        """(questions, held-out texts)."""
        source, reading = self.source("probe"), Reading(PROBE, train.notes, unused=fields)
        if source is not None:
            questions = read_questions(source, prompt_template=self.prompt_template, columns=columns, reading=reading)
            why = f"training rows ask a question of {source}: left out of training"
            train.leave_out({normalised(q.question) for q in questions}, why)
            return questions, []
        probe_rows = train.set_aside("probe_questions", self.probe_questions)
        note = f"{len(probe_rows)} rows of {self.train_file} set aside as the probe (data.probe_file names your own)"
        train.notes.append(note)
        return [_as_question(row) for row in probe_rows if row.answers], [row for row in probe_rows if not row.answers]

    def _validation(self, train: Split, probe_texts: set[str], columns: Mapping[str, str]) -> Sequence[Example]:
        source = self.source("validation")
        if source is None:
            return train.set_aside("validation_rows", self.validation_rows)
        rows = self._read(source, columns)
        train.notes += rows.notes(str(source))
        train.leave_out(map(compared, rows.examples), f"training rows repeat a row of {source}: left out of training")
        validation = Split(rows.examples)
        validation.leave_out(probe_texts, f"rows of {source} are in the probe: left out of validation")
        train.notes += validation.notes
        return validation.rows

    def _mixed(self, train: Split, held_out: set[str]) -> Iterator[Example]:
        """Rows of each file of the mixture: whole passes over it while they fit, and a sample by seed for the rest."""
        for number, mix in enumerate(self.mixture, start=1):
            file, weight = mix["file"], mix["weight"]
            rows = self._read(file, mix.get("columns", {}))
            mix_rows = Split(rows.examples, rows.notes(file))
            mix_rows.leave_out(held_out, f"rows of {file} are held out: not mixed in")
            train.notes += mix_rows.notes
            if not mix_rows.rows:
                raise UserError(f"data.mixture: every row of {file} is held out, so none can be mixed in; leave it out")
            count = round(weight * len(train.rows))
            places = random.Random(f"mixture-{self.seed}-{number}").sample(
                range(len(mix_rows.rows)), count % len(mix_rows.rows)
            )
            passes = chain.from_iterable(repeat(mix_rows.rows, count // len(mix_rows.rows)))
            for index, row in enumerate(chain(passes, map(mix_rows.rows.__getitem__, places))):
                yield replace(row, id=f"mixture/{number}/{index}/{row.id}")
            train.notes.append(f"{count} rows of {file} mixed in, {weight:g} to each row of {self.train_file}")


def _as_question(row: Example) -> Question:
    return Question(row.id, row.prompt, row.answers, row.source, turns=row.turns, words=row.words)
