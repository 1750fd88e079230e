"""A sweep as a LaTeX table (packages booktabs and textcomp): one line per setting."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from truetune.report.against import adjusted, compared, pooled
from truetune.report.sweeps import QUANTITIES, Job, Setting, is_seed, settings, varied
from truetune.scoring.estimates import Estimate

HEAD = ("Task gain", "Kept", "Made up", "Balance")
SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "[": "{[}",  # behind the end of a line, a length would be read
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}


def tabular(jobs: Sequence[Job]) -> str:
    """Mean over seeds where a setting has several runs, else the run itself; $p$ is Holm's, of the loss, to plain."""
    groups = settings(jobs)
    seeded = {job.number for group in groups for job in group.jobs}
    lines = [*groups, *(Setting(job.overrides, (job,)) for job in jobs if job.run and job.number not in seeded)]
    keys = [key for key in varied([job for line in lines for job in line.jobs]) if not is_seed(key)]
    found = pooled(compared(jobs))
    p_values = {one.numbers: p for one, p in zip(found, adjusted(found), strict=True) if one.quantity == "lost"}
    head = [*map(escape, keys), "runs", *HEAD, *(["$p$"] if p_values else [])]
    body = [[*(escape(line.overrides.get(key, "")) for key in keys), *_cells(line)] for line in lines]
    if p_values:
        for line, cells in zip(lines, body, strict=True):
            cells.append(_p(p_values.get(tuple(job.number for job in line.jobs))))
    rows = "\n".join(" & ".join(cells) + r" \\" for cells in body)
    align = "l" * len(keys) + "r" * (len(head) - len(keys))
    tested = "Student's paired test over seeds, or McNemar's on the questions of a single seed; Holm's correction"
    return (
        "% 95 % intervals in brackets: Student's t over runs that differ in seed, else within the run.\n"
        + (f"% p: {tested}.\n" if p_values else "")
        + f"% n, the questions behind a run's value: {_asked(jobs)}.\n"
        + f"\\begin{{tabular}}{{{align}}}\n\\toprule\n{' & '.join(head)} \\\\\n\\midrule\n{rows}\n"
        "\\bottomrule\n\\end{tabular}\n"
    )


def escape(text: str) -> str:
    return re.sub(r"[\\~^&%$#_{}[<>|]", lambda found: SPECIAL[found[0]], text)


def _cells(line: Setting) -> list[str]:
    several = len(line.jobs) > 1
    found = [line.mean(name) if several else quantity(line.jobs[0]) for name, quantity in QUANTITIES.items()]
    return [str(len(line.jobs)), *map(_number, found)]


def _number(estimate: Estimate | None) -> str:
    if estimate is None or not math.isfinite(estimate.value):
        return "--"
    ends = " [{:.2f}, {:.2f}]".format(*estimate.ends) if estimate.ends else ""
    return f"${estimate.value:.2f}{ends}$"


def _asked(jobs: Sequence[Job]) -> str:
    found: list[str] = []
    for head, quantity in zip(HEAD, QUANTITIES.values(), strict=True):
        counts = sorted({estimate.n for job in jobs if (estimate := quantity(job)) is not None})
        found.append(f"{head} {f'{counts[0]} to {counts[-1]}' if len(counts) > 1 else counts[0] if counts else '--'}")
    return ", ".join(found)


def _p(value: float | None) -> str:
    if value is None:
        return "--"
    return "$<0.001$" if value < 0.001 else f"${value:.3f}$"
