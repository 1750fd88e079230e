"""Is a limit on a metric kept, broken or undecided? The whole interval decides, and how many questions would."""

import math
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from truetune.scoring.estimates import CONFIDENCE, Estimate, Interval, effective_n, wilson
from truetune.scoring.metrics import metric

Bound = Literal["max", "min", "max_drop"]
Result = Literal["pass", "fail", "undecided"]
MOST = 1000  # times as many questions as were asked, for a limit that is undecided


class Limit(NamedTuple):
    """A bound on a metric; `max_drop`: how much worse than the base's, by the direction in the table of metrics."""

    bound: Bound
    metric: str
    value: float


@dataclass(frozen=True)
class Decision:
    """`measured` has the ends that decided; `needed` questions would decide if the value stayed what it is."""

    limit: Limit
    measured: Estimate
    result: Result
    needed: int | None = None

    def to_json(self) -> dict[str, Any]:
        """One row of `gate.limits` in run.json."""
        limit = {"bound": self.limit.bound, "metric": self.limit.metric, "limit": float(self.limit.value)}
        return {**limit, "result": self.result, **self.measured.to_json(), "needed": self.needed}


def decide(limit: Limit, final: Estimate, difference: Estimate | None = None) -> Decision:
    """Decides by the ends of the interval. Without one a share is undecided, for too few different things were asked;
    any other metric, such as a loss, is decided by its value.
    """
    estimate = final if limit.bound != "max_drop" or difference is None else _worsening(limit.metric, difference)
    if math.isnan(estimate.value) or (estimate.ends is None and metric(limit.metric).is_share):
        return Decision(limit, estimate, "undecided")
    ends = _ends(limit, estimate, final)
    result = _result(limit, ends or (estimate.value, estimate.value))
    count = _needed(limit, estimate, final) if result == "undecided" else None
    return Decision(limit, replace(estimate, low=ends[0], high=ends[1]) if ends else estimate, result, count)


def overall(results: Iterable[Result], undecided: Literal["pass", "fail"] | None) -> Result:
    """The result of all limits: one broken fails all; `undecided` is what undecided ones count as, if one must say."""
    outcomes = {undecided if result == "undecided" and undecided else result for result in results}
    return "fail" if "fail" in outcomes else "undecided" if "undecided" in outcomes else "pass"


def _worsening(name: str, difference: Estimate) -> Estimate:
    if metric(name).direction == "lower":
        return difference
    ends = (-difference.ends[1], -difference.ends[0]) if difference.ends else (None, None)
    return Estimate(-difference.value, difference.n, *ends, difference.p)


def _result(limit: Limit, ends: Interval) -> Result:
    low, high = ends
    if limit.bound == "min":
        return "pass" if low >= limit.value else "fail" if high < limit.value else "undecided"
    return "pass" if high <= limit.value else "fail" if low > limit.value else "undecided"


def _needed(limit: Limit, estimate: Estimate, final: Estimate) -> int | None:
    """How many questions would decide; None if the value lies on the limit, or so near that nobody would ask them."""

    def decides(count: int) -> bool:
        ends = _ends(limit, estimate, final, count / estimate.n)
        return ends is not None and _result(limit, ends) != "undecided"

    counts = range(estimate.n, MOST * estimate.n)
    first = bisect_left(counts, True, key=decides)
    return counts[first] if first < len(counts) else None


def _ends(limit: Limit, estimate: Estimate, final: Estimate, times: float = 1.0) -> Interval | None:
    """The ends that decide: the reported ones and, for shares, the exact ones too, with `times` as many questions.

    Wilson's interval and the bootstrap are too narrow for rare events: at a share of 0.05 of 20 questions Wilson's
    lower end is above the truth in 7.5 % of audits; where no answer changed, a bootstrap's interval has no width.
    """
    if estimate.ends is None:
        return None
    value, n = estimate.value, times * min(estimate.n, effective_n(final) * estimate.n / final.n)
    scaled_ends = [value + (end - value) / math.sqrt(times) for end in estimate.ends]
    reports = [(scaled_ends[0], scaled_ends[1])]
    if not metric(limit.metric).is_share:
        return reports[0]
    low, high = exact(abs(value), n)
    if limit.bound != "max_drop":
        # With more questions a Wilson interval does not narrow evenly.
        return _around([(low, high), wilson(value, n), *(reports if times == 1 else ())])
    intervals = [*reports, (low, high) if value >= 0 else (-high, -low)]
    if estimate.p is not None and estimate.p >= 1 - CONFIDENCE:  # chance alone: as open as if no answer had changed
        no_change = exact(0.0, n)[1]
        intervals.append((-no_change, no_change))
    return _around(intervals)


def _around(intervals: list[Interval]) -> Interval:
    return min(low for low, _ in intervals), max(high for _, high in intervals)


def exact(share: float, n: float) -> Interval:
    """Clopper and Pearson's interval, which errs in at most 2.5 % of audits on either side, whatever share and n."""
    from scipy.special import betaincinv  # see `t_quantile` for why here

    hits, tail = share * n, (1 - CONFIDENCE) / 2
    low = float(betaincinv(hits, n - hits + 1, tail)) if hits > 0 else 0.0
    return low, float(betaincinv(hits + 1, n - hits, 1 - tail)) if hits < n else 1.0
