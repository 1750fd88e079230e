"""Shows what the confidence of answers is good for: is it calibrated, and when should the model rather say nothing?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup

from truetune.records.record import items_if_any
from truetune.records.run_folder import items_file
from truetune.report.charts import SHARE, Series, line_chart
from truetune.scoring.calibration import bins_of
from truetune.scoring.estimates import Estimate, rate
from truetune.scoring.item import Item
from truetune.scoring.rates import clusters
from truetune.scoring.thresholds import risk_coverage, worth_curve, worth_estimates

BINS = 10


@dataclass(frozen=True)
class Confidence:
    """`worth` holds labels with the estimate of each model; `bins` holds model, mean confidence and share right."""

    charts: list[Markup]
    worth: list[tuple[str, dict[str, Estimate]]]
    bins: list[tuple[str, float, Estimate]]


def confidence_of(
    run_dir: Path, wrong_cost: float, recorded: Mapping[str, Mapping[str, Estimate]]
) -> Confidence | None:
    """Charts and estimates from the hallucination probe's items, and from `recorded` figures where there are some.

    None without answers that have a confidence.
    """
    models: dict[str, list[Item]] = {}
    for name, when in (("base", "base"), ("tuned", "final")):
        items = items_if_any(items_file(run_dir, "hallucination", when))
        if items := [item for item in items if item.confidence is not None]:
            models[name] = items
    answers = {name: [item for item in items if item.outcome != "abstained"] for name, items in models.items()}
    answers = {name: items for name, items in answers.items() if items}
    if not answers:
        return None
    bins: list[tuple[str, float, Estimate]] = []
    for name, items in answers.items():
        for confidence, members in bins_of(_confidences(items), items, BINS):
            bins.append((name, confidence, rate([item.outcome == "right" for item in members], clusters(members))))
    worth = {name: _worth(items, wrong_cost, recorded.get(name, {})) for name, items in models.items()}
    labels = next(iter(worth.values()))
    return Confidence(
        _charts(models, answers, bins, wrong_cost),
        [(label, {name: estimates[label] for name, estimates in worth.items()}) for label in labels],
        bins,
    )


def _confidences(items: Sequence[Item]) -> list[float]:
    return [min(max(item.confidence or 0.0, 0.0), 1.0) for item in items]


def _charts(
    models: Mapping[str, list[Item]],
    answers: Mapping[str, list[Item]],
    bins: Sequence[tuple[str, float, Estimate]],
    wrong_cost: float,
) -> list[Markup]:
    shares, risks, worths = [Series("perfect", ((0.0, 0.0), (1.0, 1.0)))], list[Series](), list[Series]()
    for name, items in answers.items():
        shares.append(Series(name, tuple((x, share.value) for model, x, share in bins if model == name)))
        x, y = risk_coverage(_confidences(items), [item.outcome == "wrong" for item in items])
        risks.append(Series(name, tuple(zip(x.tolist(), y.tolist(), strict=True))))
    for name, items in models.items():
        x, y = worth_curve(_confidences(items), [item.outcome for item in items], wrong_cost)
        worths.append(Series(name, tuple(zip(x.tolist(), y.tolist(), strict=True))))
    reliability, risk = "Reliability of the answers given", "Risk if only the surest are answered"
    worth = f"Worth per 100 questions, a wrong answer costing {wrong_cost:g}"
    return [
        line_chart(reliability, shares, x_label="confidence", y_label="share right", y_range=SHARE),
        line_chart(risk, risks, x_label="share of answers given", y_label="share wrong", y_range=SHARE),
        line_chart(worth, worths, x_label="answers from this confidence on", y_label="right answers"),
    ]


def _worth(items: Sequence[Item], wrong_cost: float, figures: Mapping[str, Estimate]) -> dict[str, Estimate]:
    outcomes = [item.outcome for item in items]
    worth = worth_estimates(_confidences(items), outcomes, wrong_cost, clusters(items), np.random.default_rng(0), 200)
    wrong = rate([outcome == "wrong" for outcome in outcomes], clusters(items))
    return {
        "Wrong, per 100 questions": Estimate(100 * wrong.value, wrong.n, *(100 * end for end in wrong.ends or ())),
        "Worth of answering everything, per 100": worth["always"],
        "Answering is worth more than it costs from confidence": figures.get(
            "selective/worth_from_confidence", worth["breaks_even"]
        ),
        "Greatest worth, per 100": figures.get("selective/best_worth_per_100", worth["best_value"]),
        "... from confidence": worth["best"],
    }
