"""What changed between two measurements of the same questions: what is lost and kept, and the mean change by task."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from truetune.errors import UserError
from truetune.scoring.estimates import Estimate, bootstrap, rate, undefined
from truetune.scoring.rates import AnyScored, clusters


def join(before: Sequence[AnyScored], after: Sequence[AnyScored]) -> list[tuple[AnyScored, AnyScored]]:
    """Pairs on item id, in the order of `before`; measurements that asked different questions cannot be compared."""
    first, second = _by_id(before), _by_id(after)
    only_one = sorted(first.keys() ^ second.keys())
    if only_one:
        raise UserError(
            f"the two measurements asked different questions: {len(first)} and {len(second)} items, {len(only_one)} of "
            f"them in one only (such as {', '.join(only_one[:3])}); measure both models with the same probes"
        )
    return [(item, second[key]) for key, item in first.items()]


def _by_id(items: Sequence[AnyScored]) -> dict[str, AnyScored]:
    found = {item.id: item for item in items}
    if len(found) < len(items):
        ids = [item.id for item in items]
        twice = sorted(key for key in found if ids.count(key) > 1)
        raise UserError(f"item ids must differ, but {len(twice)} are used more than once (such as {twice[0]})")
    return found


def kept(before: Sequence[AnyScored], after: Sequence[AnyScored]) -> Estimate:
    """Of the items that were right before, the share that still is."""
    return _share_of_right(before, after, "right")


def lost(before: Sequence[AnyScored], after: Sequence[AnyScored]) -> Estimate:
    """1 - kept: what was right before and is wrong or abstained now."""
    return _share_of_right(before, after, "wrong", "abstained")


def refused(before: Sequence[AnyScored], after: Sequence[AnyScored]) -> Estimate:
    """Over-refusal: of the items that were right before, the share that is abstained on now."""
    return _share_of_right(before, after, "abstained")


def _share_of_right(before: Sequence[AnyScored], after: Sequence[AnyScored], *outcomes: str) -> Estimate:
    pairs = [pair for pair in join(before, after) if pair[0].outcome == "right"]
    if not pairs:
        return undefined()
    hits = [later.outcome in outcomes for _, later in pairs]
    return rate(hits, clusters([earlier for earlier, _ in pairs]))


def backward_transfer(before: Sequence[AnyScored], after: Sequence[AnyScored], rng: np.random.Generator) -> Estimate:
    """Accuracy now - accuracy then, mean over earlier tasks, the items' populations (Lopez-Paz & Ranzato 2017)."""
    pairs = join(before, after)
    _, task = np.unique([earlier.population for earlier, _ in pairs], return_inverse=True)
    change = np.array([(later.outcome == "right") - (earlier.outcome == "right") for earlier, later in pairs], float)

    def statistic(chosen: npt.NDArray[np.intp]) -> float | None:
        asked = np.bincount(task[chosen], minlength=int(task.max()) + 1)
        if not asked.all():
            return None
        return float((np.bincount(task[chosen], weights=change[chosen], minlength=len(asked)) / asked).mean())

    return bootstrap(statistic, clusters([earlier for earlier, _ in pairs]), rng)
