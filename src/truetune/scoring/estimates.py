"""How sure are we of a measured share, mean or difference?"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

CONFIDENCE = 0.95
Z = 1.959963984540054  # the normal quantile at (1 + CONFIDENCE) / 2
RESAMPLES = 2000
MANY = 1000  # from here on Student's quantile is the normal one, within a thousandth
FEWEST = 6  # entities for a bootstrap: its interval holds for 0.46 of 95 % with 2, for 0.86 with 5
CHUNK = 200  # resamples held in memory at once: 5,000 clusters then need 8 MB, not 80


@dataclass(frozen=True)
class Estimate:
    """A value with the number of observations behind it and its 95 % interval; no interval means that none is known.

    A difference may have a `p` (see `truetune.scoring.paired.flips_p`).
    """

    value: float
    n: int
    low: float | None = None
    high: float | None = None
    p: float | None = None

    @property
    def ends(self) -> tuple[float, float] | None:
        return None if self.low is None or self.high is None else (self.low, self.high)

    def to_json(self) -> dict[str, float | int | None]:
        """JSON has no NaN: an undefined number is null."""
        row = {"value": _finite(self.value), "n": self.n, "low": _finite(self.low), "high": _finite(self.high)}
        return row if self.p is None else {**row, "p": self.p}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> "Estimate":
        """The inverse of `to_json`: a null value is NaN again."""
        value = row.get("value")
        return cls(
            math.nan if value is None else float(value),
            int(row.get("n") or 0),
            row.get("low"),
            row.get("high"),
            row.get("p"),
        )


def undefined() -> Estimate:
    """What a share of nothing is: no value, zero observations."""
    return Estimate(math.nan, 0)


def rate(hits: Sequence[float], clusters: Sequence[str] | None = None) -> Estimate:
    """Wilson's interval; correlated items (a cluster per entity) count as n / design effect, and fewer where there are
    few clusters to tell it from, by Student's quantiles (Korn & Graubard 1998).
    """
    if not hits:
        raise ValueError("rate() needs at least one observation")
    share = sum(hits) / len(hits)
    effective = float(len(hits)) if clusters is None else _effective_n(np.asarray(hits, float), clusters)
    low, high = wilson(share, effective)
    return Estimate(share, len(hits), low, high)


def wilson(share: float, n: float) -> tuple[float, float]:
    """Wilson's score interval; n may be fractional, as effective sample sizes are."""
    centre = (share + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n)) / (1 + Z * Z / n)
    # Rounding alone moves the ends past the share at 0 and 1, where they are exact.
    return (0.0 if share == 0 else centre - half), (1.0 if share == 1 else centre + half)


def paired_difference(
    before: Sequence[float], after: Sequence[float], clusters: Sequence[str] | None, rng: np.random.Generator
) -> Estimate:
    """Mean of after - before over the same items; the percentile interval resamples whole clusters, if there are 6."""
    if len(before) != len(after):
        raise ValueError(f"a paired difference needs equal lengths, got {len(before)} and {len(after)}")
    ones = np.ones(len(before))
    return ratio_difference((np.asarray(before, float), ones), (np.asarray(after, float), ones), clusters, rng)


def ratio_difference(
    before: tuple[Floats, Floats],
    after: tuple[Floats, Floats],
    clusters: Sequence[str] | None,
    rng: np.random.Generator,
) -> Estimate:
    """Difference of two ratios sum(hit) / sum(asked) over the same items, such as right answers over attempted ones."""
    columns = np.stack([*before, *after], axis=1)
    n = len(columns)
    if n == 0:
        raise ValueError("a paired difference needs at least one item")
    sums = columns if clusters is None else sum_by_cluster(columns, clusters)
    draws = _resampled_differences(sums, rng)
    value = float(gap_of_ratios(columns.sum(axis=0)))
    if len(draws) == 0 or len(sums) < FEWEST:
        return Estimate(value, n)
    return Estimate(value, n, *_percentiles(draws))


def bootstrap(
    statistic: Callable[[npt.NDArray[np.intp]], float | None],
    clusters: Sequence[str],
    rng: np.random.Generator,
    resamples: int = 400,
) -> Estimate:
    """A statistic of item numbers with its percentile interval over whole clusters, for what is no mean or ratio.

    Resamples of which it is undefined (None) are left out; above a twentieth of them there is no interval.
    """
    return bootstraps(lambda chosen: (statistic(chosen),), clusters, rng, resamples)[0]


def bootstraps(
    statistics: Callable[[npt.NDArray[np.intp]], Sequence[float | None]],
    clusters: Sequence[str],
    rng: np.random.Generator,
    resamples: int,
) -> list[Estimate]:
    """As `bootstrap`, of several statistics on the same resamples."""
    _, group = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    members = np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group))[:-1])
    values = statistics(np.arange(len(clusters)))
    draws = [
        statistics(np.concatenate([members[k] for k in rng.integers(len(members), size=len(members))]))
        for _ in range(resamples if len(members) >= FEWEST and any(value is not None for value in values) else 0)
    ]
    found: list[Estimate] = []
    for index, value in enumerate(values):
        drawn = [draw[index] for draw in draws if draw[index] is not None]
        ends = _percentiles(drawn) if len(drawn) >= max(1, 0.95 * resamples) else ()
        found.append(undefined() if value is None else Estimate(value, len(clusters), *ends))
    return found


def _percentiles(draws: Any) -> list[float]:
    return np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]).tolist()


def items_needed(estimate: Estimate, half_width: float = 0.03) -> int | None:
    """How many items would narrow a share's interval to +- half_width; None if it is that narrow, or has none."""
    width = estimate.ends[1] - estimate.ends[0] if estimate.ends else 0.0
    return math.ceil(estimate.n * (width / (2 * half_width)) ** 2) if width > 2 * half_width else None


def mean_t_interval(values: Sequence[float]) -> Estimate:
    """Mean over seeds with Student's interval; a single seed has no interval."""
    n = len(values)
    if n == 0:
        raise ValueError("mean_t_interval() needs at least one value")
    mean = math.fsum(values) / n
    if n == 1:
        return Estimate(mean, 1)
    half = t_quantile(n - 1) * standard_error(values, mean)
    return Estimate(mean, n, mean - half, mean + half)


def standard_error(values: Sequence[float], mean: float) -> float:
    n = len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1) / n)


@cache
def t_quantile(df: int, confidence: float = CONFIDENCE) -> float:
    """Two-sided Student quantile, by bisection on the finite series for integer degrees of freedom (A&S 26.7.3-4)."""
    low, high = 0.0, math.pi / 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if t_coverage(middle, df) < confidence else (low, middle)
    return math.sqrt(df) * math.tan(low)


def t_coverage(theta: float, df: int) -> float:
    """P(|T| < sqrt(df) tan(theta)) for Student's T."""
    odd = df % 2
    term, total = (math.cos(theta) if odd else 1.0), 0.0
    for k in range((df - odd) // 2):
        total += term
        term *= math.cos(theta) ** 2 * ((2 * k + 2) / (2 * k + 3) if odd else (2 * k + 1) / (2 * k + 2))
    return 2 / math.pi * (theta + math.sin(theta) * total) if odd else math.sin(theta) * total


def _effective_n(hits: Floats, clusters: Sequence[str]) -> float:
    """All right or all wrong says nothing about how alike the items of a cluster are, so a cluster then counts once."""
    n, share = len(hits), float(hits.mean())
    residuals = sum_by_cluster((hits - share)[:, None], clusters)[:, 0]
    groups = len(residuals)
    if share in (0.0, 1.0) or groups == 1:
        return float(groups)
    variance = groups / (groups - 1) * float((residuals**2).sum()) / n**2
    effective = n / max(1.0, variance / (share * (1 - share) / n))
    return max(1.0, effective * (t_quantile(min(n, MANY) - 1) / t_quantile(min(groups, MANY) - 1)) ** 2)


def sum_by_cluster(columns: Floats, clusters: Sequence[str]) -> Floats:
    if len(clusters) != len(columns):
        raise ValueError(f"one cluster name per item is needed, got {len(clusters)} for {len(columns)} items")
    names, group = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    sums = np.zeros((len(names), columns.shape[1]))
    np.add.at(sums, group, columns)
    return sums


def _resampled_differences(sums: Floats, rng: np.random.Generator) -> Floats:
    groups = len(sums)
    draws: list[Floats] = []
    for _ in range(RESAMPLES // CHUNK):
        times_drawn = rng.multinomial(groups, np.full(groups, 1 / groups), size=CHUNK)
        draws.append(gap_of_ratios(times_drawn @ sums))
    differences = np.concatenate(draws)
    return differences[np.isfinite(differences)]  # a resample in which nothing was asked has no ratio


def gap_of_ratios(totals: Floats) -> Floats:
    """Of columns hit, asked, hit and asked: the second ratio minus the first."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return totals[..., 2] / totals[..., 3] - totals[..., 0] / totals[..., 1]


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
