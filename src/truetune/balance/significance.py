"""How easily chance alone would have made such a difference: exact p values, and their correction for many of them."""

import math
from collections.abc import Sequence

import numpy as np

from truetune.balance.estimates import (
    CHUNK,
    RESAMPLES,
    Floats,
    gap_of_ratios,
    standard_error,
    sum_by_cluster,
    t_coverage,
)


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
