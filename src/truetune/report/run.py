"""The Python interface: a run as its folder recorded it, for notebooks and scripts. Loads no model, and no torch."""

from __future__ import annotations

import io
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from truetune.errors import UserError
from truetune.records.record import metrics_from_json, read_items, read_run
from truetune.records.run_folder import RECORD, REPORT, items_file
from truetune.report.summary import Change, change, print_table, rows
from truetune.report.verdict import caution, verdict
from truetune.scoring.estimates import Estimate, undefined
from truetune.scoring.item import Item
from truetune.scoring.lost_and_kept import join

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 125  # columns of a table: enough for the intervals of base, tuned and difference


class Run:
    """What a run folder says; raises UserError if the folder holds no run.

    `base`, `final` and `delta` are the metrics before, after and between, by name; `record` is all of run.json.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.report = self.folder / REPORT  # `truetune-report` makes it again
        self.record = read_run(self.folder)
        self.config: dict[str, Any] = self.record["config"]
        self.history: list[dict[str, Any]] = self.record["history"]
        self.status: str = self.record["status"]
        self.base = metrics_from_json(self.record["base"])
        self.final = metrics_from_json(self.record["final"])
        self.delta = metrics_from_json(self.record["delta"])

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}), {self.status}"

    @cached_property
    def verdict(self) -> str:
        """What the fine-tune gained, lost and makes up, and why not to trust that where there is a reason."""
        return f"{verdict(self.record)} {caution(self.record)}".strip()

    def curve(self, metric: str, axis: Literal["step", "epoch"] = "step") -> tuple[list[float], list[float]]:
        """The steps or epochs at which a metric was recorded during training, and its values there.

        The last of several values at one step or epoch counts; undefined values are left out. Empty lists if the metric
        was never recorded.
        """
        values = {entry[axis]: entry["metrics"][metric] for entry in self.history if metric in entry["metrics"]}
        points = sorted((at, value) for at, value in values.items() if value is not None)
        return [at for at, _ in points], [value for _, value in points]

    @property
    def probes(self) -> list[str]:
        """The probes whose every answer is kept, by both models."""
        names = [path.name.removesuffix(".base.jsonl") for path in self.folder.glob("items/*.base.jsonl")]
        return sorted(name for name in names if items_file(self.folder, name, "final").exists())

    def items(self, probe: str) -> list[tuple[Item, Item]]:
        """Each question of a probe as the base and as the tuned model answered it."""
        if probe not in self.probes:
            choice = f"there are {', '.join(self.probes)}" if self.probes else "there are none of any probe"
            raise UserError(f"{self.folder}: no answers of both models to the questions of {probe!r}; {choice}")
        base, tuned = (read_items(items_file(self.folder, probe, when)) for when in ("base", "final"))
        return join(base, tuned)

    def table(self) -> Table:
        """Every metric with its label: base, tuned, difference, n, and better, worse or no clear change."""
        return Table(self.record)


def runs(folder: str | Path = "logs") -> list[Run]:
    """The runs below a folder, those of sweeps too, the newest last; raises UserError if there is none."""
    paths = sorted(Path(folder).glob(f"**/{RECORD}"), key=lambda path: path.stat().st_mtime)
    if not paths:
        path_searched = Path(folder).absolute()
        raise UserError(f"no {RECORD} below {path_searched}: run `truetune` first, or name the folder of your runs")
    return sorted((Run(path.parent) for path in paths), key=lambda run: run.record["created"])


class TableRow(NamedTuple):
    """One metric; `change` is empty where more is neither good nor bad."""

    label: str
    base: Estimate | None
    tuned: Estimate | None
    difference: Estimate | None
    n: int
    change: Change


class Table(list[TableRow]):
    """The table that `truetune` prints at the end of a run; a notebook shows it in colours."""

    def __init__(self, record: dict[str, Any]) -> None:
        self._record = record
        for row in rows(record):
            n = (row.tuned or row.base or undefined()).n
            self.append(TableRow(row.label, row.base, row.tuned, row.difference, n, change(row)))

    def __repr__(self) -> str:
        return self._printed().export_text()

    def _repr_html_(self) -> str:
        lines = '<pre style="white-space: pre; overflow-x: auto">{code}</pre>'
        return self._printed().export_html(inline_styles=True, code_format=lines)

    def _printed(self) -> Console:
        from rich.console import Console

        console = Console(file=io.StringIO(), record=True, width=WIDTH, force_jupyter=False)
        print_table(self._record, console)
        return console
