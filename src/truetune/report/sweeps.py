"""What the jobs of a sweep recorded, finished and failed alike."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from truetune.errors import UserError
from truetune.records.record import metrics_from_json, read_run
from truetune.records.run_folder import TABLE, words_typed
from truetune.scoring.estimates import Estimate, mean_t_interval


@dataclass(frozen=True)
class Job:
    """One point of a sweep; `run` is None where nothing readable was recorded."""

    number: int
    overrides: dict[str, str]
    status: str
    error: str
    run: dict[str, Any] | None
    folder: Path

    def metric(self, block: str, name: str) -> Estimate | None:
        found = metrics_from_json(self.run[block]).get(name) if self.run else None
        return found if found is not None and found.value == found.value else None

    def gain(self) -> Estimate | None:
        """Tuned - base on the task."""
        return self.metric("delta", "task/exact_match")

    def kept(self) -> Estimate | None:
        """Share of what the base had right that the tuned model still has."""
        lost = self.metric("final", "hallucination/lost_rate")
        if lost is None:
            return self.metric("final", "balance/kept_share")
        ends = (1 - lost.ends[1], 1 - lost.ends[0]) if lost.ends else ()
        return Estimate(1 - lost.value, lost.n, *ends)


def read_sweep(sweep_dir: Path) -> list[Job]:
    """By sweep.json where there is one, else by the numbered folders."""
    index = sweep_dir / TABLE
    if index.exists():
        try:
            listed: list[dict[str, Any]] = json.loads(index.read_text(encoding="utf-8"))["jobs"]
            return [_job(sweep_dir, row) for row in sorted(listed, key=lambda row: int(row["number"]))]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{index} is not the index of a truetune sweep ({error!r})") from None
    numbers = sorted(int(path.name) for path in sweep_dir.glob("*") if path.is_dir() and path.name.isdigit())
    if not numbers:
        raise UserError(f"{sweep_dir} is neither a run (no run.json) nor a sweep (no sweep.json, no numbered folders)")
    return [_job(sweep_dir, {"number": number}) for number in numbers]


def _job(sweep_dir: Path, row: dict[str, Any]) -> Job:
    number = int(row["number"])
    folder = sweep_dir / str(number)
    error, run = str(row.get("error") or ""), None
    try:
        run = read_run(folder)
    except UserError as problem:
        error = error or str(problem)
    status = str(row.get("status") or (run["status"] if run else "failed"))
    if run is None and status == "finished":
        status = "unreadable"
    words = [str(word) for word in row["overrides"]] if "overrides" in row else _words(folder)
    return Job(number, _settings(words), status, error, run, folder)


def _words(folder: Path) -> list[str]:
    try:
        return words_typed(folder)
    except UserError:
        return []


def _settings(overrides: Sequence[str]) -> dict[str, str]:
    pairs = (word.partition("=") for word in overrides)
    return {key.lstrip("+"): value for key, _, value in pairs}


def overridden(jobs: Sequence[Job]) -> list[str]:
    """The override keys in the order of first use."""
    return list(dict.fromkeys(key for job in jobs for key in job.overrides))


def varied(jobs: Sequence[Job]) -> list[str]:
    """The override keys that tell jobs apart; all of them where none does."""
    keys = overridden(jobs)
    return [key for key in keys if len({job.overrides.get(key) for job in jobs}) > 1] or keys


def named(job: Job, keys: Sequence[str]) -> str:
    """A word speaks for itself, as in `lora`; a number or a switch needs its key, as in `lr 0.01`."""
    words = [(key.rpartition(".")[2], job.overrides[key]) for key in keys if key in job.overrides]
    return ", ".join(value if _is_word(value) else f"{key} {value}" for key, value in words) or "as configured"


def _is_word(value: str) -> bool:
    return value[:1].isalpha() and value.lower() not in ("true", "false", "null", "none")


def is_seed(key: str) -> bool:
    return key.rpartition(".")[2] == "seed"


QUANTITIES: dict[str, Callable[[Job], Estimate | None]] = {
    "gain": Job.gain,
    "kept": Job.kept,
    "made_up": lambda job: job.metric("final", "hallucination/invented_rate"),
    "score": lambda job: job.metric("final", "balance/score"),
}


@dataclass(frozen=True)
class Setting:
    """Runs that differ only in their seed."""

    overrides: dict[str, str]
    jobs: tuple[Job, ...]

    def mean(self, quantity: str) -> Estimate | None:
        """Over seeds; None unless every run has the quantity, since a mean over survivors would flatter."""
        found = [QUANTITIES[quantity](job) for job in self.jobs]
        values = [estimate.value for estimate in found if estimate is not None]
        return mean_t_interval(values) if len(values) == len(found) else None


def settings(jobs: Sequence[Job]) -> list[Setting]:
    """Only settings with at least two runs that name their seed: else there is nothing to average."""
    groups: dict[tuple[tuple[str, str], ...], list[Job]] = {}
    for job in jobs:
        shared = tuple((key, value) for key, value in job.overrides.items() if not is_seed(key))
        if len(shared) < len(job.overrides):
            groups.setdefault(shared, []).append(job)
    return [Setting(dict(shared), tuple(group)) for shared, group in groups.items() if len(group) > 1]


def tabulated(jobs: Sequence[Job]) -> list[list[str]]:
    """The sheet of sweep.csv: one line per job, four columns per metric and block, numbers in full precision."""
    keys = overridden(jobs)
    columns = [(block, name) for block in ("base", "final", "delta") for name in _metric_names(jobs, block)]
    head = ["job", *keys, "status", "error"]
    for block, name in columns:
        head += [f"{block}/{name}{part}" for part in ("", "/low", "/high", "/n")]
    lines = [head]
    for job in jobs:
        line = [str(job.number), *(job.overrides.get(key, "") for key in keys), job.status, job.error]
        for block, name in columns:
            row = cast("dict[str, Any]", job.run[block].get(name) or {}) if job.run else {}
            line += ["" if row.get(part) is None else repr(row[part]) for part in ("value", "low", "high", "n")]
        lines.append(line)
    return lines


def _metric_names(jobs: Sequence[Job], block: str) -> list[str]:
    return sorted({name for job in jobs if job.run for name in job.run[block]})
