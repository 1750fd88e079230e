"""What is known so far of a run, and the record made from it."""

from __future__ import annotations

import json
import shlex
import time
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from truetune.errors import Diverged, Say, Unwritable, rank
from truetune.records.disk import refusal
from truetune.records.files import write_atomic
from truetune.records.record import files_of, metrics_to_json, write_items, write_run
from truetune.records.run_folder import LAST, items_file
from truetune.records.versions import about
from truetune.scoring.item import Measurement
from truetune.scoring.memorising import UNKNOWN, memorising_since
from truetune.scoring.paired import delta

STATUS: dict[type[BaseException], str] = {
    Diverged: "diverged",
    KeyboardInterrupt: "interrupted",
    SystemExit: "interrupted",  # SIGTERM
}


@dataclass
class StabilityReport:
    """Steps that were not finite, losses that jumped, and how often each item was in a step that was not finite."""

    nonfinite_steps: int = 0
    loss_spikes: int = 0
    items: Counter[str] = field(default_factory=Counter)

    @property
    def counts(self) -> dict[str, int]:
        return {"nonfinite_steps": self.nonfinite_steps, "loss_spikes": self.loss_spikes}

    def most_common(self) -> list[str]:
        """The items that were in the most such steps, if in more than one."""
        maximum = max(self.items.values(), default=0)
        return [item for item, count in self.items.items() if count == maximum] if maximum > 1 else []


@dataclass
class State:
    """What a run has so far: if it stops half-way it records this, with the status that it stopped with."""

    run_dir: Path = Path()
    config: dict[str, Any] = field(default_factory=dict)  # without secrets, as is the command
    command: str = ""
    base_digest: str = ""  # of its weights and tokenizer
    status: str = "failed"
    knowledge: list[dict[str, Any]] = field(default_factory=list)  # one row per fact, with its category
    base: Measurement = field(default_factory=Measurement)
    final: Measurement = field(default_factory=Measurement)
    final_step: int | None = None  # of the weights that are measured at the end
    history: list[dict[str, Any]] = field(default_factory=list)
    started: float = field(default_factory=time.time)
    seconds: dict[str, float] = field(default_factory=dict)
    earlier: dict[str, float] = field(default_factory=dict)  # seconds of the sessions that a resumed run had before
    notes: list[str] = field(default_factory=list)  # on the data, and on what is left out
    verdicts: list[dict[str, Any]] = field(default_factory=list)  # of a judge, one row per pair of answers
    weights: dict[str, Any] = field(default_factory=dict)  # what is known of the change in them
    changes: list[dict[str, Any]] = field(default_factory=list)  # of the configuration, typed on resuming
    stability: StabilityReport | None = None  # None before training
    fields_not_used: Sequence[str] = ()  # of the rows read, those to which other tools give a meaning
    record: dict[str, Any] = field(default_factory=dict)
    _open: set[str] = field(default_factory=set)  # the parts of `seconds` that are still running

    @property
    def unknown_high(self) -> float | None:
        """The upper bound of the share of Unknown facts that the base reproduces, if facts are labelled."""
        share = self.base.metrics.get(UNKNOWN)
        return share.high if share else None

    @property
    def known(self) -> frozenset[str]:
        """The rows whose fact the base knows at least a little, if facts are labelled."""
        return frozenset(fact["id"] for fact in self.knowledge if fact["category"] != "Unknown")

    def note(self, text: str, say: Say) -> None:
        """A remark for the screen and for the record."""
        say(text)
        self.notes.append(text)

    def add_point(self, step: int, epoch: int, metrics: dict[str, float]) -> None:
        """Adds a point to the history, kept in the order of steps: the final weights may be of an earlier step."""
        self.history.append({"step": step, "epoch": epoch, "metrics": metrics})
        self.history.sort(key=lambda entry: entry["step"])

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
        parts = {name: seconds + now * (name in self._open) for name, seconds in self.seconds.items()}
        session = {"total": now - self.started, **parts}
        return {name: session.get(name, 0.0) + self.earlier.get(name, 0.0) for name in {**session, **self.earlier}}

    @contextmanager
    def recording(self) -> Generator[None]:
        """Records a run when its work ends or stops, with what it has by then. A full disk is reported in words."""
        try:
            yield
            self.status = "finished"
            self.write()
        except BaseException as error:
            self.status = STATUS.get(type(error), "failed")
            with suppress(Unwritable):
                self.write()
            disk_error = refusal(error, self.run_dir)
            if disk_error is None:
                raise
            advice = f"; make room, then: truetune {shlex.quote(f'resume={self.run_dir.absolute()}')}"
            raise Unwritable(f"{disk_error}{advice if (self.run_dir / LAST).is_file() else ''}") from error

    def write(self) -> None:
        """Writes the items' files first, run.json last: who finds run.json finds the rest. Only rank 0 writes."""
        if rank() > 0:
            return
        for when, measurement in (("base", self.base), ("final", self.final)):
            for probe, items in measurement.items.items():
                write_items(items_file(self.run_dir, probe, when), items)
        for name, rows in (("knowledge", self.knowledge), ("verdicts", self.verdicts)):
            if rows:
                text = "".join(json.dumps(row) + "\n" for row in rows)
                write_atomic(self.run_dir / "items" / f"{name}.jsonl", text)
        stability = self.stability
        self.record = {
            **about(self.command, self.config, self.started, self.spent()),
            "status": self.status,
            "base_digest": self.base_digest,
            "base": metrics_to_json(self.base.metrics),
            "final": metrics_to_json(self.final.metrics),
            "final_step": self.final_step,
            "delta": metrics_to_json(delta(self.base, self.final)),
            "history": self.history,
            "stability": {**stability.counts, "items": stability.most_common()} if stability else {},
            "notes": self.notes,
            "weights": self.weights,
            "changes": self.changes,
            "fields_not_used": list(self.fields_not_used),
            "memorising_unknown_since": memorising_since(self.history, self.unknown_high),
        }
        self.write_record()

    def write_record(self) -> None:
        """Writes run.json alone, with the names of the files that are there now."""
        self.record["files"] = files_of(self.run_dir)
        write_run(self.run_dir, self.record)
