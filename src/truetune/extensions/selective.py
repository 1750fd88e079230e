"""Should it rather say nothing? What the model's confidence is good for, as a rule for when to answer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from truetune.data.dataset import Dataset
from truetune.data.values import NotNegative
from truetune.probes.probe import Asking, Subject
from truetune.scoring.estimates import bootstrap, paired_difference
from truetune.scoring.item import Measurement
from truetune.scoring.rates import clusters
from truetune.scoring.thresholds import aurc, target_scores, worth_estimates

TARGETS = (0.5, 0.75, 0.9)


@dataclass(frozen=True)
class Selective:
    """Of the questions of the hallucination probe: the area under risk-coverage, the score at three confidence targets,
    and what an assistant is worth that answers only from a confidence on, where a wrong answer costs `wrong_cost`.
    """

    asking: Asking
    wrong_cost: NotNegative
    name: str = "selective"

    def measure(self, subject: Subject, data: Dataset) -> Measurement:
        items = self.asking.ask(subject, data.hallucination, data) if data.hallucination else []
        if not items:
            return Measurement()
        entities, outcomes = np.array(clusters(items)), np.array([item.outcome for item in items])
        sure = np.array([item.confidence or 0.0 for item in items])
        zeros, rng, times = [0.0] * len(items), np.random.default_rng(0), subject.resamples
        found = {
            f"selective/score_at_{100 * t:.0f}": paired_difference(
                zeros, target_scores(sure, outcomes, t).tolist(), list(entities), rng
            )
            for t in TARGETS
        }
        values = worth_estimates(sure, outcomes, self.wrong_cost, list(entities), rng, times)
        found["selective/worth_from_confidence"] = values["breaks_even"]
        found["selective/best_worth_per_100"] = values["best_value"]
        said = outcomes != "abstained"
        if said.any():
            sure, wrong = sure[said], outcomes[said] == "wrong"
            found["selective/aurc"] = bootstrap(
                lambda chosen: aurc(sure[chosen], wrong[chosen]), list(entities[said]), rng, times
            )
        return Measurement({name: estimate for name, estimate in found.items() if estimate.n})
