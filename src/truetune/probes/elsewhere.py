"""What fine-tuning does to all that it is not about: facts, things that do not exist, abilities, general text."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from truetune.data.dataset import Dataset
from truetune.probes.asking import Asking
from truetune.probes.likelihood import likelihood
from truetune.probes.probe import Subject
from truetune.probes.ranking import Ranking
from truetune.scoring.item import Measurement
from truetune.scoring.rates import rates


@dataclass(frozen=True)
class Elsewhere:
    """Asks the data's battery apart from the data: answers have the room that they need, and none is an echo."""

    only_at_ends: ClassVar[bool] = True  # it takes too long to be asked while training

    asking: Asking
    name: str = "elsewhere"

    def measure(self, subject: Subject, data: Dataset) -> Measurement:
        battery, asking = data.elsewhere, replace(self.asking, max_new_tokens=None)
        if battery is None:
            return Measurement()
        parts = (battery.facts, battery.nonexistent, battery.abilities)
        alone = battery.alone
        items = [item for part in parts for item in asking.ask(subject, part, alone)]
        metrics = rates(self.name, items)
        if battery.texts and subject.has_weights:
            scores = likelihood(subject.lm, battery.texts, base=subject.base, **asking.size)
            metrics |= scores.metrics(self.name, battery.texts, subject.resamples)
        items_by_name = {self.name: items} if items else {}
        ranking = Ranking(asking)
        if subject.has_weights and (facts := ranking.rankable(battery.facts, alone)):
            items_by_name[f"{self.name}_known"] = ranking.rank(subject, facts, alone)
        return Measurement(metrics, items_by_name)
