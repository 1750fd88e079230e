"""Reads what the runs of a sweep recorded, finished and failed alike."""

import json
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

from truetune.errors import UserError
from truetune.records.record import metrics_from_json, read_run
from truetune.records.run_folder import REPORT, TABLE, WORDS, noted
from truetune.scoring.estimates import Estimate, mean_t_interval

Quantity = Literal["gain", "kept", "made_up", "score", "drift"]
Overrides = tuple[tuple[str, str], ...]

PLACES = ("paths.", "hydra.")  # keys of where a run is kept, not of what it does
FEWEST_SEEDS = 5  # for Student's interval: over two seeds it is 13 standard errors wide


@dataclass(frozen=True)
class RecordedRun:
    """One point of a sweep; `record` is None where nothing readable was recorded."""

    number: int
    overrides: dict[str, str]
    status: str
    error: str
    record: dict[str, Any] | None
    folder: Path

    @property
    def has_page(self) -> bool:
        return (self.folder / REPORT).is_file()

    @property
    def seed(self) -> Overrides:
        return tuple((key, value) for key, value in sorted(self.overrides.items()) if is_seed(key))

    @property
    def setting(self) -> Overrides:
        """All overrides but seeds and places; the number of the run if nothing is known of it."""
        words = sorted(self.overrides.items()) if self.overrides else [("", str(self.number))]
        return tuple((key, value) for key, value in words if not is_seed(key) and not key.startswith(PLACES))

    @property
    def ended_early(self) -> str:
        """How far a run came that was pruned or stopped early; empty for any other."""
        if self.record is None or self.status != "finished" or not self.record["history"]:
            return ""
        last, step = (max(entry[key] for entry in self.record["history"]) for key in ("epoch", "step"))
        trainer = self.record["config"].get("trainer", {})
        max_epochs, max_steps = trainer.get("max_epochs", 0), trainer.get("max_steps", -1)
        is_as_planned = (
            last >= max_epochs or 0 < max_steps <= step or trainer.get("fast_dev_run") or trainer.get("max_time")
        )
        return "" if is_as_planned else f"ended at epoch {last} of {max_epochs}"

    def quantity(self, name: Quantity) -> Estimate | None:
        """`gain` is tuned - base on the task, `kept` the share of what the base had right that the tuned model has."""
        if self.record is None:
            return None
        final, delta = (metrics_from_json(self.record[block]) for block in ("final", "delta"))
        estimates = {
            "gain": delta.get("task/right"),
            "kept": final.get("balance/kept_share"),
            "made_up": final.get("hallucination/invented_rate"),
            "score": final.get("balance/score"),
            "drift": final.get("task/kl_to_base_nats_per_token"),
        }
        lost = final.get("hallucination/lost_rate")
        if lost and math.isfinite(lost.value):
            ends = (1 - lost.ends[1], 1 - lost.ends[0]) if lost.ends else ()
            estimates["kept"] = Estimate(1 - lost.value, lost.n, *ends)
        estimate = estimates[name]
        return estimate if estimate and math.isfinite(estimate.value) else None


@dataclass(frozen=True)
class Setting:
    """Runs that differ only in their seed, one for each seed."""

    overrides: dict[str, str]
    runs: tuple[RecordedRun, ...]

    def values(self, name: Quantity) -> list[float]:
        """One value per seed; empty unless every run has the quantity, since a mean over survivors would flatter."""
        estimates = [run.quantity(name) for run in self.runs]
        values = [estimate.value for estimate in estimates if estimate is not None]
        return values if len(values) == len(estimates) else []

    def mean(self, name: Quantity) -> Estimate | None:
        values = self.values(name)
        return over_seeds(values, least=-1.0 if name == "gain" else 0.0) if values else None


def over_seeds(values: Sequence[float], least: float = -1.0) -> Estimate:
    """The mean over seeds of shares or, if `least` is -1, of their differences; from five seeds on with Student's
    interval, cut to the possible values.
    """
    mean = mean_t_interval(values)
    if mean.ends is None or len(values) < FEWEST_SEEDS:
        return Estimate(mean.value, mean.n)
    return replace(mean, low=max(least, mean.ends[0]), high=min(1.0, mean.ends[1]))


def read_sweep(sweep_dir: Path) -> list[RecordedRun]:
    """The runs of a sweep, by its sweep.json if there is one, else by the numbered folders."""
    index = sweep_dir / TABLE
    if index.exists():
        try:
            jobs: list[dict[str, Any]] = json.loads(index.read_text(encoding="utf-8"))["jobs"]
            return [_recorded(sweep_dir, row) for row in sorted(jobs, key=lambda row: int(row["number"]))]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{index} is not the index of a truetune sweep ({error!r})") from None
    numbers = sorted(int(path.name) for path in sweep_dir.glob("*") if path.is_dir() and path.name.isdigit())
    if not numbers:
        raise UserError(f"{sweep_dir} is neither a run (no run.json) nor a sweep (no sweep.json, no numbered folders)")
    return [_recorded(sweep_dir, {"number": number}) for number in numbers]


def _recorded(sweep_dir: Path, row: dict[str, Any]) -> RecordedRun:
    number = int(row["number"])
    folder = sweep_dir / str(number)
    error, record, words = str(row.get("error") or ""), None, cast("list[object]", row.get("overrides", []))
    try:
        record = read_run(folder)
    except UserError as problem:
        error = error or str(problem)
    status = str(row.get("status") or (record["status"] if record else "failed"))
    if record is None and status == "finished":
        status = "unreadable"
    with suppress(UserError):
        words = words if "overrides" in row else noted(folder, WORDS)
    pairs = (str(word).partition("=") for word in words)
    return RecordedRun(number, {key.lstrip("+"): value for key, _, value in pairs}, status, error, record, folder)


def overridden(runs: Sequence[RecordedRun]) -> list[str]:
    """The override keys in the order of first use."""
    return list(dict.fromkeys(key for run in runs for key in run.overrides))


def varied(runs: Sequence[RecordedRun], *, seeds: bool = True) -> list[str]:
    """The override keys that tell runs apart, with or without `seeds`; keys of where a run is kept do not count."""
    keys = [key for key in overridden(runs) if len({run.overrides.get(key) for run in runs}) > 1]
    return [key for key in keys if not key.startswith(PLACES) and (seeds or not is_seed(key))]


def is_seed(key: str) -> bool:
    return key.rpartition(".")[2] == "seed"


def named(run: RecordedRun, keys: Sequence[str]) -> str:
    """A run's name: a word speaks for itself, as in `lora`; a number or a switch needs its key, as in `lr 0.01`."""
    words: list[str] = []
    for key in (key for key in keys if key in run.overrides):
        value = run.overrides[key]
        is_word = value[:1].isalpha() and value.lower() not in ("true", "false", "null", "none")
        words.append(value if is_word else f"{key.rpartition('.')[2]} {value}")
    return ", ".join(words) or "as configured"


def distinct(runs: Sequence[RecordedRun]) -> list[RecordedRun]:
    """One run for each setting and seed, a measured one if there is any: a repeat adds no evidence."""
    by_setting: dict[tuple[Overrides, Overrides], RecordedRun] = {}
    for run in sorted(runs, key=lambda run: run.quantity("gain") is None):
        by_setting.setdefault((run.setting, run.seed), run)
    return sorted(by_setting.values(), key=lambda run: run.number)


def settings(runs: Sequence[RecordedRun]) -> list[Setting]:
    """The settings with at least two seeds that were typed: with fewer there is nothing to average."""
    groups: dict[Overrides, list[RecordedRun]] = {}
    for run in distinct(runs):
        if run.seed:
            groups.setdefault(run.setting, []).append(run)
    return [Setting(dict(setting), tuple(group)) for setting, group in groups.items() if len(group) > 1]


def comparable(runs: Sequence[RecordedRun]) -> tuple[list[Setting], str]:
    """The measured settings over the seeds that all of them share, and why they are not compared, if they are not.

    If they are not, or if all runs are of one seed, each run stands for itself.
    """
    groups: dict[Overrides, dict[Overrides, RecordedRun]] = {}
    measured_runs = [run for run in distinct(runs) if run.quantity("gain") and run.quantity("kept")]
    for run in measured_runs:
        groups.setdefault(run.setting, {})[run.seed] = run
    seeds = {run.seed for run in measured_runs}
    shared_seeds = [seed for seed in sorted(seeds) if all(seed in group for group in groups.values())]
    if len(seeds) < 2 or len(groups) < 2 or not shared_seeds:
        reason = "differ in the seed alone" if len(groups) < 2 else "share no seed"
        return [Setting(run.overrides, (run,)) for run in measured_runs], reason if len(seeds) > 1 else ""
    return [Setting(dict(key), tuple(group[seed] for seed in shared_seeds)) for key, group in groups.items()], ""


def tabulated(runs: Sequence[RecordedRun]) -> list[list[str]]:
    """The sheet of sweep.csv: one line per run, four columns per metric and block, numbers in full precision."""
    keys = overridden(runs)
    columns = [
        (block, name)
        for block in ("base", "final", "delta")
        for name in sorted({name for run in runs if run.record for name in run.record[block]})
    ]
    head = ["job", *keys, "status", "error"]
    for block, name in columns:
        head += [f"{block}/{name}{part}" for part in ("", "/low", "/high", "/n")]
    lines = [head]
    for run in runs:
        line = [str(run.number), *(run.overrides.get(key, "") for key in keys), run.status, run.error]
        for block, name in columns:
            row = cast("dict[str, Any]", run.record[block].get(name) or {}) if run.record else {}
            line += ["" if row.get(part) is None else repr(row[part]) for part in ("value", "low", "high", "n")]
        lines.append(line)
    return lines
