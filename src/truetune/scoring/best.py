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
    """What each model had right: a row a question, a column a model. `clusters` names the entity that each is about."""

    table: Floats
    clusters: Sequence[str]

    @classmethod
    def none(cls, models: int) -> Hits:
        return cls(np.zeros((0, models)), [])


@dataclass(frozen=True)
class Standings:
    """Each model's score, and of each pair (first, second) the second's minus the first's with its interval and Holm's
    p among all pairs: whichever model comes out best, that it was chosen by its score is allowed for.
    """

    scores: list[Estimate]
    gaps: dict[tuple[int, int], Estimate]

    def best(self, among: Sequence[int]) -> int:
        """The earliest of those with the highest score."""
        return max(among, key=lambda model: self.scores[model].value)

    def gap(self, first: int, second: int) -> Estimate:
        """The second's score minus the first's."""
        if first < second:
            return self.gaps[first, second]
        gap = self.gaps[second, first]
        ends = (-gap.ends[1], -gap.ends[0]) if gap.ends else (None, None)
        return Estimate(-gap.value, gap.n, *ends, gap.p)

    def tied(self, with_model: int, among: Sequence[int]) -> list[int]:
        """Those that cannot be told from a model, itself included: the interval covers 0, or p does not agree."""
        return [model for model in among if model == with_model or not is_apart(self.gap(model, with_model))]


def is_apart(gap: Estimate) -> bool:
    covers_zero = gap.ends is None or gap.ends[0] <= 0 <= gap.ends[1]
    return not covers_zero and gap.p is not None and gap.p < 1 - CONFIDENCE


def standings(task: Hits, known: Hits, base: Sequence[float] | None = None) -> Standings:
    """By the balance of what is gained on the task and kept of what was known; without one of them by the other.

    With `base`, what the untouched model had right of the task, gained is the share of what it left to gain. Intervals
    resample whole entities, the same for all models; p is that of swapping two models' answers about each at random.
    """
    models, asked = task.table.shape[1], len(task.clusters)
    columns = np.zeros((asked + len(known.clusters), 2 * models + 3))
    columns[:asked, :models], columns[:asked, -2] = task.table, 1
    columns[:asked, -3] = 0.0 if base is None else base
    columns[asked:, models : 2 * models], columns[asked:, -1] = known.table, 1
    sums, rng = sum_by_cluster(columns, [*task.clusters, *known.clusters]), np.random.default_rng(0)
    groups, n = len(sums), len(columns)
    total = sums.sum(axis=0)
    weights = (rng.multinomial(groups, np.full(groups, 1 / groups), size=CHUNK) for _ in range(RESAMPLES // CHUNK))
    draws = np.concatenate([_scores(times @ sums, models) for times in weights])
    values = _scores(total, models)
    pairs = list(combinations(range(models), 2))
    chunks = max(RESAMPLES, SWAPS_A_PAIR * len(pairs)) // CHUNK
    swaps = (rng.integers(2, size=(CHUNK, groups)) for _ in range(chunks))
    moved = np.concatenate([swap @ sums[:, : 2 * models] for swap in swaps]) if pairs else np.zeros((0, 2 * models))

    def estimate(value: float, drawn: Floats) -> Estimate:
        drawn = drawn[np.isfinite(drawn)]  # a resample in which nothing was asked has no score
        return Estimate(value, n, *(percentiles(drawn) if len(drawn) and groups >= FEWEST else ()))

    scores = [estimate(float(values[model]), draws[:, model]) for model in range(models)]
    gaps = [estimate(float(values[b] - values[a]), draws[:, b] - draws[:, a]) for a, b in pairs]
    p_values = holm([_swapped_p(total, moved, pair, models) for pair in pairs])
    return Standings(scores, {pair: replace(gap, p=p) for pair, gap, p in zip(pairs, gaps, p_values, strict=True)})


def _scores(totals: Floats, models: int) -> Floats:
    """Of sums over questions: right of the task and of the known by model, the base's right, asked of either."""
    with np.errstate(invalid="ignore", divide="ignore"):
        base, asked, of_known = (totals[..., [at]] for at in (-3, -2, -1))
        gained = (totals[..., :models] - base) / (asked - base)
        kept = totals[..., models : 2 * models] / of_known
        if not asked.any():
            return kept
        if not of_known.any():
            return gained
        product = np.maximum(gained, 0) * np.maximum(kept, 0)
        return np.where(product > 0, 2 * product / (gained + kept), 0 * product)


def _swapped_p(total: Floats, moved: Floats, pair: tuple[int, int], models: int) -> float:
    """P that two scores differ as much if the two models' answers about each entity were swapped at random."""
    columns = [*pair, *(models + model for model in pair)]
    change = moved[:, [columns[at] for at in (1, 0, 3, 2)]] - moved[:, columns]
    of_two = total[[*columns, -3, -2, -1]]
    swapped = np.tile(of_two, (len(moved), 1))
    swapped[:, :4] += change
    gaps, gap = (np.subtract(*np.moveaxis(_scores(sums, 2), -1, 0)) for sums in (swapped, of_two))
    less = np.abs(gaps) < abs(float(gap)) - 1e-9  # what is undefined is no less
    return float((1 + (~less).sum()) / (1 + len(gaps)))
