"""Base, tuned and difference of every metric: the rows that the page and the terminal share."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from truetune.records.record import metrics_from_json
from truetune.scoring.estimates import CONFIDENCE, Estimate, items_needed
from truetune.scoring.rates import DEFINITIONS

if TYPE_CHECKING:
    from rich.console import Console

SHARES = (
    *("hallucination/lost_rate", "hallucination/over_refusal_rate"),
    *("multiple_choice/mc1", "multiple_choice/mc1_per_token", "multiple_choice/mc2"),
)
Direction = Literal["higher", "lower", ""]
Change = Literal["better", "worse", "no clear change", ""]

# metric -> (label, which way is good); "" where more is neither good nor bad in itself.
LABELS: dict[str, tuple[str, Direction]] = {
    "task/exact_match": ("Task questions right", "higher"),
    "task/token_f1": ("Task answers, word overlap (F1)", "higher"),
    "task/nll_nats_per_token": ("Task loss, nats per token", "lower"),
    "fit/known_exact_match": ("Known training facts right", ""),
    "fit/new_exact_match": ("New training facts right", ""),
    "fit/train_exact_match": ("Training rows reproduced", ""),
    "fit/highly_known_exact_match": ("HighlyKnown training facts right", ""),
    "fit/maybe_known_exact_match": ("MaybeKnown training facts right", ""),
    "fit/weakly_known_exact_match": ("WeaklyKnown training facts right", ""),
    "fit/unknown_exact_match": ("Unknown training facts right", ""),
    "hallucination/known_exact_match": ("Known facts right", "higher"),
    "hallucination/lost_rate": ("Lost, of what the base knew", "lower"),
    "hallucination/over_refusal_rate": ("Refused, of what the base knew", "lower"),
    "hallucination/invented_rate": ("Made up, no answer exists", "lower"),
    "hallucination/rate": ("Wrong, of all questions", "lower"),
    "hallucination/correct_given_attempted": ("Right when it answers", "higher"),
    "hallucination/abstention_rate": ("Abstained, of all questions", ""),
    "hallucination/echo_rate": ("Echo of a fine-tuning answer", ""),
    "hallucination/off_domain_rate": ("Not the right kind of value", "lower"),
    "retention/accuracy": ("General ability", "higher"),
    "retention/backward_transfer": ("Backward transfer", "higher"),
    "retention/nll_nats_per_token": ("General loss, nats per token", "lower"),
    "retention/kl_to_base_nats_per_token": ("Drift (KL), nats per token", "lower"),
    "calibration/ece": ("Calibration error", "lower"),
    "calibration/brier": ("Confidence, Brier score", "lower"),
    "calibration/auroc": ("Confidence, AUROC", "higher"),
    "selective/aurc": ("Risk, mean over coverages", "lower"),
    "selective/score_at_50": ("Score, confidence target 0.5", "higher"),
    "selective/score_at_75": ("Score, confidence target 0.75", "higher"),
    "selective/score_at_90": ("Score, confidence target 0.9", "higher"),
    "selective/worth_from_confidence": ("Worth answering from confidence", "lower"),
    "selective/best_worth_per_100": ("Best worth per 100 questions", "higher"),
    "multiple_choice/mc1": ("Multiple choice, MC1", "higher"),
    "multiple_choice/mc1_per_token": ("MC1 by likelihood per token", "higher"),
    "multiple_choice/mc2": ("Multiple choice, MC2", "higher"),
    "sampling/self_agreement": ("Samples that say the same", ""),
    "sampling/semantic_entropy_nats": ("Semantic entropy, nats", ""),
    "sampling/agreement_auroc": ("Agreement, AUROC", "higher"),
    "sampling/entropy_auroc": ("Semantic entropy, AUROC", "higher"),
    "faithfulness/unsupported_rate": ("Not in the given context", "lower"),
    "faithfulness/context_rate": ("Follows the context", "higher"),
    "faithfulness/memory_rate": ("Follows memory instead", "lower"),
    "faithfulness/neither_rate": ("Follows neither", "lower"),
    "balance/gained_share": ("Gained share of the headroom", "higher"),
    "balance/kept_share": ("Kept share of the known", "higher"),
    "balance/score": ("Balance score", "higher"),
}


class Row(NamedTuple):
    label: str
    base: Estimate | None
    tuned: Estimate | None
    difference: Estimate | None
    metric: str
    good: Direction


def rows(run: dict[str, Any]) -> list[Row]:
    """In the order of `LABELS`; metrics that this version has no label for come last under their own name.

    What chose the checkpoint (`val/`) is no result.
    """
    base, tuned, delta = (metrics_from_json(run[block]) for block in ("base", "final", "delta"))
    present = {**base, **tuned}
    others = sorted(name for name in present.keys() - LABELS.keys() if not name.startswith("val/"))
    names = [name for name in LABELS if name in present] + others
    found: list[Row] = []
    for name in names:
        label, good = LABELS.get(name, (name, ""))
        before, after = base.get(name), tuned.get(name)
        difference = delta.get(name)
        if difference is None and before is not None and after is not None:
            difference = Estimate(after.value - before.value, after.n)
        found.append(Row(label, before, after, difference, name, good))
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
        needed = items_needed(measured) if measured and row.metric in (*DEFINITIONS, *SHARES) else None
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
