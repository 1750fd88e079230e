"""What changed between two measurements of the same questions: lost, gained, kept, and kinds of wrong answers."""

from collections.abc import Collection, Container, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from truetune.balance.answers import key
from truetune.balance.estimates import Estimate, bootstrap, rate, undefined
from truetune.balance.rates import AnyScored, Scored, clusters, has_no_answer
from truetune.errors import UserError


class Answered(Scored, Protocol):
    """A scored item with the text that was answered."""

    @property
    def answer(self) -> str: ...


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


def lost(before: Sequence[AnyScored], after: Sequence[AnyScored]) -> Estimate:
    """Of the items that were right before, the share that is not right any more (wrong or abstained)."""
    return _share(before, after, was="right", is_right=False)


def kept(before: Sequence[AnyScored], after: Sequence[AnyScored]) -> Estimate:
    """Of the items that were right before, the share that still is: 1 - lost."""
    return _share(before, after, was="right", is_right=True)


def gained(before: Sequence[AnyScored], after: Sequence[AnyScored]) -> Estimate:
    """Of the items that were wrong before (an abstention is not wrong), the share that is right now."""
    return _share(before, after, was="wrong", is_right=True)


def _share(before: Sequence[AnyScored], after: Sequence[AnyScored], *, was: str, is_right: bool) -> Estimate:
    pairs = [pair for pair in join(before, after) if pair[0].outcome == was]
    if not pairs:
        return undefined()
    hits = [(later.outcome == "right") is is_right for _, later in pairs]
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


def kinds(
    before: Answered | None,
    after: Answered,
    *,
    fine_tuning_answers: Container[str] = frozenset(),
    domain: Collection[str] | None = None,
) -> tuple[str, ...]:
    """Every way in which a wrong answer is wrong; both collections hold keys of answers, a None domain is unknown.

    An answer of no words claims nothing that could be an echo, yet it is no abstention either: always off_domain.
    """
    if after.outcome != "wrong":
        return ()
    said = key(after.answer)
    found = {
        "lost": before is not None and before.outcome == "right",
        "invented": has_no_answer(after),
        "echo": bool(said) and said in fine_tuning_answers,
        "off_domain": not after.answer.strip() or (domain is not None and said not in domain),
    }
    return tuple(kind for kind, present in found.items() if present)
