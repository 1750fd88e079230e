"""What is known so far of a run, and the record made from it."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console

from truetune.errors import Diverged, Unwritable, rank
from truetune.records.files import refusal, write_atomic
from truetune.records.record import metrics_to_json, write_items, write_run
from truetune.records.run_folder import LAST, items_file
from truetune.records.versions import about
from truetune.report import run_page
from truetune.report.summary import print_table
from truetune.scoring.item import Measurement
from truetune.scoring.memorising import UNKNOWN, memorising_since
from truetune.scoring.paired import delta
from truetune.training.fit import quiet
from truetune.training.progress import speaker

if TYPE_CHECKING:
    from truetune.config.run import Run
    from truetune.probes.knowledge import Knowledge


STATUS: dict[type[BaseException], str] = {
    Diverged: "diverged",
    KeyboardInterrupt: "interrupted",
    SystemExit: "interrupted",  # SIGTERM
}


def begin(job: Run, console: Console) -> Callable[[str], None]:
    """Keeps to the run's threads, silences libraries, says what was noted of the data; returns what to speak with."""
    if job.settings.threads is not None:
        torch.set_num_threads(job.settings.threads)
    quiet()
    say = speaker(console)
    for note in job.prepared.data.notes:
        say(note)
    return say


@dataclass
class State:
    """A run that stops half-way records what it has, with the status that it stopped with."""

    status: str = "failed"
    knowledge: list[Knowledge] = field(default_factory=list)
    base: Measurement = field(default_factory=Measurement)
    final: Measurement = field(default_factory=Measurement)
    final_step: int | None = None  # after which the weights were made that are measured at the end
    history: list[dict[str, Any]] = field(default_factory=list)
    started: float = field(default_factory=time.time)
    seconds: dict[str, float] = field(default_factory=dict)
    earlier: dict[str, float] = field(default_factory=dict)  # seconds of the sessions that a resumed run had before
    changes: list[dict[str, Any]] = field(default_factory=list)  # of the configuration, typed on resuming
    stability: Callable[[], dict[str, Any]] = dict
    record: dict[str, Any] = field(default_factory=dict)
    _open: set[str] = field(default_factory=set)

    @property
    def unknown_high(self) -> float | None:
        """The base's upper bound, if facts are labelled."""
        known = self.base.metrics.get(UNKNOWN)
        return known.high if known else None

    @contextmanager
    def timed(self, name: str) -> Generator[None]:
        """Adds the seconds of a block to `seconds[name]`, also where a checkpoint is written inside it."""
        self.seconds[name] = self.seconds.get(name, 0.0) - time.time()
        self._open.add(name)
        try:
            yield
        finally:
            self._open.remove(name)
            self.seconds[name] += time.time()

    def spent(self) -> dict[str, float]:
        """Seconds in all and by part, over all sessions."""
        now = time.time()
        found = {"total": now - self.started} | {n: s + now * (n in self._open) for n, s in self.seconds.items()}
        return {name: found.get(name, 0.0) + self.earlier.get(name, 0.0) for name in {**found, **self.earlier}}

    @contextmanager
    def recording(self, job: Run) -> Generator[None]:
        """Around the work: a run is recorded, one that stops with what it has. Says in words that the disk is full."""
        try:
            yield
            self.status = "finished"
            self.write(job)
        except BaseException as error:
            self.status = STATUS.get(type(error), "failed")
            if rank() == 0:
                with suppress(Unwritable):
                    self.write(job)
            full = refusal(error, job.run_dir)
            if full is None:
                raise
            again = f"; make room, then: truetune {shlex.quote(f'resume={job.run_dir.absolute()}')}"
            raise Unwritable(f"{full}{again if (job.run_dir / LAST).is_file() else ''}") from error

    def write(self, job: Run) -> None:
        """The items' files first, run.json last: who finds run.json finds the rest."""
        for when, measurement in (("base", self.base), ("final", self.final)):
            for probe, items in measurement.items.items():
                write_items(items_file(job.run_dir, probe, when), items)
        if self.knowledge:
            rows = [{**asdict(fact), "category": fact.category} for fact in self.knowledge]
            write_atomic(job.run_dir / "items" / "knowledge.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        self.record = {
            **about(job.recorded, self.started, self.spent()),
            "status": self.status,
            "base": metrics_to_json(self.base.metrics),
            "final": metrics_to_json(self.final.metrics),
            "final_step": self.final_step,
            "delta": metrics_to_json(delta(self.base, self.final)),
            "history": self.history,
            "stability": self.stability(),
            "changes": self.changes,
            "memorising_unknown_since": memorising_since(self.history, self.unknown_high),
            "files": _files(job.run_dir),
        }
        write_run(job.run_dir, self.record)

    def finish(self, job: Run, say: Callable[[str], None]) -> dict[str, Any]:
        """The report, which is then among the record's files, and the table in the terminal; returns the record."""
        page = run_page.render(job.run_dir)
        self.record["files"] = _files(job.run_dir)
        write_run(job.run_dir, self.record)
        print_table(self.record, Console())
        say(f"report: {page.absolute()}")
        return self.record


def _files(run_dir: Path) -> list[str]:
    found = (path for path in run_dir.rglob("*") if path.is_file() and not path.name.startswith("."))
    return sorted(str(path.relative_to(run_dir)) for path in found)
