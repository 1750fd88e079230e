"""The untouched base, measured once: a sweep of N runs asks it the same questions one time, not N."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock

from truetune.data.dataset import Dataset
from truetune.models.language_model import LanguageModel
from truetune.probes.measure import content, limits, measure
from truetune.probes.probe import Probe, Subject
from truetune.records.files import remove_torn, write_atomic, writing
from truetune.records.record import item_from_json, metrics_from_json, metrics_to_json
from truetune.scoring.item import Measurement


def measure_base(
    base: LanguageModel, data: Dataset, probes: Sequence[Probe], cache: Path, say: Callable[[str], None]
) -> Measurement:
    """Read from the cache if weights, items and decoding are the same; a damaged file is measured again."""
    for note in limits(base, data, probes):
        say(note)
    path = cache / "baselines" / f"{content(base.digest, data, probes)}.json"
    return _read(path) or _measured(base, data, probes, path, say)


def _measured(
    base: LanguageModel, data: Dataset, probes: Sequence[Probe], path: Path, say: Callable[[str], None]
) -> Measurement:
    """By one process at a time: another that wants the same waits, and reads it."""
    lock = FileLock(path.with_name(f".{path.stem}.lock"))
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        found = _read(path)
        if found is not None:
            return found
        remove_torn(path.parent, f".{path.name}.*")  # of a process that was killed while it wrote
        say("measuring the untouched base")
        found = measure(Subject(base), data, probes)
        rows = {probe: [asdict(item) for item in items] for probe, items in found.items.items()}
        write_atomic(path, json.dumps({"metrics": metrics_to_json(found.metrics), "items": rows}))
        return found
    finally:
        lock.release()


def _read(path: Path) -> Measurement | None:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        items = {probe: [item_from_json(row) for row in rows] for probe, rows in stored["items"].items()}
        return Measurement(metrics_from_json(stored["metrics"]), items)
    except (OSError, ValueError, KeyError, TypeError):
        return None
