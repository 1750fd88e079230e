"""The page of a sweep: which runs gained and kept at once, and a sheet of every number."""

import csv
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

from truetune.records.files import write_atomic
from truetune.report.against import adjusted, columns, compared, pooled
from truetune.report.charts import Point, scatter_chart
from truetune.report.latex import tabular
from truetune.report.page import header, page, section, table
from truetune.report.summary import interval, number, p_value
from truetune.report.sweeps import Job, is_seed, named, overridden, read_sweep, settings, tabulated, varied
from truetune.scoring.balance import non_dominated
from truetune.scoring.estimates import Estimate

NOTE = (
    "Right is more gained, up is more kept; a run is on the frontier if no other is better on one and as good on the "
    "other. Bars are 95 % intervals within one run; they do not cover the spread over "
    "seeds. Slow training looks like little forgetting, so compare runs that gained alike."
)
AGAINST = (
    "The same questions to the same base, tuned with the method and plainly: faults that only the method makes / that "
    "only plain fine-tuning makes. Over several seeds p is that of Student's paired test on the seeds' differences, "
    "whose interval is shown; of a single seed it is McNemar's exact one, each entity counting "
    "once. Holm's p allows for the number of methods compared."
)
FAULT = {"lost": "lost, of what the base knew", "wrong": "wrong, of all questions"}


def render(sweep_dir: Path) -> Path:
    """Writes sweep.csv, sweep.tex and frontier.html in the sweep's folder and says where the page is."""
    jobs = read_sweep(sweep_dir)
    sheet = io.StringIO()
    lines = zip(tabulated(jobs), columns(jobs), strict=True)
    csv.writer(sheet, lineterminator="\n").writerows([*line, *more] for line, more in lines)
    write_atomic(sweep_dir / "sweep.csv", sheet.getvalue())
    write_atomic(sweep_dir / "sweep.tex", tabular(jobs))
    keys, points = varied(jobs), _points(jobs)
    chart = scatter_chart(
        "Gained and kept, one dot per run",
        list(points.values()),
        x_label="task gain, tuned − base exact match",
        y_label="kept share of known facts",
    )
    missing = "<p>No run recorded both a gain on the task and what it lost, so there is no frontier.</p>"
    failed = sum(job.status != "finished" for job in jobs)
    same = [f"{key}={jobs[0].overrides[key]} in all" for key in overridden(jobs) if key not in keys]
    facts = [
        f"{len(jobs)} runs",
        f"{failed} not finished" if failed else "",
        *same,
        "all numbers: sweep.csv, sweep.tex",
    ]
    body = [
        header(f"sweep {sweep_dir.resolve().name}", facts, _verdict(jobs, points)),
        section("The frontier", chart if points else missing, NOTE if points else ""),
        section(
            "Mean over seeds", _seeds(jobs), "Mean and 95 % interval by Student's t over runs that differ in seed."
        ),
        section("Against plain fine-tuning", _against(jobs), AGAINST),
        section("The runs", _runs(jobs, points)),
    ]
    target = sweep_dir / "frontier.html"
    write_atomic(target, page(f"truetune: sweep {sweep_dir.resolve().name}", body))
    return target


def _points(jobs: Sequence[Job]) -> dict[int, Point]:
    """By job number; named after what varied, the seed only where nothing else did."""
    keys = varied(jobs)
    keys = [key for key in keys if not is_seed(key)] or keys
    measured = [(job, gain, kept) for job in jobs if (gain := job.gain()) and (kept := job.kept())]
    front = non_dominated([(gain.value, kept.value) for _, gain, kept in measured])
    return {
        job.number: Point(named(job, keys), gain.value, kept.value, gain.ends, kept.ends, best)
        for (job, gain, kept), best in zip(measured, front, strict=True)
    }


def _verdict(jobs: Sequence[Job], points: dict[int, Point]) -> str:
    if not points:
        return f"None of the {len(jobs)} runs can be placed between gain and loss."
    keys = varied(jobs)
    name = {job.number: f"run {job.number} ({named(job, keys)})" for job in jobs}
    front = {number: point for number, point in points.items() if point.front}
    best, safe = max(front, key=lambda number: front[number].x), max(front, key=lambda number: front[number].y)
    most, safest = front[best], front[safe]
    placed = f"{len(front)} of {len(points)} measured runs {'is' if len(front) == 1 else 'are'} on the frontier"
    if most == safest:
        return f"{placed}: {name[best]} gains most ({_gain(most)}) and keeps most ({number(most.y, 2)})."
    return (
        f"{placed}: {name[best]} gains most ({_gain(most)}, keeping {number(most.y, 2)}), "
        f"{name[safe]} keeps most ({number(safest.y, 2)}, gaining {_gain(safest)})."
    )


def _gain(point: Point) -> str:
    return number(point.x, 2, signed=True)


def _seeds(jobs: Sequence[Job]) -> str:
    groups = settings(jobs)
    keys = [key for key in varied([job for group in groups for job in group.jobs]) if not is_seed(key)]
    body = [
        [
            *(f"<b>{escape(group.overrides.get(key, ''))}</b>" for key in keys),
            str(len(group.jobs)),
            _cell(group.mean("gain"), signed=True),
            _cell(group.mean("kept")),
            _cell(group.mean("made_up")),
        ]
        for group in groups
    ]
    return table([*keys, "Seeds", "Task gain", "Kept", "Made up"], body, "sweep")


def _against(jobs: Sequence[Job]) -> str:
    """Per setting and quantity: the difference, and how many questions changed which way."""
    found = pooled(compared(jobs))
    keys = [key for key in varied(jobs) if not is_seed(key)]
    body = [
        [
            *(f"<b>{escape(dict(one.setting).get(key, ''))}</b>" for key in keys),
            FAULT[one.quantity],
            str(len(one.numbers)),
            f"{one.n:,}",
            _cell(one.difference, signed=True),
            f"{one.more:,} / {one.fewer:,}",
            p_value(one.p),
            f"<b>{p_value(corrected)}</b>",
        ]
        for one, corrected in zip(found, adjusted(found), strict=True)
    ]
    headings = ["Measure", "Runs", "Questions", "Difference", "More / fewer", "p", "p, Holm"]
    return table([*keys, *headings], body, "sweep")


def _runs(jobs: Sequence[Job], points: dict[int, Point]) -> str:
    keys, front = varied(jobs), {number for number, point in points.items() if point.front}
    body: list[list[str]] = []
    for job in jobs:
        there = (job.folder / "report.html").is_file()
        link = f'<a href="{job.number}/report.html">{job.number}</a>' if there else str(job.number)
        mark = ' <span class="s0" title="on the frontier">●</span>' if job.number in front else ""
        problem = f'<small class="error">{escape(job.error)}</small>' if job.error else ""
        made_up = job.metric("final", "hallucination/invented_rate")
        body.append(
            [
                f"<b>{link}</b>{mark}",
                *(escape(job.overrides.get(key, "–")) for key in keys),
                _cell(job.gain(), signed=True, n=True),
                _cell(job.kept(), n=True),
                _cell(made_up, n=True),
                _cell(job.metric("final", "balance/score"), n=True),
                escape(job.status) + _cut_short(job) + problem,
            ]
        )
    return table(["Run", *keys, "Task gain", "Kept", "Made up", "Balance", "Status"], body, "sweep")


def _cut_short(job: Job) -> str:
    """Pruned, or stopped early."""
    if job.run is None or job.status != "finished" or not job.run["history"]:
        return ""
    last = max(entry["epoch"] for entry in job.run["history"])
    wanted = job.run["config"].get("trainer", {}).get("max_epochs", 0)
    return f"<small>ended at epoch {last} of {wanted}</small>" if last < wanted else ""


def _cell(estimate: Estimate | None, *, signed: bool = False, n: bool = False) -> str:
    if estimate is None:
        return "–"
    ends = " ".join(filter(None, [interval(estimate, 2, signed=signed), f"n {estimate.n:,}" if n else ""]))
    return f"<b>{number(estimate.value, signed=signed)}</b>" + (f"<small>{ends}</small>" if ends else "")
