"""The page of a sweep: which runs gained and kept at once, and a sheet of every number."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from truetune.records.files import write_atomic
from truetune.report.against import adjusted, columns, compared, pooled
from truetune.report.charts import Point, scatter_chart
from truetune.report.page import write_page
from truetune.report.summary import number
from truetune.report.sweeps import RecordedRun, named, overridden, read_sweep, settings, tabulated, varied
from truetune.scoring.balance import non_dominated


def render(sweep_dir: Path) -> Path:
    """Writes sweep.csv and frontier.html in the sweep's folder and says where the page is."""
    runs = read_sweep(sweep_dir)
    sheet = io.StringIO()
    lines = zip(tabulated(runs), columns(runs), strict=True)
    csv.writer(sheet, lineterminator="\n").writerows([*line, *more] for line, more in lines)
    write_atomic(sweep_dir / "sweep.csv", sheet.getvalue())
    keys, points, groups, comparisons = varied(runs), _points(runs), settings(runs), pooled(compared(runs))
    chart = scatter_chart(
        "Gained and kept, one dot per run",
        list(points.values()),
        x_label="task gain, tuned − base share right",
        y_label="kept share of known facts",
    )
    unfinished = sum(run.status != "finished" for run in runs)
    return write_page(
        sweep_dir / "frontier.html",
        "sweep.html",
        title=f"sweep {sweep_dir.resolve().name}",
        facts=[
            f"{len(runs)} runs",
            f"{unfinished} not finished" if unfinished else "",
            *(f"{key}={runs[0].overrides[key]} in all" for key in overridden(runs) if key not in keys),
            "all numbers: sweep.csv",
        ],
        verdict=_verdict(runs, points),
        warning="",
        chart=chart if points else None,
        settings=groups,
        setting_keys=varied([run for group in groups for run in group.runs], seeds=False),
        comparisons=list(zip(comparisons, adjusted(comparisons), strict=True)),
        compared_keys=varied(runs, seeds=False),
        runs=runs,
        keys=keys,
        front={number for number, point in points.items() if point.front},
    )


def _points(runs: Sequence[RecordedRun]) -> dict[int, Point]:
    """By the run's number; named after what varied, the seed only where nothing else did."""
    keys = varied(runs, seeds=False) or varied(runs)
    measured = [(run, gain, kept) for run in runs if (gain := run.quantity("gain")) and (kept := run.quantity("kept"))]
    front = non_dominated([(gain.value, kept.value) for _, gain, kept in measured])
    return {
        run.number: Point(named(run, keys), gain.value, kept.value, gain.ends, kept.ends, best)
        for (run, gain, kept), best in zip(measured, front, strict=True)
    }


def _verdict(runs: Sequence[RecordedRun], points: Mapping[int, Point]) -> str:
    if not points:
        return f"None of the {len(runs)} runs can be placed between gain and loss."
    keys = varied(runs)
    names = {run.number: f"run {run.number} ({named(run, keys)})" for run in runs}
    front = {number: point for number, point in points.items() if point.front}
    best, safe = max(front, key=lambda number: front[number].x), max(front, key=lambda number: front[number].y)
    gained = {run: number(point.x, 2, signed=True) for run, point in front.items()}
    kept = {run: number(point.y, 2) for run, point in front.items()}
    placed = f"{len(front)} of {len(points)} measured runs {'is' if len(front) == 1 else 'are'} on the frontier"
    if front[best] == front[safe]:
        return f"{placed}: {names[best]} gains most ({gained[best]}) and keeps most ({kept[safe]})."
    return (
        f"{placed}: {names[best]} gains most ({gained[best]}, keeping {kept[best]}), "
        f"{names[safe]} keeps most ({kept[safe]}, gaining {gained[safe]})."
    )
