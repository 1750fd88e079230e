"""Gain against loss: which runs are not beaten on both, and one number for a single run."""

from collections.abc import Sequence


def non_dominated(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Whether no other point beats each. Higher is better in both numbers; equal points do not beat each other, so that
    duplicates stay together.
    """
    return [
        not any(other[0] >= point[0] and other[1] >= point[1] and other != point for other in points)
        for point in points
    ]


def gained_share_of_headroom(base: float, tuned: float) -> float | None:
    """(tuned - base) / (1 - base), negative if the task got worse; None if the base left nothing to gain."""
    return None if base >= 1 else (tuned - base) / (1 - base)


def balance_score(gained_share: float | None, kept_share: float | None) -> float | None:
    """Harmonic mean; a run that gained nothing (or got worse) or kept nothing scores 0, and None means undefined."""
    if gained_share is None or kept_share is None:
        return None
    if gained_share <= 0 or kept_share <= 0:
        return 0.0
    return 2 * gained_share * kept_share / (gained_share + kept_share)
