"""Questions without any training file, for an audit: the user's own rows, or a published set."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from truetune.data.dataset import Dataset
from truetune.data.published import SETS, read_standard, recognised
from truetune.data.rows.read import in_context, iter_rows, read_examples, read_questions, together
from truetune.data.values import Text
from truetune.errors import UserError

SELF_AWARE = {"question_id", "question", "answer", "answerable"}


@dataclass(frozen=True)
class Questions:
    """Each question is asked as a task and as a probe for hallucination."""

    probe_file: Text
    retention_file: Text | None
    prompt_template: Text

    def check(self, config: Mapping[str, Any], data: Dataset) -> list[str]:
        if "objective" in config:
            raise UserError(
                "data=questions: nothing to train on; type truetune-measure, or data=jsonl data.train_file=..."
            )
        return []

    def load(self) -> Dataset:
        """Raises UserError with file and line for a row that cannot be used; none is skipped."""
        path, template = Path(self.probe_file), self.prompt_template
        form = _form(path)
        if form in SETS:
            questions = read_standard(path, form, template)
        else:
            questions = read_questions(path, prompt_template=template)
        texts = read_examples(self.retention_file).examples if self.retention_file is not None else []
        without = sum(not question.answers for question in questions)
        note = f"{path}: {len(questions)} questions, {without} of them without a true answer, recognised as {form}"
        contexts, asked = in_context(questions), together(questions)
        return Dataset(train=[], task=asked, hallucination=asked, contexts=contexts, texts=texts, notes=[note])


def _form(path: Path) -> str:
    if os.path.isdir(path):
        return "question/answers or prompt/completion rows, file by file"
    _, first = next(iter_rows(path))
    if first.keys() >= SELF_AWARE:
        return "SelfAware's JSON"
    plain = "prompt/completion" if {"prompt", "completion"} <= first.keys() else "question/answers"
    return recognised(first) or plain
