"""How easily chance alone would have made such a difference: exact p values, and their correction for many of them."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from truetune.scoring.estimates import (
    CHUNK,
    RESAMPLES,
    Estimate,
    Floats,
    gap_of_ratios,
    paired_difference,
    rate,
    ratio_difference,
    standard_error,
    sum_by_cluster,
)
from truetune.scoring.item import Item, Measurement
from truetune.scoring.lost_and_kept import join
from truetune.scoring.rates import DEFINITIONS, clusters, indicators


def mcnemar_exact(b: int, c: int) -> float:
    """Two-sided p value that b items flipped one way and c the other if both ways were equally likely."""
    from scipy.special import bdtr  # the distribution function of the binomial; see `t_quantile` for why here

    return min(1.0, 2 * float(bdtr(min(b, c), b + c, 0.5)))


def flips_p(before: Floats, after: Floats, clusters: Sequence[str]) -> float:
    """Exact McNemar p of two measurements of the same items, each cluster counting once: it rose, fell or stayed."""
    net = sum_by_cluster((after - before)[:, None], clusters)[:, 0].round(9)
    return mcnemar_exact(int((net > 0).sum()), int((net < 0).sum()))


def swapped_p(
    before: tuple[Floats, Floats], after: tuple[Floats, Floats], clusters: Sequence[str], rng: np.random.Generator
) -> float:
    """P that two ratios sum(hit) / sum(asked) differ as much if the two measurements of each cluster were swapped at
    random: for ratios of which each measurement chose what was asked.
    """
    sums = sum_by_cluster(np.stack([*before, *after], axis=1), clusters)
    total, change = sums.sum(axis=0), sums[:, [2, 3, 0, 1]] - sums
    swaps = (rng.integers(2, size=(CHUNK, len(sums))) for _ in range(RESAMPLES // CHUNK))
    gaps = np.concatenate([gap_of_ratios(total + swap @ change) for swap in swaps])
    is_smaller = np.abs(gaps) < abs(float(gap_of_ratios(total))) - 1e-9  # an undefined gap is no smaller
    return float((1 + (~is_smaller).sum()) / (1 + RESAMPLES))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values in the order given (Holm 1979): at 5 %, at most one family in 20 has any false alarm."""
    p = np.asarray(p_values, float)
    order = p.argsort(kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted.tolist()


def t_test(values: Sequence[float]) -> float:
    """Two-sided p value of Student's test that the mean over two or more seeds is 0."""
    from scipy.special import stdtr

    mean = math.fsum(values) / len(values)
    error = standard_error(values, mean)
    if error == 0:
        return float(mean == 0)
    return 2 * float(stdtr(len(values) - 1, -abs(mean) / error))


def delta(base: Measurement, final: Measurement) -> dict[str, Estimate]:
    """Final - base of each metric in both; the interval is a paired bootstrap over entities where items allow it.

    It has a p too, exact where base and tuned were asked the same items: an interval of a few items is too narrow.
    """
    differences: dict[str, Estimate] = {}
    for name, before in base.metrics.items():
        if name in final.metrics:
            after = final.metrics[name]
            probe = name.partition("/")[0]
            difference = Estimate(after.value - before.value, after.n)
            if name in DEFINITIONS and probe in base.items and probe in final.items:
                item_difference = _difference_of_items(name, base.items[probe], final.items[probe])
                # Items that do not add up to the reported values speak of something else: no interval then.
                if item_difference and math.isclose(item_difference.value, difference.value, abs_tol=1e-6):
                    difference = replace(item_difference, value=difference.value)
            differences[name] = difference
    return differences


def of_values(
    before: Sequence[float], after: Sequence[float], names: Sequence[str]
) -> tuple[Estimate, Estimate, Estimate]:
    """Two means over the same items, whose clusters are `names`, and their difference with its p.

    It is McNemar's where every value is 0 or 1, else that of swapping the two at random. Means that lie outside
    [0, 1] get a bootstrap's interval, for they are no shares.
    """
    rng, first, second = np.random.default_rng(0), np.asarray(before, float), np.asarray(after, float)
    values, zeros = np.concatenate([first, second]), np.zeros(len(first))
    difference = paired_difference(before, after, names, rng)
    if np.isin(values, (0, 1)).all():
        p = flips_p(first, second, names)
    else:
        ones = np.ones(len(first))
        p = swapped_p((first, ones), (second, ones), names, rng)
    if values.min() >= 0 and values.max() <= 1:
        means = [rate(before, names), rate(after, names)]
    else:
        means = [paired_difference(zeros.tolist(), side, names, rng) for side in (before, after)]
    return means[0], means[1], replace(difference, p=p)


def _difference_of_items(name: str, base: Sequence[Item], final: Sequence[Item]) -> Estimate | None:
    """The metric's difference with interval and p; None if no item was asked."""
    is_asked = DEFINITIONS[name][0]
    pairs = [pair for pair in join(base, final) if is_asked(pair[0]) or is_asked(pair[1])]
    if not pairs:
        return None
    first, second = indicators(name, [pair[0] for pair in pairs]), indicators(name, [pair[1] for pair in pairs])
    entities, rng = clusters([pair[0] for pair in pairs]), np.random.default_rng(0)
    difference = ratio_difference(first, second, entities, rng)
    if not (first[1] == second[1]).all():
        return replace(difference, p=swapped_p(first, second, entities, rng))
    return replace(difference, p=flips_p(first[0], second[0], entities))
