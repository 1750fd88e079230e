"""What a model has right of the selection questions: checkpoints are chosen by it, and a guard watches it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from truetune.scoring.balance import balance_score
from truetune.scoring.best_model import Hits, Standings, is_apart, standings
from truetune.scoring.estimates import Estimate, rate
from truetune.scoring.item import Item
from truetune.scoring.paired import of_values
from truetune.scoring.rates import clusters, met

# Each is decided like the metric that the run reports in the end, from other questions.
REPORTED = {
    "val/right": "task/right",
    "val/known_right": "hallucination/known_right",
    "val/lost_rate": "hallucination/lost_rate",
    "val/score": "balance/score",
}


@dataclass(frozen=True)
class Selected:
    """Whether each question was answered as it should be, 1 or 0, and the entity that it is about.

    `task` is in the form that fine-tuning teaches, `known` are facts that the base has read; either may be empty.
    """

    task: list[float]
    task_clusters: list[str]
    known: list[float]
    known_clusters: list[str]

    @classmethod
    def of(cls, task: Sequence[Item], known: Sequence[Item]) -> Selected:
        return cls([float(met(i)) for i in task], clusters(task), [float(met(i)) for i in known], clusters(known))

    def plain(self) -> dict[str, Any]:
        """The fields as a dict, for a checkpoint."""
        return asdict(self)

    def estimates(self) -> dict[str, Estimate]:
        """`val/score` and its parts: the balance of both, or without known facts the share right alone."""
        estimates = {"val/right": rate(self.task, self.task_clusters)}
        score: float | None = estimates["val/right"].value
        if self.known:
            estimates["val/known_right"] = rate(self.known, self.known_clusters)
            score = balance_score(score, estimates["val/known_right"].value)
        return estimates | {"val/score": Estimate(score or 0.0, len(self.task))}

    @property
    def score(self) -> float:
        return self.estimates()["val/score"].value

    def against(self, base: Selected) -> dict[str, tuple[Estimate, Estimate]]:
        """Each estimate, and how much more it is than the base's on the same questions, with their intervals."""
        scores_of_both = _standings(base, self)
        pairs = {"val/score": (scores_of_both.scores[1], scores_of_both.gap(0, 1))}
        for name, before, after, entities in (
            ("val/right", base.task, self.task, self.task_clusters),
            ("val/known_right", base.known, self.known, self.known_clusters),
        ):
            if after:
                _, now, change = of_values(before, after, entities)
                pairs[name] = now, change
        base_right = [
            (now, entity) for was, now, entity in zip(base.known, self.known, self.known_clusters, strict=True) if was
        ]
        if base_right:
            lost = rate([1 - now for now, _ in base_right], [entity for _, entity in base_right])
            pairs["val/lost_rate"] = lost, lost
        return pairs

    def is_below(self, best: Selected) -> bool:
        """Whether its score can be told from a better one: the interval of the paired difference leaves out 0."""
        return is_apart(_standings(self, best).gap(0, 1))


def _standings(first: Selected, second: Selected) -> Standings:
    task = Hits(np.column_stack([first.task, second.task]), first.task_clusters)
    return standings(task, Hits(np.column_stack([first.known, second.known]), first.known_clusters))
