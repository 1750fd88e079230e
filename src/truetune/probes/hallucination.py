"""Does the model answer when it should not, or wrongly? Right, abstained and wrong are three outcomes, never two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from truetune.data.dataset import Dataset, Question
from truetune.probes.asking import Asking
from truetune.probes.probe import Subject
from truetune.scoring.item import Measurement
from truetune.scoring.rates import rates


@dataclass(frozen=True)
class Hallucination:
    """Questions about known entities that the fine-tuning never mentions, and about entities that do not exist."""

    selects: ClassVar[bool] = True

    asking: Asking
    name: str = "hallucination"

    def asks(self, data: Dataset) -> Sequence[Question]:
        return data.hallucination

    def measure(self, subject: Subject, data: Dataset) -> Measurement:
        items = self.asking.ask(subject, data.hallucination, data)
        metrics = rates(self.name, items)
        if not data.train:
            metrics.pop("hallucination/echo_rate", None)  # an audit knows nothing of the fine-tuning set
        if not data.domains:
            metrics.pop("hallucination/off_domain_rate", None)  # no values are known to be of the right kind
        return Measurement(metrics, {self.name: items} if items else {})
