"""Each method of a sweep against plain fine-tuning on the same items, corrected for how many methods are compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from truetune.errors import UserError
from truetune.records.record import read_items
from truetune.report.sweeps import Job, is_seed
from truetune.scoring.estimates import Estimate, mean_t_interval
from truetune.scoring.item import Item
from truetune.scoring.lost_and_kept import join
from truetune.scoring.paired import flips_p, holm, t_test
from truetune.scoring.rates import clusters

# quantity -> (which base items count, what is a fault of the tuned model's answer)
FAULTS: dict[str, tuple[Callable[[Item], bool], Callable[[Item], bool]]] = {
    "lost": (lambda base: base.outcome == "right", lambda tuned: tuned.outcome != "right"),
    "wrong": (lambda base: True, lambda tuned: tuned.outcome == "wrong"),
}


@dataclass(frozen=True)
class Comparison:
    """Faults that the job alone makes (`more`) and that plain alone makes (`fewer`), of `n` shared items.

    `differences` holds (more - fewer) / n, one per seed. Over several seeds `p` is that of Student's paired test on
    them: the questions of one seed share a model. Of a single seed it is `of_one`, McNemar's exact one, each entity
    counting once.
    """

    quantity: str
    setting: tuple[tuple[str, str], ...]
    numbers: tuple[int, ...]
    more: int
    fewer: int
    n: int
    differences: tuple[float, ...]
    of_one: float

    @property
    def p(self) -> float:
        return t_test(self.differences) if len(self.differences) > 1 else self.of_one

    @property
    def difference(self) -> Estimate:
        """Mean over seeds, job - plain, with Student's interval."""
        return mean_t_interval(self.differences)


def compared(jobs: Sequence[Job]) -> list[Comparison]:
    """Every job that has a plain counterpart on the same items, for every quantity."""
    plain = {_without_method(job): job for job in jobs if _method(job) == "plain"}
    pairs = [(job, plain.get(_without_method(job))) for job in jobs if _method(job) != "plain"]
    found = [_compared(job, other, quantity) for job, other in pairs if other for quantity in FAULTS]
    return [comparison for comparison in found if comparison]


def pooled(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Jobs that differ only in their seed, together."""
    groups: dict[tuple[str, tuple[tuple[str, str], ...]], list[Comparison]] = {}
    for one in comparisons:
        groups.setdefault((one.quantity, one.setting), []).append(one)
    return [
        Comparison(
            quantity,
            setting,
            tuple(number for one in group for number in one.numbers),
            sum(one.more for one in group),
            sum(one.fewer for one in group),
            sum(one.n for one in group),
            tuple(value for one in group for value in one.differences),
            group[0].of_one,
        )
        for (quantity, setting), group in groups.items()
    ]


def adjusted(comparisons: Sequence[Comparison]) -> list[float]:
    """Holm's p values, each among the comparisons of its own quantity."""
    found: dict[int, float] = {}
    for quantity in FAULTS:
        family = [index for index, one in enumerate(comparisons) if one.quantity == quantity]
        found |= dict(zip(family, holm([comparisons[index].p for index in family]), strict=True))
    return [found[index] for index in range(len(comparisons))]


def columns(jobs: Sequence[Job]) -> list[list[str]]:
    """For sweep.csv: a heading, then a line per job; empty cells where there is nothing to compare."""
    found = compared(jobs)
    cells = {
        (one.numbers[0], one.quantity): [repr(one.differences[0]), repr(one.p), repr(p_holm)]
        for one, p_holm in zip(found, adjusted(found), strict=True)
    }
    if not cells:
        return [[] for _ in range(len(jobs) + 1)]
    head = [f"against_plain/{name}/{part}" for name in FAULTS for part in ("difference", "p", "p_holm")]
    return [head, *([c for name in FAULTS for c in cells.get((job.number, name), [""] * 3)] for job in jobs)]


def _compared(job: Job, plain: Job, quantity: str) -> Comparison | None:
    """None without items, or if the two were asked different questions."""
    counts, is_fault = FAULTS[quantity]
    try:
        base, ours, theirs = (_items(job, "base"), _items(job, "final"), _items(plain, "final"))
        asked = {item.id for item in base if counts(item)}
        pairs = [pair for pair in join(ours, theirs) if pair[0].id in asked]
        join(base, ours)
    except UserError:
        return None
    if not pairs:
        return None
    mine, others = (np.array([is_fault(pair[which]) for pair in pairs], float) for which in (0, 1))
    more, fewer = int((mine > others).sum()), int((others > mine).sum())
    setting = tuple((key, value) for key, value in job.overrides.items() if not is_seed(key))
    p = flips_p(others, mine, clusters([pair[0] for pair in pairs]))
    return Comparison(quantity, setting, (job.number,), more, fewer, len(pairs), ((more - fewer) / len(pairs),), p)


def _items(job: Job, when: str) -> list[Item]:
    return read_items(job.folder / "items" / f"hallucination.{when}.jsonl")


def _method(job: Job) -> str:
    return job.overrides.get("method", "plain").strip("[]")


def _without_method(job: Job) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((key, value) for key, value in job.overrides.items() if key != "method"))
