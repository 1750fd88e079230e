"""How sure are we of a measured share, mean or difference?"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Interval = tuple[float, float]

CONFIDENCE = 0.95
Z = 1.959963984540054  # the normal quantile at (1 + CONFIDENCE) / 2
HALF_WIDTH = 0.03  # at most, of the interval that a share should have
RESAMPLES = 2000
MANY = 1000  # observations: from here on Student's quantile is the normal one, within a thousandth
FEWEST = 6  # entities for a bootstrap: its 95 % interval holds in 0.46 of cases with 2, in 0.86 with 5
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
        value, low, high = (
            None if number is None or not math.isfinite(number) else float(number)
            for number in (self.value, self.low, self.high)
        )
        row: dict[str, float | int | None] = {"value": value, "n": self.n, "low": low, "high": high}
        return row if self.p is None else {**row, "p": self.p}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> "Estimate":
        """The inverse of `to_json`: a null value is NaN again."""
        value = math.nan if row.get("value") is None else float(row["value"])
        return cls(value, int(row.get("n") or 0), row.get("low"), row.get("high"), row.get("p"))


def undefined() -> Estimate:
    """The estimate of a share of nothing: no value, zero observations."""
    return Estimate(math.nan, 0)


def rate(hits: Sequence[float], clusters: Sequence[str] | None = None) -> Estimate:
    """Wilson's interval; correlated items (a cluster per entity) count as n / design effect, and fewer where there are
    few clusters to tell it from, by Student's quantiles (Korn & Graubard 1998).
    """
    n = len(hits)
    if n == 0:
        raise ValueError("rate() needs at least one observation")
    share = sum(hits) / n
    if clusters is None:
        return Estimate(share, n, *wilson(share, n))
    residuals = sum_by_cluster((np.asarray(hits, float) - share)[:, None], clusters)[:, 0]
    groups = len(residuals)
    if share in (0.0, 1.0) or groups == 1:
        # All right or all wrong says nothing about how alike the items of a cluster are: each cluster counts once.
        return Estimate(share, n, *wilson(share, groups))
    variance = groups / (groups - 1) * float((residuals**2).sum()) / n**2
    effective_size = n / max(1.0, variance / (share * (1 - share) / n))
    effective_size *= (t_quantile(min(n, MANY) - 1) / t_quantile(min(groups, MANY) - 1)) ** 2
    return Estimate(share, n, *wilson(share, max(1.0, effective_size)))


def wilson(share: float, n: float) -> tuple[float, float]:
    """Wilson's score interval; n may be fractional, as effective sample sizes are."""
    centre = (share + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half_width = Z * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n)) / (1 + Z * Z / n)
    # Rounding alone moves the ends past the share at 0 and 1, where they are exact.
    return (0.0 if share == 0 else centre - half_width), (1.0 if share == 1 else centre + half_width)


def effective_n(share: Estimate) -> float:
    """The sample size that Wilson's interval of a share was made with: smaller than n where items are alike."""
    if share.ends is None:
        return share.n
    (low, high), value = share.ends, share.value
    product = (1 - value) ** 2 / ((1 - low) * (1 - high)) if value < 0.5 else value**2 / (low * high)
    return Z * Z / (product - 1) if product > 1 else share.n


def items_needed(estimate: Estimate) -> int | None:
    """How many items would narrow a share's interval to +- HALF_WIDTH; None if it is that narrow, or there is none."""
    width = estimate.ends[1] - estimate.ends[0] if estimate.ends else 0.0
    return math.ceil(estimate.n * (width / (2 * HALF_WIDTH)) ** 2) if width > 2 * HALF_WIDTH else None


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
    value = float(gap_of_ratios(columns.sum(axis=0)))
    sums = columns if clusters is None else sum_by_cluster(columns, clusters)
    groups = len(sums)
    draws: list[Floats] = []
    for _ in range(RESAMPLES // CHUNK):
        times_drawn = rng.multinomial(groups, np.full(groups, 1 / groups), size=CHUNK)
        draws.append(gap_of_ratios(times_drawn @ sums))
    gaps = np.concatenate(draws)
    gaps = gaps[np.isfinite(gaps)]  # a resample in which nothing was asked has no ratio
    return Estimate(value, n, *percentiles(gaps)) if len(gaps) and groups >= FEWEST else Estimate(value, n)


def gap_of_ratios(totals: Floats) -> Floats:
    """The second ratio minus the first, of columns hit, asked, hit and asked."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return totals[..., 2] / totals[..., 3] - totals[..., 0] / totals[..., 1]


def sum_by_cluster(columns: Floats, clusters: Sequence[str]) -> Floats:
    """Sums of the columns, one row a cluster, in the order of their names."""
    if len(clusters) != len(columns):
        raise ValueError(f"one cluster name per item is needed, got {len(clusters)} for {len(columns)} items")
    names, group = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    sums = np.zeros((len(names), columns.shape[1]))
    np.add.at(sums, group, columns)
    return sums


def percentiles(draws: Any) -> list[float]:
    return np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]).tolist()


def bootstrap(
    statistic: Callable[[npt.NDArray[np.intp]], float | None],
    clusters: Sequence[str],
    rng: np.random.Generator,
    resamples: int = 400,
) -> Estimate:
    """A statistic of item numbers, such as is no mean or ratio, with its percentile interval over whole clusters.

    Resamples of which it is undefined (None) are left out; above a twentieth of them there is no interval.
    """
    return bootstraps(lambda indices: (statistic(indices),), clusters, rng, resamples)[0]


def bootstraps(
    statistics: Callable[[npt.NDArray[np.intp]], Sequence[float | None]],
    clusters: Sequence[str],
    rng: np.random.Generator,
    resamples: int,
) -> list[Estimate]:
    """Several statistics on the same resamples, each estimated as by `bootstrap`."""
    _, group = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    members = np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group))[:-1])
    values = statistics(np.arange(len(clusters)))
    draws = [
        statistics(np.concatenate([members[k] for k in rng.integers(len(members), size=len(members))]))
        for _ in range(resamples if len(members) >= FEWEST and any(value is not None for value in values) else 0)
    ]
    estimates: list[Estimate] = []
    for index, value in enumerate(values):
        samples = [draw[index] for draw in draws if draw[index] is not None]
        ends = percentiles(samples) if len(samples) >= max(1, 0.95 * resamples) else ()
        estimates.append(undefined() if value is None else Estimate(value, len(clusters), *ends))
    return estimates


def mean_t_interval(values: Sequence[float]) -> Estimate:
    """Mean over seeds with Student's interval; a single seed has no interval."""
    n = len(values)
    if n == 0:
        raise ValueError("mean_t_interval() needs at least one value")
    mean = math.fsum(values) / n
    if n == 1:
        return Estimate(mean, 1)
    half_width = t_quantile(n - 1) * standard_error(values, mean)
    return Estimate(mean, n, mean - half_width, mean + half_width)


def standard_error(values: Sequence[float], mean: float) -> float:
    n = len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1) / n)


@cache
def t_quantile(df: int) -> float:
    """Student's quantile of a two-sided interval."""
    from scipy.special import stdtrit  # takes a third of a second to import, which `--help` need not wait for

    return float(stdtrit(df, (1 + CONFIDENCE) / 2))
