"""A user's own files of rows as a data source."""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, repeat
from typing import TypedDict

from typing_extensions import NotRequired

from truetune.data.dataset import Dataset, Example, Question, stored
from truetune.data.duplicates import ALIKE, near_duplicates, normalised
from truetune.data.rows.read import (
    OnBadRow,
    Reading,
    in_context,
    read_examples,
    read_questions,
    read_template,
    together,
)
from truetune.data.rows.stored import Chosen
from truetune.data.values import CountOrZero, Positive, Seed, Text
from truetune.errors import UserError
from truetune.scoring.answers import end_in_numbers


class Mix(TypedDict):
    """`weight` rows of the file to each row of the training file."""

    file: Text
    weight: Positive
    columns: NotRequired[dict[str, Text]]


@dataclass(frozen=True)
class Files:
    """Training rows from one file; validation and probe rows from others, or set aside from the first by seed.

    `columns` are for these files; a file of `mixture` brings its own.
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
    columns: Mapping[str, Text | None] = field(default_factory=dict)
    mixture: Sequence[Mix] = ()
    chat_template: Text | None = "auto"

    def load(self) -> Dataset:
        """Raises UserError with file and line for a row that cannot be used."""
        return self._split(self._read(self.train_file, self._columns))

    @property
    def _columns(self) -> dict[str, str]:
        return {name: column for name, column in self.columns.items() if column is not None}

    def _read(self, path: str, columns: Mapping[str, str]) -> Reading:
        template, on_bad_row = self.prompt_template, self.on_bad_row
        return read_examples(path, prompt_template=template, on_bad_row=on_bad_row, columns=columns)

    def _split(self, reading: Reading) -> Dataset:
        notes = _notes(self.train_file, reading)
        order = array("I", range(len(reading.examples)))
        random.Random(f"split-{self.seed}").shuffle(order)
        rows = Chosen(reading.examples, order)
        held_out: list[Example] = []
        if probe := self._probe():
            name, questions = probe
            why = f"training rows ask a question of {name}: left out of training"
            rows = _without(rows, {normalised(q.question) for q in questions}, why, notes)
        else:
            rows, asked = _set_aside(rows, "probe_questions", self.probe_questions, notes)
            questions = [_asked(row) for row in asked if row.prompt]
            held_out = [row for row in asked if not row.prompt]
            notes.append(
                f"{len(asked)} rows of {self.train_file} set aside as the probe (data.probe_file names your own)"
            )
        reported = {normalised(q.question) for q in questions} | {_said(row) for row in held_out}
        texts = [] if self.retention_file is None else self._read(self.retention_file, {}).examples
        kept = {_said(text) for text in texts}
        why = f"training rows repeat a text of {self.retention_file}: left out of training"
        rows, validation = self._validation(_without(rows, kept, why, notes), reported, notes)
        if not rows:
            why = [note for note in notes if "left out of training" in note]
            own = self.probe_file or self.validation_file or self.retention_file
            way_out = "name other rows there" if own and why else "lower data.probe_questions or data.validation_rows"
            raise UserError("; ".join([f"{self.train_file}: no row is left to train on", *why, way_out]))
        if numbers := sum(end_in_numbers(question.answers) for question in questions):
            notes.append(f"{numbers} of {len(questions)} probe questions are judged on the number behind #### alone")
        notes += _alike({"probe": questions, "validation": map(_asked, validation)}, rows)
        mixed = self._mixed(len(rows), reported | kept | {_said(row) for row in validation}, notes)
        return Dataset(
            train=stored(chain(rows, mixed)) if self.mixture else rows,
            validation=validation,
            task=together(questions),
            task_texts=held_out,
            hallucination=together(questions),
            contexts=in_context(questions),
            select_task=[_asked(row) for row in validation if row.prompt],
            texts=texts,
            fit_groups={"train": rows[:200]},
            notes=notes,
            chat_template=read_template(self.chat_template),
            prompt_template=self.prompt_template if reading.asks_questions else "{question}",
        )

    def _probe(self) -> tuple[str, list[Question]] | None:
        """Where questions of their own come from, and which; None if rows are to be set aside."""
        if self.probe_file is None:
            return None
        template, columns = self.prompt_template, self._columns
        return self.probe_file, read_questions(self.probe_file, prompt_template=template, columns=columns)

    def _validated(self) -> tuple[str, Reading] | None:
        """As `_probe`, of validation rows."""
        if self.validation_file is None:
            return None
        return self.validation_file, self._read(self.validation_file, self._columns)

    def _validation(
        self, rows: Chosen[Example], reported: set[str], notes: list[str]
    ) -> tuple[Chosen[Example], Sequence[Example]]:
        """(the rest, the validation rows)."""
        own = self._validated()
        if own is None:
            return _set_aside(rows, "validation_rows", self.validation_rows, notes)
        name, reading = own
        notes += _notes(name, reading)
        why = f"training rows repeat a row of {name}: left out of training"
        rows = _without(rows, {_said(row) for row in reading.examples}, why, notes)
        return rows, _without(
            _all(reading), reported, f"rows of {name} are in the probe: left out of validation", notes
        )

    def _mixed(self, rows: int, held_out: set[str], notes: list[str]) -> Iterator[Example]:
        """Whole passes over a file that is too small, and a draw by seed for the rest."""
        for number, mix in enumerate(self.mixture, start=1):
            found = self._read(mix["file"], mix.get("columns", {}))
            notes += _notes(mix["file"], found)
            there = _without(_all(found), held_out, f"rows of {mix['file']} are held out: not mixed in", notes)
            if not there:
                raise UserError(
                    f"data.mixture: every row of {mix['file']} is held out, so none can be mixed in; leave it out"
                )
            wanted = round(mix["weight"] * rows)
            drawn = random.Random(f"mixture-{self.seed}-{number}").sample(range(len(there)), wanted % len(there))
            whole = chain.from_iterable(repeat(there, wanted // len(there)))
            for index, row in enumerate(chain(whole, map(there.__getitem__, drawn))):
                yield replace(row, id=f"mixture/{number}/{index}/{row.id}")
            notes.append(f"{wanted} rows of {mix['file']} mixed in, {mix['weight']:g} to each row of {self.train_file}")


def _all(reading: Reading) -> Chosen[Example]:
    return Chosen(reading.examples, array("I", range(len(reading.examples))))


def _said(row: Example) -> str:
    """What must not be on both sides of a split: the prompt, or all of a text."""
    return normalised(row.prompt or row.completion)


def _set_aside(rows: Chosen[Example], key: str, count: int, notes: list[str]) -> tuple[Chosen[Example], list[Example]]:
    """(the rest, those set aside): at most a fifth of the rows, and with them every row that repeats one."""
    wanted = min(count, len(rows) // 5)
    if wanted < count:
        notes.append(f"data.{key}={count}: {wanted} rows are set aside, for at most a fifth of the {len(rows)} may be")
    aside = rows[:wanted]
    why = "training rows repeat a row set aside: left out of training"
    return _without(rows, {_said(row) for row in aside}, why, notes, wanted), aside


def _without(rows: Chosen[Example], known: set[str], why: str, notes: list[str], start: int = 0) -> Chosen[Example]:
    """The rows from `start` on that are not among the known: held-out and training rows are disjoint."""
    kept = rows.where(lambda row: _said(row) not in known, start) if known else rows
    if len(kept) < len(rows) - start:
        notes.append(f"{len(rows) - start - len(kept)} {why}")
    return kept


def _alike(held_out: Mapping[str, Iterable[Question]], train: Sequence[Example]) -> Iterator[str]:
    """A note for each split that has nearly the prompts of training rows."""
    asked = {split: [q for q in questions if q.question] for split, questions in held_out.items()}
    prompts = [[q.question for q in questions] for questions in asked.values()]
    for (split, questions), found in zip(
        asked.items(), near_duplicates(prompts, (r.prompt for r in train)), strict=True
    ):
        if found:
            first, like = next(iter(found.items()))
            yield (
                f"{len(found)} of {len(questions)} {split} prompts are nearly those of training rows (at least "
                f"{ALIKE:g} of their three-word runs shared), the first: {questions[first].source} and "
                f"{train[like].source}"
            )


def _asked(row: Example) -> Question:
    return Question(id=row.id, question=row.prompt, answers=row.answers, source=row.source, turns=row.turns)


def _notes(name: str, reading: Reading) -> list[str]:
    notes = [f"{name}: {reading.rows_read} rows, recognised as {reading.format}"]
    if reading.rows_skipped:
        source, reason = reading.rows_skipped[0]
        notes.append(f"{len(reading.rows_skipped)} rows skipped, the first: {source}: {reason}")
    return notes
