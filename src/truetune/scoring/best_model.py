"""Which of several models is best on the same questions, and which of the others cannot be told from it?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from truetune.scoring.estimates import (
    CHUNK,
    CONFIDENCE,
    FEWEST,
    RESAMPLES,
    Estimate,
    Floats,
    percentiles,
    sum_by_cluster,
)
from truetune.scoring.paired import holm

SWAPS_A_PAIR = 40  # for each pair of models: Holm multiplies the least p, 1 / swaps, by the number of pairs


@dataclass(frozen=True)
class Hits:
    """What each model had right: a row a question, a column a model. `clusters` names the entity of each question."""

    table: Floats
    clusters: Sequence[str]

    @classmethod
    def none(cls, models: int) -> Hits:
        return cls(np.zeros((0, models)), [])


@dataclass(frozen=True)
class Standings:
    """Each model's score, and for each pair (first, second) the second's minus the first's with its interval and Holm's
    p among all pairs, which allows for the best model being chosen by its score.
    """

    scores: list[Estimate]
    gaps: dict[tuple[int, int], Estimate]

    def best(self, among: Sequence[int]) -> int:
        """The model with the highest score, the earliest of several."""
        return max(among, key=lambda model: self.scores[model].value)

    def gap(self, first: int, second: int) -> Estimate:
        """The second's score minus the first's."""
        if first < second:
            return self.gaps[first, second]
        gap = self.gaps[second, first]
        ends = (-gap.ends[1], -gap.ends[0]) if gap.ends else (None, None)
        return Estimate(-gap.value, gap.n, *ends, gap.p)

    def tied(self, with_model: int, among: Sequence[int]) -> list[int]:
        """The models that cannot be told from one, itself included: the interval covers 0, or p does not agree."""
        return [model for model in among if model == with_model or not is_apart(self.gap(model, with_model))]


def is_apart(gap: Estimate) -> bool:
    covers_zero = gap.ends is None or gap.ends[0] <= 0 <= gap.ends[1]
    return not covers_zero and gap.p is not None and gap.p < 1 - CONFIDENCE


def standings(task: Hits, known: Hits, base: Sequence[float] | None = None) -> Standings:
    """Scores by the balance of what is gained on the task and kept of what was known; without one, by the other alone.

    With `base`, what the untouched model had right of the task, a gain is a share of what it left to gain. Intervals
    resample whole entities, the same for all models; p is that of swapping two models' answers about each at random.
    """
    models, task_count = task.table.shape[1], len(task.clusters)
    columns = np.zeros((task_count + len(known.clusters), 2 * models + 3))
    columns[:task_count, :models], columns[:task_count, -2] = task.table, 1
    columns[:task_count, -3] = 0.0 if base is None else base
    columns[task_count:, models : 2 * models], columns[task_count:, -1] = known.table, 1
    sums, rng = sum_by_cluster(columns, [*task.clusters, *known.clusters]), np.random.default_rng(0)
    groups, n = len(sums), len(columns)
    total = sums.sum(axis=0)
    weights = (rng.multinomial(groups, np.full(groups, 1 / groups), size=CHUNK) for _ in range(RESAMPLES // CHUNK))
    draws = np.concatenate([_scores(times @ sums, models) for times in weights])
    values = _scores(total, models)
    pairs = list(combinations(range(models), 2))
    chunks = max(RESAMPLES, SWAPS_A_PAIR * len(pairs)) // CHUNK
    swaps = (rng.integers(2, size=(CHUNK, groups)) for _ in range(chunks))
    changes = np.concatenate([swap @ sums[:, : 2 * models] for swap in swaps]) if pairs else np.zeros((0, 2 * models))

    def estimate(value: float, samples: Floats) -> Estimate:
        samples = samples[np.isfinite(samples)]  # a resample in which nothing was asked has no score
        return Estimate(value, n, *(percentiles(samples) if len(samples) and groups >= FEWEST else ()))

    scores = [estimate(float(values[model]), draws[:, model]) for model in range(models)]
    gaps = [estimate(float(values[b] - values[a]), draws[:, b] - draws[:, a]) for a, b in pairs]
    p_values = holm([_swapped_p(total, changes, pair, models) for pair in pairs])
    return Standings(scores, {pair: replace(gap, p=p) for pair, gap, p in zip(pairs, gaps, p_values, strict=True)})


def _scores(totals: Floats, models: int) -> Floats:
    """Scores from sums over questions, in columns: right of the task and of the known by model, the base's right of the
    task, questions asked of the task and of the known.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        base, task_count, known_count = (totals[..., [column]] for column in (-3, -2, -1))
        gains = (totals[..., :models] - base) / (task_count - base)
        shares_kept = totals[..., models : 2 * models] / known_count
        if not task_count.any():
            return shares_kept
        if not known_count.any():
            return gains
        product = np.maximum(gains, 0) * np.maximum(shares_kept, 0)
        return np.where(product > 0, 2 * product / (gains + shares_kept), 0 * product)


def _swapped_p(total: Floats, changes: Floats, pair: tuple[int, int], models: int) -> float:
    """P that two scores differ as much if the two models' answers about each entity were swapped at random."""
    columns = [*pair, *(models + model for model in pair)]
    change = changes[:, [columns[column] for column in (1, 0, 3, 2)]] - changes[:, columns]
    pair_total = total[[*columns, -3, -2, -1]]
    totals = np.tile(pair_total, (len(changes), 1))
    totals[:, :4] += change
    gaps, gap = (np.subtract(*np.moveaxis(_scores(sums, 2), -1, 0)) for sums in (totals, pair_total))
    is_smaller = np.abs(gaps) < abs(float(gap)) - 1e-9  # an undefined gap is no smaller
    return float((1 + (~is_smaller).sum()) / (1 + len(gaps)))
