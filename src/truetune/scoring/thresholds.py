"""What if the model said nothing where it is unsure? Risk, coverage, and what abstaining is worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from truetune.scoring.estimates import Estimate, Floats, bootstraps


def risk_coverage(confidence: npt.ArrayLike, wrong: npt.ArrayLike) -> tuple[Floats, Floats]:
    """(coverage, risk): the share of wrong answers among the k surest, for every k from 1 to n.

    Equal confidences have no order: their errors count as spread evenly, which is the mean over all orders.
    """
    confidences, is_wrong = np.asarray(confidence, dtype=float), np.asarray(wrong, dtype=float)
    _, group, sizes = np.unique(-confidences, return_inverse=True, return_counts=True)
    errors = np.bincount(group, weights=is_wrong)
    counts = np.arange(1, len(confidences) + 1)
    risks = np.cumsum(np.repeat(errors / sizes, sizes)) / counts
    return counts / len(confidences), risks


def aurc(confidence: npt.ArrayLike, wrong: npt.ArrayLike) -> float:
    """Area under the risk-coverage curve, the mean risk over all coverages (Geifman & El-Yaniv 2017); 0 is best."""
    return float(risk_coverage(confidence, wrong)[1].mean())


def worth_of_outcomes(outcomes: npt.ArrayLike, wrong_cost: float) -> Floats:
    """Right 1, wrong -`wrong_cost`, nothing said 0."""
    if wrong_cost < 0:
        raise ValueError(f"wrong_cost must not be negative, got {wrong_cost}")
    labels = np.asarray(outcomes)
    return np.where(labels == "right", 1.0, np.where(labels == "wrong", -wrong_cost, 0.0))


def target_scores(confidence: npt.ArrayLike, outcomes: npt.ArrayLike, t: float) -> Floats:
    """Right 1, wrong -t / (1 - t), nothing said 0; an answer below confidence t is not given (Kalai et al. 2025)."""
    if not 0 <= t < 1:
        raise ValueError(f"a confidence target is in [0, 1), got {t}")
    return np.where(np.asarray(confidence, dtype=float) >= t, worth_of_outcomes(outcomes, t / (1 - t)), 0.0)


def worth_curve(confidence: npt.ArrayLike, outcomes: npt.ArrayLike, wrong_cost: float) -> tuple[Floats, Floats]:
    """(thresholds, value per 100 questions) for every confidence that occurs, ascending."""
    thresholds, group = np.unique(np.asarray(confidence, dtype=float), return_inverse=True)
    sums = np.bincount(group, weights=worth_of_outcomes(outcomes, wrong_cost))
    return thresholds, 100 * sums[::-1].cumsum()[::-1] / len(group)


class Worth(NamedTuple):
    """Values are per 100 questions. `breaks_even` is the lowest confidence from which on answering is worth more than
    it costs, `best` the one of the greatest value; None if it never is. Chosen and valued on the same questions, so on
    new ones the best value is a little less.
    """

    always: float
    breaks_even: float | None
    best: float | None
    best_value: float


def worth(confidence: npt.ArrayLike, outcomes: npt.ArrayLike, wrong_cost: float) -> Worth:
    """The worth of an assistant that answers only from a confidence on."""
    thresholds, values = worth_curve(confidence, outcomes, wrong_cost)
    always = 100 * float(worth_of_outcomes(outcomes, wrong_cost).mean())
    worthwhile = np.flatnonzero(values > 1e-9)
    if not len(worthwhile):
        return Worth(always, None, None, 0.0)
    best = int(values.argmax())
    return Worth(always, float(thresholds[worthwhile[0]]), float(thresholds[best]), float(values[best]))


def worth_estimates(
    confidence: npt.ArrayLike,
    outcomes: npt.ArrayLike,
    wrong_cost: float,
    clusters: Sequence[str],
    rng: np.random.Generator,
    resamples: int,
) -> dict[str, Estimate]:
    """Each part of `Worth` under its name, with its interval over clusters."""
    confidences, labels = np.asarray(confidence, dtype=float), np.asarray(outcomes)
    estimates = bootstraps(
        lambda indices: worth(confidences[indices], labels[indices], wrong_cost), clusters, rng, resamples
    )
    return dict(zip(Worth._fields, estimates, strict=True))
