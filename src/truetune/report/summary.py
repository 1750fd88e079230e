"""Base, tuned and difference of every metric: the rows that the page, the model card and the terminal share."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from truetune.records.record import metrics_from_json
from truetune.scoring.estimates import CONFIDENCE, Estimate, items_needed
from truetune.scoring.metrics import METRICS, Direction, metric

if TYPE_CHECKING:
    from rich.console import Console

ELSEWHERE = "elsewhere/"
UNFIT = 0.2  # a base that answers less than this in every form of asking cannot show what is lost
OF_LOSS = ("hallucination/", "lost/", "gained/", "calibration/", "selective/", "balance/")
Change = Literal["better", "worse", "no clear change", ""]


class MetricRow(NamedTuple):
    label: str
    base: Estimate | None
    tuned: Estimate | None
    difference: Estimate | None
    metric: str
    direction: Direction


def rows(record: Mapping[str, Any]) -> list[MetricRow]:
    """The rows in the order of the table of metrics; metrics that are not in it come last, under their own names.

    Metrics that chose the checkpoint (`val/`) are no results, and left out.
    """
    base, tuned, delta = (metrics_from_json(record[block]) for block in ("base", "final", "delta"))
    measured = {**base, **tuned}
    unlisted = sorted(name for name in measured.keys() - METRICS.keys() if not name.startswith("val/"))
    table: list[MetricRow] = []
    groups = OF_LOSS if unfit(record) is not None else ()
    for name in [*(name for name in METRICS if name in measured), *unlisted]:
        before, after, difference = base.get(name), tuned.get(name), delta.get(name)
        if difference is None and before is not None and after is not None:
            difference = Estimate(after.value - before.value, after.n)
        direction: Direction = "" if name.startswith(groups) else metric(name).direction
        table.append(MetricRow(metric(name).label, before, after, difference, name, direction))
    return table


def unfit(record: Mapping[str, Any]) -> float | None:
    """The base's greatest share of right answers over the forms of asking, if that is too small to show a loss."""
    base: Mapping[str, Any] = record["base"]
    names = [name for name in base if name.startswith("hallucination/right_in_")]
    # A base that was made for its questions (the closed world's) is judged by `caution` instead.
    fallback = () if "hallucination/known_right" in base else ("task/right",)
    shares = [base[name]["value"] for name in names or fallback if base.get(name)]
    shares = [share for share in shares if share is not None]
    has_questions = "hallucination/rate" in base
    return max(shares) if has_questions and shares and max(shares) < UNFIT else None


def covers_zero(ends: tuple[float, float]) -> bool:
    return ends[0] <= 0 <= ends[1]


def change(row: MetricRow) -> Change:
    """What a row's difference means. Only an interval that leaves out zero is a change, and only if p agrees where
    there is one; a metric with neither is not judged.
    """
    difference = row.difference
    if not row.direction or difference is None or (difference.ends is None and difference.p is None):
        return ""
    by_chance = difference.p is not None and difference.p >= 1 - CONFIDENCE
    if difference.ends is None or covers_zero(difference.ends) or by_chance:
        return "no clear change"
    return "better" if (difference.value > 0) == (row.direction == "higher") else "worse"


def number(value: float | None, digits: int = 3, *, signed: bool = False) -> str:
    """The number as text, with a true minus sign; a dash if it is undefined."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", "−")


def interval(estimate: Estimate, digits: int = 3, *, signed: bool = False, between: str = " to ") -> str:
    """The interval as text; empty if none is known."""
    return between.join(number(end, digits, signed=signed) for end in estimate.ends or ())


def in_brackets(estimate: Estimate | None, wide: bool = True, digits: int = 2, *, signed: bool = False) -> str:
    """A value and, with `wide`, its interval behind it if one is known; empty for no estimate."""
    if estimate is None:
        return ""
    ends = interval(estimate, digits, signed=signed, between=" ") if wide else ""
    return number(estimate.value, digits, signed=signed) + (f" [{ends}]" if ends else "")


def p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else number(p)


def too_few(rows: Sequence[MetricRow]) -> str:
    """A sentence on probes with too few questions for an interval of +- 3 points on all their shares; empty if none."""
    probes: dict[str, tuple[int, int]] = {}
    for row in rows:
        estimate = row.tuned or row.base
        needed_n = items_needed(estimate) if estimate and metric(row.metric).is_share else None
        if needed_n and estimate:
            probe = row.metric.partition("/")[0]
            probes[probe] = max(probes.get(probe, (0, 0)), (needed_n, estimate.n))
    texts = [f"{probe} {n:,} (about {needed_n:,} would do)" for probe, (needed_n, n) in probes.items()]
    return f" Too few questions for ± 3 points: {', '.join(texts)}." if texts else ""


def print_table(record: Mapping[str, Any], console: "Console") -> None:
    """Prints the rows of a record in a terminal."""
    table_rows = rows(record)
    elsewhere = [row for row in table_rows if row.metric.startswith(ELSEWHERE)]
    parts = {"": table_rows}
    if elsewhere:
        parts = {"On your rows": [row for row in table_rows if row not in elsewhere], "Elsewhere": elsewhere}
    print_rows(parts, console, ("base", "tuned") if record["base"] else (), too_few(table_rows))


def print_rows(
    parts: Mapping[str, Sequence[MetricRow]],
    console: "Console",
    compared: Sequence[str],
    remark: str = "",
    more: Mapping[str, Callable[[MetricRow], str]] | None = None,
) -> None:
    """Prints rows below the headings of their parts, with the names of the two that are compared, or the value alone.

    Below 120 columns only the difference has room for its interval. `more` adds columns after the difference.
    """
    from rich.table import Table
    from rich.text import Text

    wide, more = console.width >= 120, more or {}
    table = Table(box=None, padding=(0, 2 if wide else 1, 0, 0), caption=f"95 % intervals in brackets.{remark}")
    table.add_column("")
    for heading in (*compared, "difference", *more, "n") if compared else ("value", "n"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    styles: dict[Change, str] = {"better": "green", "worse": "red"}
    for heading, part in parts.items():
        if heading and part:
            table.add_row(Text(heading, style="bold"))
        for row in part:
            result, estimate = change(row), row.tuned or row.base
            cells = [
                in_brackets(row.base, wide),
                in_brackets(row.tuned, wide or not compared),
                in_brackets(row.difference, signed=True),
            ]
            cells = [*cells, *(show(row) for show in more.values())] if compared else cells[1:2]
            word = Text("unclear" if result == "no clear change" else result, style=styles.get(result, ""))
            table.add_row(*map(Text, [row.label, *cells, f"{estimate.n:,}" if estimate else ""]), word)
    console.print(table)
