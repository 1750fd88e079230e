"""The page and the table of several models that were measured against one base."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from truetune.report.charts import Point, gained_and_kept
from truetune.report.page import write_page
from truetune.report.several import Several, are_models, compare
from truetune.report.summary import in_brackets, p_value
from truetune.report.sweeps import RecordedRun, read_sweep
from truetune.scoring.balance import non_dominated
from truetune.scoring.best_model import is_apart

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 150  # columns from which on a table has room for its intervals


def render(target: Path, runs: Sequence[RecordedRun], several: Several) -> Path:
    """Writes the page: gained against kept, the table of models, each against each; returns where it is."""
    points = _points(several)
    baseline = next((run.record["config"]["baseline"]["name_or_path"] for run in runs if run.record), "")
    question_counts = {estimate.n for model in several.models if (estimate := several.score_of(model))}
    return write_page(
        target,
        "models.html",
        title=f"models {target.resolve().parent.name}",
        facts=[
            f"{len(runs)} models",
            f"base {baseline}",
            *(f"{n:,} questions to each" for n in question_counts),
            "all numbers: sweep.csv",
        ],
        verdict=several.verdict,
        warning="",
        several=several,
        compared=[model for model in several.models if model.place is not None],
        is_apart=is_apart,
        chart=gained_and_kept("model", points) if points else None,
    )


def columns(several: Several) -> list[list[str]]:
    """The columns for sweep.csv: a heading, then a line for each model."""
    lines = [
        [*(f"{several.score}{part}" for part in ("", "/low", "/high")), "below_best", "below_best/p_holm", "choice"]
    ]
    for model in several.models:
        score, gap = several.score_of(model), several.gap(model, several.best)
        cells = [score and score.value, score and score.low, score and score.high, gap and gap.value, gap and gap.p]
        lines.append([*("" if cell is None else repr(cell) for cell in cells), several.word(model)])
    return lines


def print_models(sweep_dir: Path, console: Console) -> None:
    """Prints the same table in a terminal, and which model to keep; nothing if the sweep is one of training runs."""
    from rich.table import Table
    from rich.text import Text

    runs = read_sweep(sweep_dir)
    if not are_models(runs):
        return
    several = compare(runs)
    wide = console.width >= WIDE
    caption = f"{'95 % intervals in brackets; ' if wide else ''}p by Holm over all pairs."
    table = Table(box=None, padding=(0, 2, 0, 0), caption=caption)
    table.add_column("")
    for heading in ("gained", "kept", "made up", several.score, "− best", "p"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for model in several.models:
        gap = several.gap(model, several.best)
        gain, kept, made_up = (model.run.quantity(name) for name in ("gain", "kept", "made_up"))
        cells = [in_brackets(gain, wide, signed=True), in_brackets(kept, wide), in_brackets(made_up, wide)]
        cells += [in_brackets(several.score_of(model), wide), in_brackets(gap, wide, signed=True)]
        p = "" if gap is None or gap.p is None else p_value(gap.p)
        style = "green" if several.tied and model == several.tied[0] else ""
        table.add_row(*map(Text, (model.name, *cells, p)), Text(several.word(model), style=style))
    console.print(table)
    console.print(Text(several.verdict), soft_wrap=True)


def _points(several: Several) -> list[Point]:
    rows = [
        (model.name, gain, kept)
        for model in several.models
        if (gain := model.run.quantity("gain")) and (kept := model.run.quantity("kept"))
    ]
    front = non_dominated([(gain.value, kept.value) for _, gain, kept in rows])
    return [
        Point(name, gain.value, kept.value, gain.ends, kept.ends, is_best)
        for (name, gain, kept), is_best in zip(rows, front, strict=True)
    ]
