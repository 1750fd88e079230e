"""What is known so far of a run, and the record made from it."""

from __future__ import annotations

import json
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from truetune.balance.memorising import UNKNOWN, memorising_since
from truetune.record import Measurement, delta, metrics_to_json, write_atomic, write_items, write_run
from truetune.versions import about

if TYPE_CHECKING:
    from truetune.build import Run
    from truetune.probes.knowledge import Knowledge


@dataclass
class State:
    """A run that stops half-way records what it has, with the status that it stopped with."""

    status: str = "failed"
    knowledge: list[Knowledge] = field(default_factory=list)
    base: Measurement = field(default_factory=Measurement)
    final: Measurement = field(default_factory=Measurement)
    history: list[dict[str, Any]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def unknown_high(self) -> float | None:
        """The base's upper bound, if facts are labelled."""
        known = self.base.metrics.get(UNKNOWN)
        return known.high if known else None

    @contextmanager
    def timed(self, name: str) -> Generator[None]:
        """Adds the seconds of a block to `seconds[name]`."""
        since = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - since

    def write(self, job: Run, started: float) -> dict[str, Any]:
        """The items' files first, run.json last: who finds run.json finds the rest."""
        for when, measurement in (("base", self.base), ("final", self.final)):
            for probe, items in measurement.items.items():
                write_items(job.run_dir / "items" / f"{probe}.{when}.jsonl", items)
        if self.knowledge:
            rows = [{**asdict(fact), "category": fact.category} for fact in self.knowledge]
            write_atomic(job.run_dir / "items" / "knowledge.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        record = {
            **about(job.config, started, self.seconds),
            "status": self.status,
            "base": metrics_to_json(self.base.metrics),
            "final": metrics_to_json(self.final.metrics),
            "delta": metrics_to_json(delta(self.base, self.final)),
            "history": self.history,
            "memorising_unknown_since": memorising_since(self.history, self.unknown_high),
            "files": sorted(
                str(path.relative_to(job.run_dir))
                for path in job.run_dir.rglob("*")
                if path.is_file() and not path.name.startswith(".")
            ),
        }
        write_run(job.run_dir, record)
        return record
