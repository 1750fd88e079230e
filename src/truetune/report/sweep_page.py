"""Makes the page of a sweep, which shows the runs that gained and kept at once, and a sheet of every number."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from truetune.records.files import write_atomic
from truetune.report import models_page
from truetune.report.against import adjusted, columns, compared, pooled
from truetune.report.charts import Point, gained_and_kept
from truetune.report.drift import drift_chart
from truetune.report.page import write_page
from truetune.report.several import are_models, compare
from truetune.report.summary import number
from truetune.report.sweeps import (
    FEWEST_SEEDS,
    PLACES,
    Quantity,
    RecordedRun,
    Setting,
    comparable,
    distinct,
    named,
    overridden,
    read_sweep,
    settings,
    tabulated,
    varied,
)
from truetune.scoring.balance import non_dominated

PAGE = "frontier.html"


def render(sweep_dir: Path) -> Path:
    """Writes sweep.csv and frontier.html in the sweep's folder; returns the path of the page."""
    runs = read_sweep(sweep_dir)
    sheet = io.StringIO()
    several = compare(runs) if are_models(runs) else None
    choices = models_page.columns(several) if several else [[]] * (len(runs) + 1)
    lines = zip(tabulated(runs), columns(runs), choices, strict=True)
    csv.writer(sheet, lineterminator="\n").writerows([*line, *cells, *choice] for line, cells, choice in lines)
    write_atomic(sweep_dir / "sweep.csv", sheet.getvalue())
    if several:
        return models_page.render(sweep_dir / PAGE, runs, several)
    keys, groups, comparisons = varied(runs), settings(runs), pooled(compared(runs))
    on_chart, why_not = comparable(runs)
    points = _points(runs, on_chart, is_compared=not why_not)
    over_seeds = any(len(setting.runs) > 1 for setting in on_chart)
    chart = gained_and_kept("setting" if over_seeds else "run", points)
    return write_page(
        sweep_dir / PAGE,
        "sweep.html",
        title=f"sweep {sweep_dir.resolve().name}",
        facts=_facts(runs, on_chart, keys),
        verdict=_verdict(runs, on_chart, points, why_not),
        warning="",
        chart=chart if points else None,
        drift=drift_chart(runs),
        why_not=why_not,
        over_seeds=over_seeds,
        fewest_seeds=FEWEST_SEEDS,
        settings=groups,
        setting_keys=varied([run for group in groups for run in group.runs], seeds=False),
        comparisons=list(zip(comparisons, adjusted(comparisons), strict=True)),
        compared_keys=[
            key for key in varied(runs, seeds=False) if any(key in dict(one.setting) for one in comparisons)
        ],
        runs=runs,
        keys=keys,
        front={
            run.number for setting, point in zip(on_chart, points, strict=True) if point.front for run in setting.runs
        },
    )


def _facts(runs: Sequence[RecordedRun], on_chart: Sequence[Setting], keys: Sequence[str]) -> list[str]:
    """How many runs there are, which of them are not counted and why, and the overrides that all have in common."""
    unfinished_count = sum(run.status != "finished" for run in runs)
    unique_runs = distinct(runs)
    repeats = [str(run.number) for run in runs if run not in unique_runs]
    chart_runs = [run for setting in on_chart for run in setting.runs]
    measured_runs = [run for run in unique_runs if run.quantity("gain") and run.quantity("kept")]
    others = [str(run.number) for run in measured_runs if run not in chart_runs]
    common_keys = (key for key in overridden(runs) if key not in keys and not key.startswith(PLACES))
    return [
        f"{len(runs)} runs",
        f"{unfinished_count} not finished" if unfinished_count else "",
        f"not counted, a setting and seed again: {', '.join(repeats)}" if repeats else "",
        f"not on the frontier's chart, of a seed that not all settings have: {', '.join(others)}" if others else "",
        *(f"{key}={runs[0].overrides[key]} in all" for key in common_keys),
        "all numbers: sweep.csv",
    ]


def _points(runs: Sequence[RecordedRun], on_chart: Sequence[Setting], *, is_compared: bool) -> list[Point]:
    """The points of the chart, named after what varied, the seed only where nothing else did.

    The bars are intervals; over seeds that are too few for an interval they span the values.
    """
    keys = varied(runs, seeds=False) or varied(runs)

    def value_and_bar(setting: Setting, name: Quantity) -> tuple[float, tuple[float, float] | None]:
        first, *others = setting.runs
        estimate = setting.mean(name) if others else first.quantity(name)
        assert estimate is not None
        values = setting.values(name)
        return estimate.value, estimate.ends or ((min(values), max(values)) if others else None)

    coordinates = [(value_and_bar(setting, "gain"), value_and_bar(setting, "kept")) for setting in on_chart]
    front = non_dominated([(gain[0], kept[0]) for gain, kept in coordinates])
    return [
        Point(named(setting.runs[0], keys), gain[0], kept[0], gain[1], kept[1], is_compared and is_best)
        for setting, (gain, kept), is_best in zip(on_chart, coordinates, front, strict=True)
    ]


def _verdict(runs: Sequence[RecordedRun], on_chart: Sequence[Setting], points: Sequence[Point], why_not: str) -> str:
    """A sentence on which gains and which keeps most, among runs of one seed or by means over the same seeds."""
    if not points:
        return f"None of the {len(runs)} runs can be placed between gain and loss."
    gains = [number(point.x, 2, signed=True) for point in points]
    shares_kept = [number(point.y, 2) for point in points]
    if why_not:
        values = ", ".join(f"{gain} and {share}" for gain, share in zip(gains, shares_kept, strict=True))
        return f"The {len(points)} measured runs {why_not}, so none is called better. Gained and kept: {values}."
    seeds = sorted(
        ("/".join(value for _, value in run.seed) for run in on_chart[0].runs), key=lambda seed: (len(seed), seed)
    )
    if len(seeds) > 1:
        kind, names = f"settings, by means over seeds {', '.join(seeds)},", [point.name for point in points]
    else:
        firsts, keys, kind = [setting.runs[0] for setting in on_chart], varied(runs), "measured runs"
        names = [f"run {run.number} ({named(run, keys)})" for run in firsts]
    front = [index for index, point in enumerate(points) if point.front]
    top, safest = max(front, key=lambda index: points[index].x), max(front, key=lambda index: points[index].y)
    opening = f"{len(front)} of {len(points)} {kind} {'is' if len(front) == 1 else 'are'} on the frontier"
    if points[top] == points[safest]:
        return f"{opening}: {names[top]} gains most ({gains[top]}) and keeps most ({shares_kept[safest]})."
    return (
        f"{opening}: {names[top]} gains most ({gains[top]}, keeping {shares_kept[top]}), "
        f"{names[safest]} keeps most ({shares_kept[safest]}, gaining {gains[safest]})."
    )
