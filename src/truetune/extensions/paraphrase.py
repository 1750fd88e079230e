"""Was a fact learnt, or the wording in which it was taught?"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from truetune.data.dataset import Dataset, Example, Prompt
from truetune.data.values import Count
from truetune.probes.asking import Asking
from truetune.probes.likelihood import RowScore, likelihood
from truetune.probes.probe import Subject
from truetune.scoring.estimates import bootstraps
from truetune.scoring.item import Measurement


@dataclass(frozen=True)
class Paraphrase:
    """The loss on what is taught, behind the questions that are trained on and behind others for the same facts.

    It takes at most `rows` training rows that can be asked otherwise, in words that no row is trained on. A gap that
    grows from the base to the tuned model was learnt with the wording. Losses are means over rows, in nats per token.
    """

    needs_weights: ClassVar[bool] = True

    asking: Asking
    rows: Count = 200
    name: str = "paraphrase"

    def measure(self, subject: Subject, data: Dataset) -> Measurement:
        facts = [row for row in data.train if row.answers and row.asks]
        training_prompts = {_prompt(row) for row in facts}
        pairs = [(row, paraphrase) for row in facts if (paraphrase := _paraphrase(row, training_prompts))]
        pairs = random.Random("paraphrase").sample(pairs, min(self.rows, len(pairs)))
        if not pairs:
            return Measurement()
        taught_losses = self._losses(subject, [row for row, _ in pairs])
        other_losses = self._losses(subject, [row for _, row in pairs])
        columns = (taught_losses, other_losses, other_losses - taught_losses)

        def means(indices: npt.NDArray[np.intp]) -> list[float | None]:
            return [float(values[indices].mean()) for values in columns]

        names = ("taught_nll_nats_per_token", "other_nll_nats_per_token", "gap_nats_per_token")
        clusters = [row.cluster or row.id for row, _ in pairs]
        estimates = bootstraps(means, clusters, np.random.default_rng(0), subject.resamples)
        return Measurement({f"{self.name}/{name}": value for name, value in zip(names, estimates, strict=True)})

    def _losses(self, subject: Subject, rows: Sequence[Example]) -> npt.NDArray[np.float64]:
        scores: list[RowScore] = likelihood(subject.lm, rows, **self.asking.size).rows
        return np.array([score.nll_nats / max(score.target_tokens, 1) for score in scores])


def _prompt(row: Example) -> Prompt:
    return row.turns or row.prompt


def _paraphrase(row: Example, training_prompts: set[Prompt]) -> Example | None:
    """The row behind the first of its other wordings that nothing is trained on."""
    for ask in row.asks:
        if ask not in training_prompts:
            return replace(row, prompt=ask) if isinstance(ask, str) else replace(row, turns=ask)
    return None
