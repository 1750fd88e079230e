"""Does the model answer when it should not, or wrongly? Right, abstained and wrong are three outcomes, never two."""

from __future__ import annotations

from dataclasses import dataclass

from truetune.data.dataset import Dataset
from truetune.probes.probe import Asking, Subject
from truetune.scoring.item import Measurement
from truetune.scoring.rates import rates


@dataclass(frozen=True)
class Hallucination:
    """Questions about known entities that the fine-tuning never mentions, and about entities that do not exist."""

    asking: Asking
    name: str = "hallucination"

    def measure(self, subject: Subject, data: Dataset) -> Measurement:
        if not data.hallucination:
            return Measurement()
        items = self.asking.ask(subject, data.hallucination, data)
        metrics = rates(self.name, items)
        if not data.train:
            metrics.pop("hallucination/echo_rate", None)  # an audit knows nothing of the fine-tuning set
        if not data.domains:
            metrics.pop("hallucination/off_domain_rate", None)  # no values are known to be of the right kind
        return Measurement(metrics, {self.name: items})
