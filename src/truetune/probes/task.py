"""Has the model learnt the task? Held-out questions, or texts, in the form that the fine-tuning teaches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from truetune.data.dataset import Dataset, Question
from truetune.probes.asking import Asking
from truetune.probes.likelihood import likelihood
from truetune.probes.probe import Subject, true_answers
from truetune.scoring.item import Measurement
from truetune.scoring.rates import rates


@dataclass(frozen=True)
class Task:
    """`task/right`, `task/exact_match` and `task/token_f1` of greedy answers; the likelihood of the first true one, and
    how far the predictions there are from the base's: it tells what is forgotten (Shenfeld et al. 2025).
    """

    selects: ClassVar[bool] = True

    asking: Asking
    name: str = "task"

    def asks(self, data: Dataset) -> Sequence[Question]:
        return data.task

    def measure(self, subject: Subject, data: Dataset) -> Measurement:
        items = self.asking.ask(subject, data.task, data)
        metrics = rates(self.name, items)
        truths = data.task_texts or true_answers(data.task)
        if truths and subject.has_weights:
            scores = likelihood(subject.lm, truths, base=subject.base, **self.asking.size)
            metrics |= scores.metrics(self.name, truths, subject.resamples)
        return Measurement(metrics, {self.name: items} if items else {})
