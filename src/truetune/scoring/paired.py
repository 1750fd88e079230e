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
    ratio_difference,
    standard_error,
    sum_by_cluster,
    t_coverage,
    undefined,
)
from truetune.scoring.item import Item, Measurement
from truetune.scoring.lost_and_kept import join
from truetune.scoring.rates import DEFINITIONS, clusters, indicators


def mcnemar_exact(b: int, c: int) -> float:
    """Two-sided p value that b items flipped one way and c the other if both ways were equally likely."""
    k = np.arange(1, min(b, c) + 1)
    logs = np.concatenate([[0.0], np.cumsum(np.log((b + c - k + 1) / k))])  # of the binomial coefficients
    return min(1.0, 2 * math.exp(np.logaddexp.reduce(logs) - (b + c) * math.log(2)))


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
    less = np.abs(gaps) < abs(float(gap_of_ratios(total))) - 1e-9  # what is undefined is no less
    return float((1 + (~less).sum()) / (1 + RESAMPLES))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values in the order given (Holm 1979): at 5 %, at most one family in 20 has any false alarm."""
    p = np.asarray(p_values, float)
    order = p.argsort(kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted.tolist()


def t_test(values: Sequence[float]) -> float:
    """Two-sided p value of Student's test that the mean over two or more seeds is 0."""
    mean = math.fsum(values) / len(values)
    error = standard_error(values, mean)
    if error == 0:
        return float(mean == 0)
    df = len(values) - 1
    return 1 - t_coverage(math.atan(abs(mean) / error / math.sqrt(df)), df)


def delta(base: Measurement, final: Measurement, *, seed: int = 0) -> dict[str, Estimate]:
    """Final - base of each metric in both; the interval is a paired bootstrap over entities where items allow it.

    With its p, exact where base and tuned were asked the same items: an interval of a few items is too narrow.
    """
    found: dict[str, Estimate] = {}
    for name, before in base.metrics.items():
        if name in final.metrics:
            after = final.metrics[name]
            interval = _from_items(name, base.items, final.items, np.random.default_rng(seed))
            value = after.value - before.value
            # Items that do not add up to the reported values speak of something else: no interval then.
            agrees = math.isclose(interval.value, value, abs_tol=1e-6)
            found[name] = replace(interval, value=value) if agrees else Estimate(value, after.n)
    return found


def _from_items(
    name: str, base: dict[str, list[Item]], final: dict[str, list[Item]], rng: np.random.Generator
) -> Estimate:
    probe = name.partition("/")[0]
    if name not in DEFINITIONS or probe not in base or probe not in final:
        return undefined()
    asked = DEFINITIONS[name][0]
    pairs = [pair for pair in join(base[probe], final[probe]) if asked(pair[0]) or asked(pair[1])]
    if not pairs:
        return undefined()
    before: Sequence[Item] = [pair[0] for pair in pairs]
    after: Sequence[Item] = [pair[1] for pair in pairs]
    first, second, entities = indicators(name, before), indicators(name, after), clusters(before)
    found = ratio_difference(first, second, entities, rng)
    if not (first[1] == second[1]).all():
        return replace(found, p=swapped_p(first, second, entities, rng))
    return replace(found, p=flips_p(first[0], second[0], entities))
