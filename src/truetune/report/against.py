"""Compares each method of a sweep with plain fine-tuning on the same items, corrected for the number of methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from truetune.errors import UserError
from truetune.records.record import read_items
from truetune.records.run_folder import items_file
from truetune.report.sweeps import Overrides, RecordedRun, distinct, over_seeds
from truetune.scoring.estimates import Estimate
from truetune.scoring.item import Item
from truetune.scoring.lost_and_kept import join
from truetune.scoring.metrics import metric
from truetune.scoring.paired import flips_p, holm, t_test
from truetune.scoring.rates import clusters


class Fault(NamedTuple):
    """A kind of fault: which items count, by the base's answer, and which answers of the tuned model are faults.

    `metric` is the share of such faults.
    """

    metric: str
    counts: Callable[[Item], bool]
    is_fault: Callable[[Item], bool]


FAULTS = {
    "lost": Fault("hallucination/lost_rate", lambda base: base.outcome == "right", lambda it: it.outcome != "right"),
    "wrong": Fault("hallucination/rate", lambda base: True, lambda it: it.outcome == "wrong"),
}


@dataclass(frozen=True)
class Comparison:
    """Faults that the run alone makes (`more`) and that plain alone makes (`fewer`), of `n` shared items.

    `differences` holds (more - fewer) / n, one per seed. Over several seeds `p` is that of Student's paired test on
    them: the questions of one seed share a model. For a single seed it is `of_one`, that of McNemar's exact test, in
    which each entity counts once.
    """

    quantity: str
    setting: Overrides
    numbers: tuple[int, ...]
    more: int
    fewer: int
    n: int
    differences: tuple[float, ...]
    of_one: float

    @property
    def label(self) -> str:
        label = metric(FAULTS[self.quantity].metric).label
        return label[0].lower() + label[1:]

    @property
    def p(self) -> float:
        return t_test(self.differences) if len(self.differences) > 1 else self.of_one

    @property
    def difference(self) -> Estimate:
        """The mean over seeds of run - plain."""
        return over_seeds(self.differences)


def compared(runs: Sequence[RecordedRun]) -> list[Comparison]:
    """The comparison of every run with its plain counterpart on the same items, if any, for every quantity.

    Repeated runs are left out.
    """
    plain_runs: dict[Overrides, RecordedRun] = {}
    method_runs: list[tuple[Overrides, RecordedRun]] = []
    for run in distinct(runs):
        rest = tuple((key, value) for key, value in (*run.setting, *run.seed) if key != "method")
        if run.overrides.get("method", "plain").strip("[]") == "plain":
            plain_runs[rest] = run
        else:
            method_runs.append((rest, run))
    pairs = [(run, plain_runs[rest]) for rest, run in method_runs if rest in plain_runs]
    comparisons = [_compared(run, counterpart, quantity) for run, counterpart in pairs for quantity in FAULTS]
    return [comparison for comparison in comparisons if comparison]


def pooled(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons, with runs that differ only in their seed taken together."""
    groups: dict[tuple[str, Overrides], list[Comparison]] = {}
    for one in comparisons:
        groups.setdefault((one.quantity, one.setting), []).append(one)
    pools: list[Comparison] = []
    for (quantity, setting), group in groups.items():
        more, fewer, n = (sum(counts) for counts in zip(*((one.more, one.fewer, one.n) for one in group), strict=True))
        numbers = tuple(number for one in group for number in one.numbers)
        differences = tuple(value for one in group for value in one.differences)
        pools.append(Comparison(quantity, setting, numbers, more, fewer, n, differences, group[0].of_one))
    return pools


def adjusted(comparisons: Sequence[Comparison]) -> list[float]:
    """The p values corrected by Holm, each among the comparisons of its own quantity."""
    p_values: dict[int, float] = {}
    for quantity in FAULTS:
        family = [index for index, comparison in enumerate(comparisons) if comparison.quantity == quantity]
        p_values |= dict(zip(family, holm([comparisons[index].p for index in family]), strict=True))
    return [p_values[index] for index in range(len(comparisons))]


def columns(runs: Sequence[RecordedRun]) -> list[list[str]]:
    """The columns for sweep.csv: a heading, then a line per run; empty cells where there is nothing to compare."""
    comparisons = compared(runs)
    cells = {
        (one.numbers[0], one.quantity): [repr(one.differences[0]), repr(one.p), repr(p_holm)]
        for one, p_holm in zip(comparisons, adjusted(comparisons), strict=True)
    }
    if not cells:
        return [[] for _ in range(len(runs) + 1)]
    head = [f"against_plain/{name}/{part}" for name in FAULTS for part in ("difference", "p", "p_holm")]
    return [head, *([c for name in FAULTS for c in cells.get((run.number, name), [""] * 3)] for run in runs)]


def _compared(run: RecordedRun, plain: RecordedRun, quantity: str) -> Comparison | None:
    """The comparison of a run with a plain one; None without items, or if the two were asked different questions."""
    fault = FAULTS[quantity]
    try:
        base = read_items(items_file(run.folder, "hallucination", "base"))
        run_items, plain_items = (read_items(items_file(one.folder, "hallucination", "final")) for one in (run, plain))
        ids = {item.id for item in base if fault.counts(item)}
        pairs = [pair for pair in join(run_items, plain_items) if pair[0].id in ids]
        join(base, run_items)  # raises UserError if the base was asked other questions
    except UserError:
        return None
    if not pairs:
        return None
    faults, plain_faults = (np.array([fault.is_fault(pair[side]) for pair in pairs], float) for side in (0, 1))
    more, fewer = int((faults > plain_faults).sum()), int((plain_faults > faults).sum())
    p = flips_p(plain_faults, faults, clusters([pair[0] for pair in pairs]))
    return Comparison(quantity, run.setting, (run.number,), more, fewer, len(pairs), ((more - fewer) / len(pairs),), p)
