"""Published sets of questions in the layout they come in, recognised by the fields of their first row."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, cast

from truetune.data.dataset import Question
from truetune.data.formats import fill
from truetune.data.jsonl import BadRow, Row, iter_jsonl

FINAL_NUMBER = r"-?\d[\d,]*(?:\.\d+)?"


@dataclass(frozen=True)
class Place:
    """Where a row stands, what its questions are called, and how they are put."""

    source: str
    name: str
    template: str

    def question(self, asked: object, answers: list[str], reading: str = "", **more: Any) -> Question:
        """Answers without repeats, below what is to be read for it; raises BadRow if nothing is asked."""
        if not isinstance(asked, str) or not asked.strip():
            raise BadRow(self.source, "no question in this row; write one or remove the row")
        stripped = dict.fromkeys(answer.strip() for answer in answers if answer.strip())
        put = f"{reading}{fill(self.template, asked.strip())}"
        return Question(self.name, put, tuple(stripped), self.source, **more)


def truthful_qa(row: Row, place: Place) -> list[Question]:
    """TruthfulQA's CSV (Lin et al. 2022): the best answer first; incorrect ones are the alternatives of MC1 and MC2."""
    columns = ("Best Answer", "Correct Answers", "Incorrect Answers")
    best, correct, incorrect = (str(row.get(name) or "") for name in columns)
    answers = [best, *correct.split("; ")]
    if not any(answer.strip() for answer in answers):
        raise BadRow(place.source, "no answer in this row; write one or remove the row")
    wrong = tuple(part.strip() for part in incorrect.split("; ") if part.strip())
    return [place.question(row["Question"], answers, wrong=wrong, population=str(row.get("Category") or "asked"))]


def truthful_mc(row: Row, place: Place) -> list[Question]:
    """TruthfulQA's multiple-choice JSON: the true answer of MC1 first, then those of MC2, with MC2's false ones."""
    one, many = (row[name] for name in ("mc1_targets", "mc2_targets"))
    if not isinstance(one, dict) or not isinstance(many, dict):
        raise BadRow(place.source, "mc1_targets and mc2_targets: expected objects of answers and 0 or 1")
    both = cast("list[dict[str, int]]", [one, many])
    true = [answer for targets in both for answer, label in targets.items() if label]
    wrong = dict.fromkeys(answer for targets in both for answer, label in targets.items() if not label)
    return [place.question(row["question"], true, wrong=tuple(wrong))]


def pop_qa(row: Row, place: Place) -> list[Question]:
    """PopQA's TSV (Mallen et al. 2023): the aliases are a JSON list in one column."""
    try:
        answers: Any = json.loads(str(row["possible_answers"]))
    except ValueError:
        answers = None
    if not isinstance(answers, list) or not answers:
        raise BadRow(place.source, 'possible_answers: expected a JSON list of texts, such as ["Rome"]')
    found = [str(answer) for answer in cast("list[object]", answers)]
    return [place.question(row["question"], found, population=str(row.get("prop") or "asked"))]


def halu_eval(row: Row, place: Place) -> list[Question]:
    """HaluEval's QA rows (Li et al. 2023): the knowledge is the context, the hallucinated answer the alternative."""
    wrong = (str(row["hallucinated_answer"]),)
    context = str(row.get("knowledge") or "")
    return [place.question(row["question"], [str(row["right_answer"])], wrong=wrong, context=context)]


def squad(row: Row, place: Place) -> list[Question]:
    """SQuAD 1.1 and 2 (Rajpurkar et al. 2018): an article, each question below its paragraph.

    What is marked as impossible has no true answer.
    """
    found: list[Question] = []
    paragraphs: Any = row["paragraphs"]
    try:
        for paragraph in paragraphs:
            for asked in paragraph["qas"]:
                answers = [] if asked.get("is_impossible") else [answer["text"] for answer in asked["answers"]]
                at = Place(place.source, str(asked["id"]), place.template)
                found.append(at.question(asked["question"], answers, f"{paragraph['context']}\n\n"))
    except (TypeError, KeyError, AttributeError) as error:
        raise BadRow(
            place.source, f"not an article of SQuAD ({error}); expected paragraphs with context and qas"
        ) from None
    return found


def gsm8k(row: Row, place: Place) -> list[Question]:
    """GSM8K (Cobbe et al. 2021): the last number of an answer is judged, as it stands behind `####`."""
    number = str(row["answer"]).rpartition("####")[2].strip().replace(",", "")
    if not re.fullmatch(FINAL_NUMBER, number):
        raise BadRow(place.source, 'field "answer": found no number behind ####')
    return [place.question(row["question"], [number], judged=FINAL_NUMBER)]


SETS: Mapping[str, tuple[tuple[str, ...], Callable[[Row, Place], list[Question]]]] = {
    "TruthfulQA's CSV": (("Question", "Best Answer", "Correct Answers"), truthful_qa),
    "TruthfulQA's multiple-choice JSON": (("question", "mc1_targets", "mc2_targets"), truthful_mc),
    "PopQA's TSV": (("question", "possible_answers"), pop_qa),
    "HaluEval's QA rows": (("question", "right_answer", "hallucinated_answer"), halu_eval),
    "SQuAD's JSON": (("paragraphs",), squad),
    "GSM8K's rows": (("question", "answer"), gsm8k),
}


def recognised(first: Row) -> str | None:
    """The set that a file with this first row is, if it is one."""
    for name, (fields, reader) in SETS.items():
        if all(field in first for field in fields) and (reader is not gsm8k or "#### " in str(first["answer"])):
            return name
    return None


def read_standard(path: Path, name: str, template: str) -> list[Question]:
    """Raises UserError with file and line for a row that cannot be used; none is skipped."""
    fields, reader = SETS[name]
    fill(template, "")
    found: list[Question] = []
    for number, (line, row) in zip(count(1), iter_jsonl(path), strict=False):
        source = f"{path}:{line}"
        missing = [field for field in fields if field not in row]
        if missing:
            raise BadRow(source, f'no field "{missing[0]}"; every row of {name} has {", ".join(fields)}')
        found += reader(row, Place(source, str(row.get("id") or f"{path.stem}:{number}"), template))
    return found
