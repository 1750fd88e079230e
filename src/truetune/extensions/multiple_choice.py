"""Which of several given answers does the model find likeliest? (TruthfulQA's MC1 and MC2, Lin et al. 2022.)"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

from truetune.data.dataset import Dataset, Example, Question, continued
from truetune.data.tokens import Encoder
from truetune.models.language_model import LanguageModel
from truetune.probes.asking import Asking
from truetune.probes.likelihood import likelihood
from truetune.probes.probe import Subject
from truetune.scoring.estimates import mean_t_interval, rate
from truetune.scoring.item import Item, Measurement


@dataclass(frozen=True)
class MultipleChoice:
    """Questions with `wrong` alternatives.

    `mc1`: the first true answer has the highest log-likelihood of it and all wrong ones; `mc1_per_token` the same with
    log-likelihoods divided by their tokens. `mc2`: the share of all true answers in the probability of all answers.
    As published, an answer's tokens alone are counted, not the end after them. A question that is too long for the
    context loses its beginning.
    """

    needs_weights: ClassVar[bool] = True

    asking: Asking
    name: str = "multiple_choice"

    def notes(self, lm: LanguageModel, data: Dataset) -> list[str]:
        encoder, room = Encoder(lm.tokenizer), lm.context_length
        rows = [row for question in data.hallucination for row in choices(question)]
        overlong = [row for row in rows if len(encoder.prompt(row.prompt) + encoder.text(row.completion)) > room]
        if not overlong:
            return []
        return [
            f"{len(overlong)} of {len(rows)} choices do not fit in the context of {room} after their whole question, "
            f"which loses its beginning, the first: {overlong[0].source}"
        ]

    def measure(self, subject: Subject, data: Dataset) -> Measurement:
        questions = [question for question in data.hallucination if choices(question)]
        if not questions:
            return Measurement()
        rows = [row for question in questions for row in choices(question)]
        scores = iter(likelihood(subject.lm, rows, choices=True, base=None, **self.asking.size).rows)
        items: list[Item] = []
        best_per_token: list[bool] = []
        true_shares: list[float] = []
        for question in questions:
            true_count = len(true_texts(question))
            question_scores = list(islice(scores, true_count + len(question.wrong)))
            logs = [-score.nll_nats for score in question_scores]
            per_token = [-score.nll_nats / max(score.target_tokens, 1) for score in question_scores]
            highest = max(logs)
            probabilities = [math.exp(log - highest) for log in logs]
            items.append(_item(question, logs))
            best_per_token.append(per_token[0] > max(per_token[true_count:]))
            true_shares.append(sum(probabilities[:true_count]) / sum(probabilities))
        metrics = {
            "multiple_choice/mc1": rate([item.outcome == "right" for item in items]),
            "multiple_choice/mc1_per_token": rate(best_per_token),
            "multiple_choice/mc2": mean_t_interval(true_shares),
        }
        return Measurement(metrics, {self.name: items})


def choices(question: Question) -> list[Example]:
    """One row for each answer, true ones first; none where either kind is missing."""
    prompt, source = question.question, question.source
    texts = (*true_texts(question), *question.wrong) if question.answers and question.wrong else ()
    return [Example(question.id, prompt, continued(prompt, text), source) for text in texts]


def true_texts(question: Question) -> list[str]:
    """The true answers without letters of choices that the question lists: such a letter names the answer before it."""
    return [answer for answer in question.answers if f"\n{answer}. " not in question.question]


def _item(question: Question, logs: Sequence[float]) -> Item:
    """The chosen answer of MC1, in which the other true answers have no part, with its share of the probability."""
    texts, scores = [question.answers[0], *question.wrong], [logs[0], *logs[len(true_texts(question)) :]]
    best = max(range(len(texts)), key=lambda index: scores[index])
    return Item(
        id=question.id,
        question=question.question,
        answers=question.answers,
        answer=texts[best],
        outcome="right" if scores[0] > max(scores[1:]) else "wrong",
        confidence=round(1 / sum(math.exp(score - scores[best]) for score in scores), 6),
        population=question.population,
        cluster=question.cluster,
    )
