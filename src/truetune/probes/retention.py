"""What is left of the base: its language, its predictions and its general abilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from truetune.data.dataset import Dataset, Question
from truetune.probes.asking import Asking
from truetune.probes.likelihood import likelihood
from truetune.probes.probe import Subject, true_answers
from truetune.scoring.estimates import Estimate
from truetune.scoring.item import Measurement
from truetune.scoring.rates import rates


@dataclass(frozen=True)
class Retention:
    """Nll and KL(base || tuned) per target token of held-out texts; accuracy on exercises that need no facts.

    Without texts, the KL is measured on the task's questions and true answers.
    """

    asking: Asking
    name: str = "retention"

    def asks(self, data: Dataset) -> Sequence[Question]:
        return data.ability

    def measure(self, subject: Subject, data: Dataset) -> Measurement:
        metrics: dict[str, Estimate] = {}
        texts = data.texts or data.task_texts or true_answers(data.task)
        if texts and subject.has_weights:
            scores = likelihood(subject.lm, texts, base=subject.base, **self.asking.size)
            metrics = scores.metrics(self.name, texts, subject.resamples)
            if not data.texts:
                metrics.pop("retention/nll_nats_per_token", None)
        items = self.asking.ask(subject, data.ability, data)
        return Measurement({**metrics, **rates(self.name, items)}, {self.name: items} if items else {})
