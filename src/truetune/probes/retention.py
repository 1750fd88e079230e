"""What is left of the base: its language, its predictions and its general abilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from truetune.data.dataset import Dataset, Question
from truetune.probes.likelihood import likelihood
from truetune.probes.probe import Asking, Subject, true_answers
from truetune.scoring.estimates import Estimate
from truetune.scoring.item import Measurement
from truetune.scoring.rates import rates


@dataclass(frozen=True)
class Retention:
    """Nll and KL(base || tuned) per target token of held-out texts; accuracy on exercises that need no facts.

    Without texts, the KL is measured on the task's questions and true answers (the drift of Shenfeld et al. 2025).
    """

    asking: Asking
    name: str = "retention"

    def asks(self, data: Dataset) -> Sequence[Question]:
        return data.ability

    def measure(self, subject: Subject, data: Dataset) -> Measurement:
        metrics: dict[str, Estimate] = {}
        texts = data.texts or data.task_texts or true_answers(data.task)
        if texts:
            likely = likelihood(subject.lm, texts, batch_size=self.asking.batch_size, base=subject.base)
            tokens = likely.target_tokens
            if tokens and data.texts:
                metrics["retention/nll_nats_per_token"] = Estimate(likely.nll_nats_per_token, tokens)
            if tokens:
                metrics["retention/kl_to_base_nats_per_token"] = Estimate(likely.kl_to_base_nats_per_token, tokens)
        items = self.asking.ask(subject, data.ability, data)
        return Measurement({**metrics, **rates(self.name, items)}, {self.name: items} if items else {})
