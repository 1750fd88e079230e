"""Questions without any training file, for an audit: the user's own rows, or a published set."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from truetune.data.dataset import Dataset, Example, Question
from truetune.data.published_sets import SETS, read_standard, recognised
from truetune.data.rows.files import PROBE, iter_rows
from truetune.data.rows.read import in_context, read_examples, read_questions, together
from truetune.data.rows.row import Reading
from truetune.data.values import CountOrZero, Text
from truetune.errors import UserError

SELF_AWARE = {"question_id", "question", "answer", "answerable"}


@dataclass(frozen=True)
class Questions:
    """Each question is asked as a task and as a probe for hallucination.

    Of each kind that has ten times as many questions, `shown` are set aside to stand before others
    (`asking=few_shot`). Each file of a folder is one kind, unless its rows name a domain.
    """

    probe_file: Text
    retention_file: Text | None
    prompt_template: Text
    shown: CountOrZero = 5

    def check(self, config: Mapping[str, Any], data: Dataset) -> list[str]:
        if "trainer" in config:
            raise UserError(
                "data=questions: nothing to train on; type truetune-measure, or data=jsonl data.train_file=..."
            )
        return []

    def load(self) -> Dataset:
        """Raises UserError with file and line for a row that cannot be used; none is skipped."""
        path, template = Path(self.probe_file), self.prompt_template
        form, reading = _form(path), Reading(PROBE)
        if form is not None and form in SETS:
            questions = read_standard(path, form, template)
        else:
            questions = read_questions(path, prompt_template=template, reading=reading)
            form = form or ", ".join(reading.forms)
        texts = read_examples(self.retention_file).examples if self.retention_file is not None else []
        if os.path.isdir(path):
            files = (Path(question.source.rpartition(":")[0]) for question in questions)
            questions = [replace(q, domain=q.domain or file.stem) for q, file in zip(questions, files, strict=True)]
        shots, aside = self._aside(questions)
        no_answer = sum(not question.answers for question in questions)
        note = f"{path}: {len(questions)} questions, {no_answer} of them without a true answer, recognised as {form}"
        values: dict[str, set[str]] = {}
        for question in questions:
            if question.domain and question.answers:
                values.setdefault(question.domain, set()).add(question.answers[0])
        contexts, aside_ids = in_context(questions), {question.id for question in aside}
        remaining = [question for question in together(questions) if question.id not in aside_ids]
        return Dataset(
            train=[],
            task=remaining,
            hallucination=remaining,
            contexts=contexts,
            texts=texts,
            domains={kind: frozenset(answers) for kind, answers in values.items()},
            notes=[note, *reading.notes],
            fields_not_used=[*reading.unused],
            shots=shots,
            aside=aside,
            prompt_template=template,
        )

    def _aside(self, questions: Sequence[Question]) -> tuple[dict[str, list[Example]], list[Question]]:
        """(rows to show before questions, by kind; the questions they were made of)."""
        kinds: dict[str, list[Question]] = {}
        for question in questions:
            if question.words and question.answers:
                kinds.setdefault(question.domain, []).append(question)
        shots, aside = dict[str, list[Example]](), list[Question]()
        for kind, members in kinds.items():
            if self.shown and len(members) >= 10 * self.shown:
                sample = random.Random(f"shots-{kind}").sample(members, self.shown)
                aside += sample
                shots[kind] = [question.as_row() for question in sample]
        return shots, aside


def _form(path: Path) -> str | None:
    """The published set that the file is, if it is one."""
    if os.path.isdir(path):
        return None
    _, first = next(iter_rows(path))
    return "SelfAware's JSON" if first.keys() >= SELF_AWARE else recognised(first)
