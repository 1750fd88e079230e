"""Does confidence tell right from wrong?"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

BINS = 15
T = TypeVar("T")


def bins_of(confidence: Sequence[float], answers: Sequence[T], bins: int = BINS) -> list[tuple[float, list[T]]]:
    """Mean confidence and answers (or what stands for them) of each bin of equal width that is not empty."""
    sure = np.asarray(confidence, dtype=float)
    place = np.minimum((sure * bins).astype(int), bins - 1)
    members = [np.flatnonzero(place == b) for b in np.unique(place)]
    return [(float(sure[chosen].mean()), [answers[index] for index in chosen.tolist()]) for chosen in members]


def ece(confidence: Sequence[float], right: Sequence[bool]) -> float:
    """Expected calibration error over bins of equal width (Guo et al. 2017, eq. 3); in [0, 1], 0 is perfect."""
    gaps = [abs(sum(hits) - sure * len(hits)) for sure, hits in bins_of(confidence, right)]
    return sum(gaps) / len(confidence)


def brier(confidence: ArrayLike, right: ArrayLike) -> float:
    """Mean squared distance of confidence and outcome (Brier 1950, for two classes); 0 is perfect."""
    return float(np.mean((np.asarray(confidence, dtype=float) - np.asarray(right, dtype=float)) ** 2))


def auroc(confidence: ArrayLike, right: ArrayLike) -> float | None:
    """P(a right answer is surer than a wrong one), ties half; None without answers of both kinds."""
    sure, hit = np.asarray(confidence, dtype=float), np.asarray(right, dtype=bool)
    winners, losers = sure[hit], np.sort(sure[~hit])
    if not len(winners) or not len(losers):
        return None
    # Losers below each winner, and those that are not above it: the mean of the two counts a tie as one half.
    below = np.searchsorted(losers, winners, "left") + np.searchsorted(losers, winners, "right")
    return float(below.sum() / 2 / (len(winners) * len(losers)))
