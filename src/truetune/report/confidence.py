"""What the confidence of answers is good for: is it calibrated, and when should the model rather say nothing?"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
import numpy.typing as npt

from truetune.records.record import read_items
from truetune.report.charts import Series, line_chart
from truetune.report.page import details, table
from truetune.report.summary import interval, number
from truetune.scoring.calibration import bins_of
from truetune.scoring.estimates import Estimate, Floats, bootstraps, rate
from truetune.scoring.item import Item
from truetune.scoring.rates import clusters
from truetune.scoring.thresholds import risk_coverage, worth, worth_curve

BINS = 10
SHARE = (0.0, 1.0)


def confidence_of(run_dir: Path, wrong_cost: float, recorded: dict[str, dict[str, Estimate]]) -> str:
    """Charts and a table from the hallucination probe's items, and from `recorded` figures where there are some."""
    found = {name: _scored(run_dir, when) for name, when in (("base", "base"), ("tuned", "final"))}
    asked = {name: items for name, items in found.items() if items}
    answered = {name: [i for i in items if i.outcome != "abstained"] for name, items in asked.items()}
    answered = {name: items for name, items in answered.items() if items}
    if not answered:
        return ""
    reliability = [Series(name, tuple((s, e.value) for s, e in _bins(items))) for name, items in answered.items()]
    risks = [
        _series(name, *risk_coverage(_sure(items), [item.outcome == "wrong" for item in items]))
        for name, items in answered.items()
    ]
    worths = [
        _series(name, *worth_curve(_sure(items), [item.outcome for item in items], wrong_cost))
        for name, items in asked.items()
    ]
    charts = [
        line_chart(
            "Reliability of the answers given",
            [Series("perfect", ((0.0, 0.0), (1.0, 1.0))), *reliability],
            x_label="confidence",
            y_label="share right",
            y_range=SHARE,
        ),
        line_chart(
            "Risk if only the surest are answered",
            risks,
            x_label="share of answers given",
            y_label="share wrong",
            y_range=SHARE,
        ),
        line_chart(
            f"Worth per 100 questions, a wrong answer costing {wrong_cost:g}",
            worths,
            x_label="answers from this confidence on",
            y_label="right answers",
        ),
    ]
    return (
        f'<div class="charts">{"".join(charts)}</div>'
        + _worth_table(asked, wrong_cost, recorded)
        + _bins_table(answered)
    )


def _scored(run_dir: Path, when: str) -> list[Item]:
    path = run_dir / "items" / f"hallucination.{when}.jsonl"
    return [item for item in read_items(path) if item.confidence is not None] if path.exists() else []


def _sure(items: Sequence[Item]) -> list[float]:
    return [min(max(item.confidence or 0.0, 0.0), 1.0) for item in items]


def _bins(items: Sequence[Item]) -> list[tuple[float, Estimate]]:
    found = bins_of(_sure(items), items, BINS)
    return [(sure, rate([item.outcome == "right" for item in held], clusters(held))) for sure, held in found]


def _series(name: str, x: Floats, y: Floats) -> Series:
    return Series(name, tuple(zip(x.tolist(), y.tolist(), strict=True)))


def _worth_table(asked: dict[str, list[Item]], wrong_cost: float, recorded: dict[str, dict[str, Estimate]]) -> str:
    labels = (
        "Wrong, per 100 questions",
        "Worth of answering everything, per 100",
        "Answering is worth more than it costs from confidence",
        "Greatest worth, per 100",
        "... from confidence",
    )
    columns = [map(_cell, _worth_estimates(items, wrong_cost, recorded.get(name, {}))) for name, items in asked.items()]
    body = list(zip(map(escape, labels), *columns, strict=True))
    return table(["An assistant that stays silent where it is unsure", *asked], body, "items")


def _worth_estimates(items: Sequence[Item], wrong_cost: float, recorded: dict[str, Estimate]) -> list[Estimate]:
    sure, said = np.array(_sure(items)), np.array([item.outcome for item in items])

    def statistics(chosen: npt.NDArray[np.intp]) -> tuple[float | None, ...]:
        found = worth(sure[chosen], said[chosen], wrong_cost)
        return found.always, found.breaks_even, found.best_value, found.best

    always, from_sure, best, at = bootstraps(statistics, clusters(items), np.random.default_rng(0), 200)
    wrong = rate([outcome == "wrong" for outcome in said], clusters(items))
    per_100 = Estimate(100 * wrong.value, wrong.n, *(100 * end for end in wrong.ends or ()))
    from_sure = recorded.get("selective/worth_from_confidence", from_sure)
    return [per_100, always, from_sure, recorded.get("selective/best_worth_per_100", best), at]


def _cell(estimate: Estimate) -> str:
    if not estimate.n:
        return "never"
    return f"<b>{number(estimate.value, 2)}</b><small>{interval(estimate, 2)} n {estimate.n:,}</small>"


def _bins_table(answered: dict[str, list[Item]]) -> str:
    body = [
        [name, number(sure, 2), number(e.value, 2), interval(e, 2), f"{e.n:,}"]
        for name, items in answered.items()
        for sure, e in _bins(items)
    ]
    return details("Reliability in numbers", table(["", "Mean confidence", "Right", "95 % interval", "Answers"], body))
