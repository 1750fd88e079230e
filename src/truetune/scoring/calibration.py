"""Does confidence tell right from wrong?"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

BINS = 15
T = TypeVar("T")


def bins_of(confidence: Sequence[float], answers: Sequence[T], bins: int = BINS) -> list[tuple[float, list[T]]]:
    """Mean confidence and answers (or what stands for them) of each bin of equal width that is not empty."""
    confidences = np.asarray(confidence, dtype=float)
    bin_numbers = np.minimum((confidences * bins).astype(int), bins - 1)
    members = [np.flatnonzero(bin_numbers == b) for b in np.unique(bin_numbers)]
    return [(float(confidences[indices].mean()), [answers[index] for index in indices.tolist()]) for indices in members]


def ece(confidence: Sequence[float], right: Sequence[bool]) -> float:
    """Expected calibration error over bins of equal width (Guo et al. 2017, eq. 3); in [0, 1], 0 is perfect."""
    gaps = [abs(sum(hits) - mean_confidence * len(hits)) for mean_confidence, hits in bins_of(confidence, right)]
    return sum(gaps) / len(confidence)


def brier(confidence: ArrayLike, right: ArrayLike) -> float:
    """Mean squared distance of confidence and outcome (Brier 1950, for two classes); 0 is perfect."""
    return float(np.mean((np.asarray(confidence, dtype=float) - np.asarray(right, dtype=float)) ** 2))


def auroc(confidence: ArrayLike, right: ArrayLike) -> float | None:
    """P(a right answer is surer than a wrong one), ties half; None without answers of both kinds."""
    confidences, is_right = np.asarray(confidence, dtype=float), np.asarray(right, dtype=bool)
    winners, losers = confidences[is_right], np.sort(confidences[~is_right])
    if not len(winners) or not len(losers):
        return None
    # Losers below each winner, and those that are not above it: the mean of the two counts a tie as one half.
    below = np.searchsorted(losers, winners, "left") + np.searchsorted(losers, winners, "right")
    return float(below.sum() / 2 / (len(winners) * len(losers)))
