"""The page of a sweep: which runs gained and kept at once, and a sheet of every number."""

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
    """Writes sweep.csv and frontier.html in the sweep's folder and says where the page is."""
    runs = read_sweep(sweep_dir)
    sheet = io.StringIO()
    several = compare(runs) if are_models(runs) else None
    choices = models_page.columns(several) if several else [[]] * (len(runs) + 1)
    lines = zip(tabulated(runs), columns(runs), choices, strict=True)
    csv.writer(sheet, lineterminator="\n").writerows([*line, *more, *choice] for line, more, choice in lines)
    write_atomic(sweep_dir / "sweep.csv", sheet.getvalue())
    if several:
        return models_page.render(sweep_dir / PAGE, runs, several)
    keys, groups, comparisons = varied(runs), settings(runs), pooled(compared(runs))
    placed, why_not = comparable(runs)
    points = _points(runs, placed, is_compared=not why_not)
    over_seeds = any(len(setting.runs) > 1 for setting in placed)
    chart = gained_and_kept("setting" if over_seeds else "run", points)
    return write_page(
        sweep_dir / PAGE,
        "sweep.html",
        title=f"sweep {sweep_dir.resolve().name}",
        facts=_facts(runs, placed, keys),
        verdict=_verdict(runs, placed, points, why_not),
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
            run.number for setting, point in zip(placed, points, strict=True) if point.front for run in setting.runs
        },
    )


def _facts(runs: Sequence[RecordedRun], placed: Sequence[Setting], keys: Sequence[str]) -> list[str]:
    """How many runs, which of them are not counted and why, and what all were told."""
    unfinished = sum(run.status != "finished" for run in runs)
    once = distinct(runs)
    repeats = [str(run.number) for run in runs if run not in once]
    in_front = [run for setting in placed for run in setting.runs]
    measured = [run for run in once if run.quantity("gain") and run.quantity("kept")]
    alone = [str(run.number) for run in measured if run not in in_front]
    same = (key for key in overridden(runs) if key not in keys and not key.startswith(PLACES))
    return [
        f"{len(runs)} runs",
        f"{unfinished} not finished" if unfinished else "",
        f"not counted, a setting and seed again: {', '.join(repeats)}" if repeats else "",
        f"not on the frontier's chart, of a seed that not all settings have: {', '.join(alone)}" if alone else "",
        *(f"{key}={runs[0].overrides[key]} in all" for key in same),
        "all numbers: sweep.csv",
    ]


def _points(runs: Sequence[RecordedRun], placed: Sequence[Setting], *, is_compared: bool) -> list[Point]:
    """Named after what varied, the seed only where nothing else did; over seeds the bars span their values."""
    keys = varied(runs, seeds=False) or varied(runs)

    def shown(setting: Setting, name: Quantity) -> tuple[float, tuple[float, float] | None]:
        first, *others = setting.runs
        estimate = setting.mean(name) if others else first.quantity(name)
        assert estimate is not None
        values = setting.values(name)
        return estimate.value, estimate.ends or ((min(values), max(values)) if others else None)

    measured = [(shown(setting, "gain"), shown(setting, "kept")) for setting in placed]
    front = non_dominated([(gain[0], kept[0]) for gain, kept in measured])
    return [
        Point(named(setting.runs[0], keys), gain[0], kept[0], gain[1], kept[1], is_compared and best)
        for setting, (gain, kept), best in zip(placed, measured, front, strict=True)
    ]


def _verdict(runs: Sequence[RecordedRun], placed: Sequence[Setting], points: Sequence[Point], why_not: str) -> str:
    """Which gains and which keeps most, of runs of one seed or by means over the same seeds."""
    if not points:
        return f"None of the {len(runs)} runs can be placed between gain and loss."
    gained = [number(point.x, 2, signed=True) for point in points]
    kept = [number(point.y, 2) for point in points]
    if why_not:
        values = ", ".join(f"{gain} and {keep}" for gain, keep in zip(gained, kept, strict=True))
        return f"The {len(points)} measured runs {why_not}, so none is called better. Gained and kept: {values}."
    seeds = sorted(
        ("/".join(value for _, value in run.seed) for run in placed[0].runs), key=lambda seed: (len(seed), seed)
    )
    if len(seeds) > 1:
        what, names = f"settings, by means over seeds {', '.join(seeds)},", [point.name for point in points]
    else:
        firsts, keys, what = [setting.runs[0] for setting in placed], varied(runs), "measured runs"
        names = [f"run {run.number} ({named(run, keys)})" for run in firsts]
    front = [index for index, point in enumerate(points) if point.front]
    best, safe = max(front, key=lambda index: points[index].x), max(front, key=lambda index: points[index].y)
    on_it = f"{len(front)} of {len(points)} {what} {'is' if len(front) == 1 else 'are'} on the frontier"
    if points[best] == points[safe]:
        return f"{on_it}: {names[best]} gains most ({gained[best]}) and keeps most ({kept[safe]})."
    return (
        f"{on_it}: {names[best]} gains most ({gained[best]}, keeping {kept[best]}), "
        f"{names[safe]} keeps most ({kept[safe]}, gaining {gained[safe]})."
    )
