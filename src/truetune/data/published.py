"""Published sets of questions in the layout they come in, recognised by the fields of their first row."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, cast

from truetune.data.dataset import Question
from truetune.data.rows.formats import fill
from truetune.data.rows.json_rows import BadRow, Row, iter_jsonl
from truetune.scoring.answers import end_in_numbers


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


def truthful_generation(row: Row, place: Place) -> list[Question]:
    """As the CSV, in the hub's columns, whose answers are lists."""
    correct, wrong = _texts(row, "correct_answers", place), _texts(row, "incorrect_answers", place)
    answers = [str(row["best_answer"]), *correct]
    return [
        place.question(row["question"], answers, wrong=tuple(wrong), population=str(row.get("category") or "asked"))
    ]


def truthful_mc(row: Row, place: Place) -> list[Question]:
    """TruthfulQA's multiple-choice JSON: the true answer of MC1 first, then those of MC2, with MC2's false ones."""
    both = [_labelled(row[name], place) for name in ("mc1_targets", "mc2_targets")]
    true = [answer for targets in both for answer, label in targets.items() if label]
    wrong = dict.fromkeys(answer for targets in both for answer, label in targets.items() if not label)
    return [place.question(row["question"], true, wrong=tuple(wrong))]


def pop_qa(row: Row, place: Place) -> list[Question]:
    """PopQA's TSV (Mallen et al. 2023): the aliases are a JSON list in one column."""
    answers = _texts(row, "possible_answers", place)
    return [place.question(row["question"], answers, population=str(row.get("prop") or "asked"))]


def halu_eval(row: Row, place: Place) -> list[Question]:
    """HaluEval's QA rows (Li et al. 2023): the knowledge is the context, the hallucinated answer the alternative."""
    wrong = (str(row["hallucinated_answer"]),)
    context = str(row.get("knowledge") or "")
    return [place.question(row["question"], [str(row["right_answer"])], wrong=wrong, context=context)]


def labelled_answers(row: Row, place: Place) -> list[Question]:
    """HaluEval's rows of one answer each: a hallucinated one is not what is right."""
    raise BadRow(
        place.source,
        "an answer and whether it is a hallucination, not what is right; take HaluEval's qa_data.json, which has both",
    )


def squad_rows(row: Row, place: Place) -> list[Question]:
    """SQuAD as the hub has it: a question a row, impossible where no answer is given."""
    given: Any = row["answers"]
    if not isinstance(given, dict) or not isinstance(given.get("text"), list):
        raise BadRow(place.source, 'field "answers": expected an object with a list "text"')
    return [place.question(row["question"], [str(text) for text in given["text"]], f"{row['context']}\n\n")]


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
    """GSM8K (Cobbe et al. 2021): of an answer the last number is judged, for the true one ends in `####` and one."""
    answer = str(row["answer"])
    if not end_in_numbers([answer]):
        raise BadRow(place.source, 'field "answer": found no number behind ####')
    return [place.question(row["question"], [answer])]


def _texts(row: Row, name: str, place: Place) -> list[str]:
    """A list of texts, or the JSON of one."""
    found: Any = row[name]
    try:
        found = json.loads(found) if isinstance(found, str) else found
    except ValueError:
        found = None
    if not isinstance(found, list) or not found:
        raise BadRow(place.source, f'{name}: expected a JSON list of texts, such as ["Rome"]')
    return [str(text) for text in cast("list[object]", found)]


def _labelled(targets: object, place: Place) -> dict[str, int]:
    """Answers and 0 or 1, as one object, or as the hub has them, as two lists `choices` and `labels`."""
    if isinstance(targets, dict):
        found: dict[str, Any] = cast("dict[str, Any]", targets)
        if found.keys() == {"choices", "labels"} and isinstance(found["choices"], list):
            found = dict(zip(found["choices"], found["labels"], strict=False))
        if all(label in (0, 1) for label in found.values()):
            return found
    raise BadRow(place.source, "mc1_targets and mc2_targets: expected objects of answers and 0 or 1")


SETS: Mapping[str, tuple[tuple[str, ...], Callable[[Row, Place], list[Question]]]] = {
    "TruthfulQA's CSV": (("Question", "Best Answer", "Correct Answers"), truthful_qa),
    "TruthfulQA's rows": (("question", "best_answer", "correct_answers", "incorrect_answers"), truthful_generation),
    "TruthfulQA's multiple-choice JSON": (("question", "mc1_targets", "mc2_targets"), truthful_mc),
    "PopQA's TSV": (("question", "possible_answers"), pop_qa),
    "HaluEval's QA rows": (("question", "right_answer", "hallucinated_answer"), halu_eval),
    "HaluEval's labelled answers": (("question", "answer", "hallucination"), labelled_answers),
    "SQuAD's JSON": (("paragraphs",), squad),
    "SQuAD's rows": (("context", "question", "answers"), squad_rows),
    "GSM8K's rows": (("question", "answer"), gsm8k),
}


def _is_of(reader: Callable[[Row, Place], list[Question]], first: Row) -> bool:
    """Where fields alone would not tell a set from plain rows."""
    if reader is gsm8k:
        return "#### " in str(first["answer"])
    return reader is not squad_rows or isinstance(first["answers"], dict)


def recognised(first: Row) -> str | None:
    """The set that a file with this first row is, if it is one."""
    for name, (fields, reader) in SETS.items():
        if all(field in first for field in fields) and _is_of(reader, first):
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
