"""Does the model answer when it should not, or wrongly? Right, abstained and wrong are three outcomes, never two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from truetune.data.dataset import Dataset, Question
from truetune.probes.asking import Asking, resolved
from truetune.probes.probe import Subject
from truetune.scoring.estimates import rate
from truetune.scoring.item import Measurement
from truetune.scoring.rates import clusters, rates


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
        pairs = zip(data.hallucination, items, strict=True)
        tried = [item for question, item in pairs if question.words and question.answers and not question.rule]
        first = resolved(self.asking.how.forms[0], subject.lm, data)
        for form in {first: "", **tried[0].also} if tried else ():
            hits = [(item.outcome if form == first else item.also[form]) == "right" for item in tried]
            metrics[f"{self.name}/right_in_{form}"] = rate(hits, clusters(tried))
        return Measurement(metrics, {self.name: items} if items else {})
