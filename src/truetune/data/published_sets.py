"""Published sets of questions in the layout they come in, recognised by the fields of their first row."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, cast

from truetune.data.dataset import Question
from truetune.data.rows.files import iter_rows
from truetune.data.rows.forms import bare, fill
from truetune.data.rows.row import BadRow, JsonObject
from truetune.scoring.answers import end_in_numbers


@dataclass(frozen=True)
class Place:
    """Where a row stands, the id of its questions, and the template that they are put into."""

    source: str
    name: str
    template: str

    def question(self, text: object, answers: list[str], reading: str = "", **more: Any) -> Question:
        """The question, below the text to be read for it, with its answers; raises BadRow if nothing is asked."""
        if not isinstance(text, str) or not text.strip():
            raise BadRow(self.source, "no question in this row; write one or remove the row")
        unique_answers = dict.fromkeys(answer.strip() for answer in answers if answer.strip())
        words, prompt = (f"{reading}{part}" for part in (text.strip(), fill(self.template, text.strip())))
        return Question(self.name, prompt, tuple(unique_answers), self.source, words=bare(words, self.template), **more)


def truthful_qa(row: JsonObject, place: Place) -> list[Question]:
    """TruthfulQA's CSV (Lin et al. 2022): the best answer first; incorrect ones are the alternatives of MC1 and MC2."""
    columns = ("Best Answer", "Correct Answers", "Incorrect Answers")
    best, correct, incorrect = (str(row.get(name) or "") for name in columns)
    answers = [best, *correct.split("; ")]
    if not any(answer.strip() for answer in answers):
        raise BadRow(place.source, "no answer in this row; write one or remove the row")
    wrong = tuple(part.strip() for part in incorrect.split("; ") if part.strip())
    return [place.question(row["Question"], answers, wrong=wrong, population=str(row.get("Category") or "asked"))]


def truthful_mc(row: JsonObject, place: Place) -> list[Question]:
    """TruthfulQA's multiple-choice JSON: the true answer of MC1 first, then those of MC2, with MC2's false ones."""
    target_sets: list[Any] = [row["mc1_targets"], row["mc2_targets"]]
    if not all(
        isinstance(targets, dict) and all(label in (0, 1) for label in targets.values()) for targets in target_sets
    ):
        raise BadRow(place.source, "mc1_targets and mc2_targets: expected objects of answers and 0 or 1")
    true_answers = [answer for targets in target_sets for answer, label in targets.items() if label]
    wrong = dict.fromkeys(answer for targets in target_sets for answer, label in targets.items() if not label)
    return [place.question(row["question"], true_answers, wrong=tuple(wrong))]


def pop_qa(row: JsonObject, place: Place) -> list[Question]:
    """PopQA's TSV (Mallen et al. 2023): the aliases are a JSON list in one column."""
    answers = _texts(row, "possible_answers", place)
    return [place.question(row["question"], answers, population=str(row.get("prop") or "asked"))]


def halu_eval(row: JsonObject, place: Place) -> list[Question]:
    """HaluEval's QA rows (Li et al. 2023): the knowledge is the context, the hallucinated answer the alternative."""
    wrong = (str(row["hallucinated_answer"]),)
    context = str(row.get("knowledge") or "")
    return [place.question(row["question"], [str(row["right_answer"])], wrong=wrong, context=context)]


def labelled_answers(row: JsonObject, place: Place) -> list[Question]:
    """HaluEval's rows of one answer each are refused: a hallucinated answer does not tell the right one."""
    raise BadRow(
        place.source,
        "an answer and whether it is a hallucination, not what is right; take HaluEval's qa_data.json, which has both",
    )


def squad(row: JsonObject, place: Place) -> list[Question]:
    """SQuAD 1.1 and 2 (Rajpurkar et al. 2018): an article, each question below its paragraph.

    A question marked as impossible has no true answer.
    """
    questions: list[Question] = []
    paragraphs: Any = row["paragraphs"]
    try:
        for paragraph in paragraphs:
            for qa in paragraph["qas"]:
                answers = [] if qa.get("is_impossible") else [answer["text"] for answer in qa["answers"]]
                question_place = Place(place.source, str(qa["id"]), place.template)
                questions.append(question_place.question(qa["question"], answers, f"{paragraph['context']}\n\n"))
    except (TypeError, KeyError, AttributeError) as error:
        raise BadRow(
            place.source, f"not an article of SQuAD ({error}); expected paragraphs with context and qas"
        ) from None
    return questions


def gsm8k(row: JsonObject, place: Place) -> list[Question]:
    """GSM8K (Cobbe et al. 2021): the last number of an answer is judged, for the true one ends in `####` and one."""
    answer = str(row["answer"])
    if not end_in_numbers([answer]):
        raise BadRow(place.source, 'field "answer": found no number behind ####')
    return [place.question(row["question"], [answer])]


def _texts(row: JsonObject, name: str, place: Place) -> list[str]:
    """The texts of a field that holds a list of them, or the JSON of such a list."""
    texts: Any = row[name]
    try:
        texts = json.loads(texts) if isinstance(texts, str) else texts
    except ValueError:
        texts = None
    if not isinstance(texts, list) or not texts:
        raise BadRow(place.source, f'{name}: expected a JSON list of texts, such as ["Rome"]')
    return [str(text) for text in cast("list[object]", texts)]


SETS: Mapping[str, tuple[tuple[str, ...], Callable[[JsonObject, Place], list[Question]]]] = {
    "TruthfulQA's CSV": (("Question", "Best Answer", "Correct Answers"), truthful_qa),
    "TruthfulQA's multiple-choice JSON": (("question", "mc1_targets", "mc2_targets"), truthful_mc),
    "PopQA's TSV": (("question", "possible_answers"), pop_qa),
    "HaluEval's QA rows": (("question", "right_answer", "hallucinated_answer"), halu_eval),
    "HaluEval's labelled answers": (("question", "answer", "hallucination"), labelled_answers),
    "SQuAD's JSON": (("paragraphs",), squad),
    "GSM8K's rows": (("question", "answer"), gsm8k),
}


def recognised(first: JsonObject) -> str | None:
    """The name of the set that begins with this row, or None; plain rows may have the fields of GSM8K's, too."""
    for name, (fields, reader) in SETS.items():
        if all(field in first for field in fields) and (reader is not gsm8k or "#### " in str(first["answer"])):
            return name
    return None


def read_standard(path: Path, name: str, template: str) -> list[Question]:
    """Raises UserError with file and line for a row that cannot be used; none is skipped."""
    fields, reader = SETS[name]
    fill(template, "")
    questions: list[Question] = []
    for number, (line, row) in zip(count(1), iter_rows(path), strict=False):
        source = f"{path}:{line}"
        missing = [field for field in fields if field not in row]
        if missing:
            raise BadRow(source, f'no field "{missing[0]}"; every row of {name} has {", ".join(fields)}')
        questions += reader(row, Place(source, str(row.get("id") or f"{path.stem}:{number}"), template))
    return questions
