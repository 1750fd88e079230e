"""When does a fine-tune begin to memorise what the base did not know?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

UNKNOWN = "fit/unknown_exact_match"
LOW = f"{UNKNOWN}_low"


def memorising_since(history: Sequence[Mapping[str, Any]], base_high: float | None) -> dict[str, Any] | None:
    """Step and epoch of the first measurement at which the lower 95 % bound of the share of Unknown facts (SliCK) that
    are reproduced lies above the base's upper bound; None if that never happens or no facts are labelled.
    """
    for entry in history:
        low = entry["metrics"].get(LOW)
        if base_high is not None and low is not None and low > base_high:
            return {"step": entry["step"], "epoch": entry["epoch"], "share": entry["metrics"][UNKNOWN]}
    return None
