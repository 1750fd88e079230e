"""What changed between two measurements of the same questions: what is lost and kept, and the mean change by task."""

from collections import Counter
from collections.abc import Container, Sequence

import numpy as np
import numpy.typing as npt

from truetune.errors import UserError
from truetune.scoring.estimates import Estimate, bootstrap, rate, undefined
from truetune.scoring.item import Item
from truetune.scoring.rates import clusters


def join(before: Sequence[Item], after: Sequence[Item]) -> list[tuple[Item, Item]]:
    """Pairs by item id, in the order of `before`; UserError if the measurements asked different questions."""
    for items in (before, after):
        repeated_ids = sorted(key for key, times in Counter(item.id for item in items).items() if times > 1)
        if repeated_ids:
            raise UserError(
                f"item ids must differ, but {len(repeated_ids)} are used more than once (such as {repeated_ids[0]})"
            )
    first, second = ({item.id: item for item in items} for items in (before, after))
    unpaired = sorted(first.keys() ^ second.keys())
    if unpaired:
        raise UserError(
            f"the two measurements asked different questions: {len(first)} and {len(second)} items, {len(unpaired)} "
            f"of them in one only (such as {', '.join(unpaired[:3])}); measure both models with the same probes"
        )
    return [(item, second[key]) for key, item in first.items()]


def share_of_right(before: Sequence[Item], after: Sequence[Item], *outcomes: str) -> Estimate:
    """Share of the items that were right before whose outcome is now one of those given."""
    pairs = [pair for pair in join(before, after) if pair[0].outcome == "right"]
    if not pairs:
        return undefined()
    return rate([later.outcome in outcomes for _, later in pairs], clusters([earlier for earlier, _ in pairs]))


def kept(before: Sequence[Item], after: Sequence[Item]) -> Estimate:
    """Share of the items that were right before that still are."""
    return share_of_right(before, after, "right")


def lost(before: Sequence[Item], after: Sequence[Item]) -> Estimate:
    """1 - kept: what was right before and is wrong or abstained now."""
    return share_of_right(before, after, "wrong", "abstained")


def refused(before: Sequence[Item], after: Sequence[Item]) -> Estimate:
    """Over-refusal: share of the items that were right before on which the model abstains now."""
    return share_of_right(before, after, "abstained")


def known_ids(items: Sequence[Item], ranked: Sequence[Item]) -> set[str] | None:
    """Ids of items whose true answer ranks first or that are right in another form; None if some were not tried so."""
    ranks_first = {item.id: item.outcome == "right" for item in ranked}
    if not all(len(item.forms) > 1 or item.id in ranks_first for item in items):
        return None
    return {item.id for item in items if ranks_first.get(item.id) or "right" in item.forms.values()}


def apart(
    before: Sequence[Item], after: Sequence[Item], knew: Container[str], knows: Container[str]
) -> dict[str, Estimate]:
    """What is lost, and gained, in form and in fact: `lost/form` + `lost/fact` is the rate lost, of what was right.

    `knew` and `knows` hold the ids of items whose fact the model showed to know in another way, before and after. A
    loss is one of form if it still does; a gain, which is a share of what was not right, if it already did.
    """
    shares: dict[str, Estimate] = {}
    for name, was_right, knowing in (("lost", True, knows), ("gained", False, knew)):
        pairs = [pair for pair in join(before, after) if (pair[0].outcome == "right") == was_right]
        names = clusters([earlier for earlier, _ in pairs])
        changes = [(earlier.id, (later.outcome == "right") != was_right) for earlier, later in pairs]
        if pairs:
            shares[f"{name}/form"] = rate([change and item in knowing for item, change in changes], names)
            shares[f"{name}/fact"] = rate([change and item not in knowing for item, change in changes], names)
    return shares


def backward_transfer(before: Sequence[Item], after: Sequence[Item], rng: np.random.Generator) -> Estimate:
    """Accuracy now - accuracy then, mean over earlier tasks, the items' populations (Lopez-Paz & Ranzato 2017)."""
    pairs = join(before, after)
    _, task = np.unique([earlier.population for earlier, _ in pairs], return_inverse=True)
    change = np.array([(later.outcome == "right") - (earlier.outcome == "right") for earlier, later in pairs], float)

    def statistic(indices: npt.NDArray[np.intp]) -> float | None:
        counts = np.bincount(task[indices], minlength=int(task.max()) + 1)
        if not counts.all():
            return None
        return float((np.bincount(task[indices], weights=change[indices], minlength=len(counts)) / counts).mean())

    return bootstrap(statistic, clusters([earlier for earlier, _ in pairs]), rng)
