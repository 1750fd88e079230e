"""Questions without any training file, for an audit: the user's own rows, and two standard sets."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from truetune.data.dataset import Dataset, Question
from truetune.data.jsonl import BadRow, iter_jsonl
from truetune.data.readers import fill, read_examples, read_questions, read_text
from truetune.errors import UserError

TRUTHFUL_QA = ("Question", "Best Answer", "Correct Answers")
SELF_AWARE = {"question_id", "question", "answer", "answerable"}


@dataclass(frozen=True)
class Questions:
    """Each question is asked as a task and as a probe for hallucination."""

    probe_file: str
    retention_file: str | None
    prompt_template: str

    def load(self) -> Dataset:
        """Raises UserError with file and line for a row that cannot be used; none is skipped."""
        path, template = Path(self.probe_file), self.prompt_template
        if path.suffix.lower() == ".csv":
            questions, form = _truthful_qa(path, template), "TruthfulQA's CSV"
        else:
            questions, form = read_questions(path, prompt_template=template), _form(path)
        texts = read_examples(self.retention_file).examples if self.retention_file is not None else []
        without = sum(not question.answers for question in questions)
        note = f"{path}: {len(questions)} questions, {without} of them without a true answer, recognised as {form}"
        contexts = [question for question in questions if question.context]
        return Dataset(train=[], task=questions, hallucination=questions, contexts=contexts, texts=texts, notes=[note])


def _form(path: Path) -> str:
    if path.is_dir():
        return "question/answers or prompt/completion rows, file by file"
    _, first = next(iter_jsonl(path))
    if first.keys() >= SELF_AWARE:
        return "SelfAware's JSON"
    return "prompt/completion" if {"prompt", "completion"} <= first.keys() else "question/answers"


def _truthful_qa(path: Path, template: str) -> list[Question]:
    """The best answer first, then the other correct ones; every question has one."""
    fill(template, "")
    reader = csv.DictReader(io.StringIO(read_text(path).removeprefix("\ufeff")), strict=True)
    found: list[Question] = []
    try:
        missing = [name for name in TRUTHFUL_QA if name not in (reader.fieldnames or ())]
        if missing:
            raise UserError(f"{path}: no column {missing[0]!r}; a .csv file is read as TruthfulQA's, others as JSONL")
        for row in reader:
            source = f"{path}:{reader.line_num}"
            asked, best, others = ((row[name] or "").strip() for name in TRUTHFUL_QA)
            answers = dict.fromkeys(part.strip() for part in (best, *others.split("; ")) if part.strip())
            if not asked or not answers:
                raise BadRow(source, f"no {'answer' if asked else 'question'} in this row; write one or remove the row")
            population = (row.get("Category") or "").strip() or "asked"
            name = f"{path.stem}:{len(found) + 1}"
            found.append(Question(name, fill(template, asked), tuple(answers), source, population))
    except csv.Error as error:
        raise UserError(f"{path}:{reader.reader.line_num}: malformed CSV: {error}") from None
    if not found:
        raise UserError(f"{path.absolute()}: the file holds no rows; write at least one question into it")
    return found
