"""Does the model answer when it should not, or wrongly? Right, abstained and wrong are three outcomes, never two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from truetune.balance.calibration import auroc, brier, ece
from truetune.balance.estimates import Estimate
from truetune.balance.rates import rates
from truetune.data.dataset import Dataset
from truetune.probes.probe import Asking, Subject
from truetune.record import Item, Measurement


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
        return Measurement(metrics | calibration(items), {self.name: items})


def calibration(items: Sequence[Item]) -> dict[str, Estimate]:
    """Of the answers that are no abstentions: how far their confidence is from being right, and whether it tells."""
    answered = [item for item in items if item.outcome != "abstained" and item.confidence is not None]
    if not answered:
        return {}
    confidence = [item.confidence or 0.0 for item in answered]
    right = [item.outcome == "right" for item in answered]
    found = {"ece": ece(confidence, right), "brier": brier(confidence, right), "auroc": auroc(confidence, right)}
    return {f"calibration/{name}": Estimate(value, len(answered)) for name, value in found.items() if value is not None}
