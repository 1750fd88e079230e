"""A user's own files as data sources: rows of JSON, or plain text."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from truetune.data.dataset import Dataset, Example, Question
from truetune.data.readers import OnBadRow, Reading, normalised, overlap, read_examples, read_questions, read_text
from truetune.errors import UserError


@dataclass(frozen=True)
class Files:
    """Training rows from one file, probe questions from another or set aside from the first, by seed."""

    seed: int
    train_file: str
    probe_file: str | None
    retention_file: str | None
    probe_questions: int
    validation_rows: int
    prompt_template: str
    on_bad_row: OnBadRow

    def load(self) -> Dataset:
        """Raises UserError with file and line for a row that cannot be used."""
        reading = read_examples(self.train_file, prompt_template=self.prompt_template, on_bad_row=self.on_bad_row)
        notes = _notes(self.train_file, reading)
        rows = list(reading.examples)
        random.Random(f"split-{self.seed}").shuffle(rows)
        held_out: list[Example] = []
        if self.probe_file is not None:
            questions = read_questions(self.probe_file, prompt_template=self.prompt_template)
            rows = self._without(rows, questions, notes)
        else:
            rows, asked = _set_aside(rows, self.probe_questions)
            questions = [_asked(row) for row in asked if row.prompt]
            held_out = [row for row in asked if not row.prompt]
            notes.append(
                f"{len(asked)} rows of {self.train_file} set aside as the probe (data.probe_file names your own)"
            )
        train, validation = _set_aside(rows, self.validation_rows)
        if not train:
            raise UserError(
                f"{self.train_file}: no row is left to train on; lower data.probe_questions or data.validation_rows"
            )
        return Dataset(
            train=train,
            validation=validation,
            task=questions,
            task_texts=held_out,
            hallucination=questions,
            contexts=[question for question in questions if question.context],
            select_task=[_asked(row) for row in validation if row.prompt],
            texts=self._texts(),
            fit_groups={"train": train[:200]},
            notes=notes,
        )

    def _without(self, rows: list[Example], questions: Sequence[Question], notes: list[str]) -> list[Example]:
        """Probe and training items are disjoint: a row that asks a probe question is not trained on."""
        shared = set(overlap(rows, questions, "{question}"))
        if not shared:
            return rows
        asked = {normalised(question.question) for question in questions if question.id in shared}
        kept = [row for row in rows if normalised(row.prompt) not in asked]
        notes.append(f"{len(rows) - len(kept)} training rows ask a question of {self.probe_file}: left out of training")
        return kept

    def _texts(self) -> list[Example]:
        if self.retention_file is None:
            return []
        return read_examples(self.retention_file, prompt_template=self.prompt_template).examples


@dataclass(frozen=True)
class Text:
    """Whole paragraphs joined to segments; every so-many-th segment is held out."""

    seed: int
    train_file: str
    held_out_share: float
    segment_characters: int = 2000

    def load(self) -> Dataset:
        segments = list(_segments(read_text(self.train_file), Path(self.train_file).stem, self.segment_characters))
        order = random.Random(f"split-{self.seed}").sample(range(len(segments)), len(segments))
        held = set(order[: max(1, round(len(segments) * self.held_out_share))])
        train = [segment for index, segment in enumerate(segments) if index not in held]
        if not train:
            raise UserError(
                f"{self.train_file}: {len(segments)} segment of text is too little to train on and hold out from"
            )
        held_out = [segments[index] for index in sorted(held)]
        return Dataset(
            train=train,
            validation=held_out[: len(held_out) // 2],
            task_texts=held_out[len(held_out) // 2 :],
            notes=[f"{self.train_file}: plain text, {len(train)} segments to train on, {len(held_out)} held out"],
        )


def _segments(text: str, stem: str, size: int) -> Iterator[Example]:
    gathered = ""
    number = 0
    for paragraph in text.split("\n\n"):
        gathered += paragraph + "\n\n"
        if len(gathered) >= size:
            yield Example(f"{stem}/{number}", "", gathered, stem)
            gathered, number = "", number + 1
    if gathered.strip():
        yield Example(f"{stem}/{number}", "", gathered, stem)


def _set_aside(rows: Sequence[Example], count: int) -> tuple[list[Example], list[Example]]:
    """(the rest, those set aside): at most a fifth of the rows, and with them every row that repeats one's prompt."""
    wanted = min(count, len(rows) // 5)
    aside = list(rows[:wanted])
    prompts = {normalised(row.prompt) for row in aside if row.prompt}
    return [row for row in rows[wanted:] if normalised(row.prompt) not in prompts], aside


def _asked(row: Example) -> Question:
    return Question(id=row.id, question=row.prompt, answers=row.answers, source=row.source)


def _notes(name: str, reading: Reading) -> list[str]:
    notes = [f"{name}: {reading.rows_read} rows, recognised as {reading.format}"]
    if reading.rows_skipped:
        source, reason = reading.rows_skipped[0]
        notes.append(f"{len(reading.rows_skipped)} rows skipped, the first: {source}: {reason}")
    return notes
