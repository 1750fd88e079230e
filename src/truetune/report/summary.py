"""Base, tuned and difference of every metric: the rows that the page and the terminal share."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from truetune.records.record import metrics_from_json
from truetune.scoring.estimates import CONFIDENCE, Estimate, items_needed
from truetune.scoring.metrics import METRICS, Direction, metric

if TYPE_CHECKING:
    from rich.console import Console

Change = Literal["better", "worse", "no clear change", ""]


class Row(NamedTuple):
    label: str
    base: Estimate | None
    tuned: Estimate | None
    difference: Estimate | None
    metric: str
    good: Direction


def rows(run: dict[str, Any]) -> list[Row]:
    """In the order of the table of metrics; those that have no row in it come last under their own name.

    What chose the checkpoint (`val/`) is no result.
    """
    base, tuned, delta = (metrics_from_json(run[block]) for block in ("base", "final", "delta"))
    present = {**base, **tuned}
    others = sorted(name for name in present.keys() - METRICS.keys() if not name.startswith("val/"))
    names = [name for name in METRICS if name in present] + others
    found: list[Row] = []
    for name in names:
        before, after = base.get(name), tuned.get(name)
        difference = delta.get(name)
        if difference is None and before is not None and after is not None:
            difference = Estimate(after.value - before.value, after.n)
        found.append(Row(metric(name).label, before, after, difference, name, metric(name).direction))
    return found


def covers_zero(ends: tuple[float, float]) -> bool:
    return ends[0] <= 0 <= ends[1]


def change(row: Row) -> Change:
    """Only an interval that leaves out zero is a change, and only if p agrees where there is one; a metric with neither
    is not judged.
    """
    shown = row.difference
    if not row.good or shown is None or (shown.ends is None and shown.p is None):
        return ""
    if shown.ends is None or covers_zero(shown.ends) or (shown.p is not None and shown.p >= 1 - CONFIDENCE):
        return "no clear change"
    return "better" if (shown.value > 0) == (row.good == "higher") else "worse"


def number(value: float | None, digits: int = 3, *, signed: bool = False) -> str:
    """A true minus sign, and a dash for what is undefined."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", "−")


def interval(estimate: Estimate, digits: int = 3, *, signed: bool = False) -> str:
    """Empty when no interval is known."""
    return " to ".join(number(end, digits, signed=signed) for end in estimate.ends or ())


def too_few(rows: Sequence[Row]) -> str:
    """Probes with too few questions for an interval of +- 3 points on all their shares; empty if none has."""
    found: dict[str, tuple[int, int]] = {}
    for row in rows:
        measured = row.tuned or row.base
        needed = items_needed(measured) if measured and metric(row.metric).is_share else None
        if needed and measured:
            probe = row.metric.partition("/")[0]
            found[probe] = max(found.get(probe, (0, 0)), (needed, measured.n))
    said = [f"{probe} {n:,} (about {needed:,} would do)" for probe, (needed, n) in found.items()]
    return f" Too few questions for ± 3 points: {', '.join(said)}." if said else ""


def p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else number(p)


def print_table(run: dict[str, Any], console: "Console") -> None:
    """The same rows in a terminal; below 120 columns only the difference has room for its interval."""
    from rich.table import Table
    from rich.text import Text

    wide = console.width >= 120
    caption = f"95 % intervals in brackets.{too_few(rows(run))}"
    table = Table(box=None, padding=(0, 2 if wide else 1, 0, 0), caption=caption)
    table.add_column("")
    compared = bool(run["base"])
    for heading in ("base", "tuned", "difference", "n") if compared else ("value", "n"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    styles: dict[Change, str] = {"better": "green", "worse": "red"}
    for row in rows(run):
        verdict = change(row)
        word = "unclear" if verdict == "no clear change" else verdict
        measured = row.tuned or row.base
        cells = [
            _terminal(row.base, wide),
            _terminal(row.tuned, wide or not compared),
            _terminal(row.difference, signed=True),
        ]
        cells = [row.label, *(cells if compared else cells[1:2]), f"{measured.n:,}" if measured else ""]
        table.add_row(*map(Text, cells), Text(word, style=styles.get(verdict, "")))  # Text: brackets are no markup
    console.print(table)


def _terminal(estimate: Estimate | None, with_interval: bool = True, *, signed: bool = False) -> str:
    if estimate is None:
        return ""
    value = number(estimate.value, 2, signed=signed)
    ends = [number(end, 2, signed=signed) for end in estimate.ends or () if with_interval]
    return f"{value} [{' '.join(ends)}]" if ends else value
