"""The untouched base, measured once: a sweep of N runs asks it the same questions one time, not N."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from hashlib import sha256
from itertools import chain
from pathlib import Path

from filelock import FileLock

from truetune.data.dataset import Dataset, Example, Question
from truetune.models.language_model import LanguageModel
from truetune.probes.asking import Asking
from truetune.probes.measure import measure, notes
from truetune.probes.probe import Probe, Subject
from truetune.records.files import remove_torn, write_atomic, writing
from truetune.records.record import item_from_json, metrics_from_json, metrics_to_json
from truetune.scoring.item import Measurement


def measure_base(
    base: LanguageModel,
    data: Dataset,
    probes: Sequence[Probe],
    asking: Asking,
    cache: Path,
    say: Callable[[str], None],
) -> Measurement:
    """Read from the cache if weights, items and decoding are the same; a damaged file is measured again.

    One process measures at a time: another that wants the same waits, and reads it.
    """
    for note in notes(base, data, probes, asking):
        say(note)
    path = cache / "baselines" / f"{measurement_digest(base.digest, data, probes)}.json"
    if stored := _read(path):
        return stored
    lock = FileLock(path.with_name(f".{path.stem}.lock"))
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        if stored := _read(path):
            return stored
        remove_torn(path.parent, f".{path.name}.*")  # of a process that was killed while it wrote
        say("measuring the untouched base")
        measurement = measure(Subject(base), data, probes, asking)
        rows = {probe: [asdict(item) for item in items] for probe, items in measurement.items.items()}
        write_atomic(path, json.dumps({"metrics": metrics_to_json(measurement.metrics), "items": rows}))
        return measurement
    finally:
        lock.release()


def _read(path: Path) -> Measurement | None:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        items = {probe: [item_from_json(row) for row in rows] for probe, rows in stored["items"].items()}
        return Measurement(metrics_from_json(stored["metrics"]), items)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def measurement_digest(weights: str, data: Dataset, probes: Sequence[Probe]) -> str:
    """Content hash of a base measurement: the weights, every question and text, the decoding, and the code.

    The code is that of what asks and judges: an upgrade never judges the tuned model by other rules than the base was.
    """
    groups = {name: [str(row) for row in rows] for name, rows in data.fit_groups.items()}
    train = sha256()  # decides the kind `echo`
    for example in data.train:
        train.update(repr(example.completion).encode())
    package = Path(__file__).parents[1]
    files = [path for wing in ("probes", "scoring", "extensions", "models") for path in (package / wing).glob("*.py")]
    code = sha256(b"".join(path.read_bytes() for path in sorted([*files, package / "data" / "tokens.py"])))
    questions = [str(row) for row in _reported(data)]
    parts = [weights, questions, groups, train.hexdigest(), [str(probe) for probe in probes], code.hexdigest()]
    return sha256(json.dumps(parts).encode()).hexdigest()


def held_out_digest(data: Dataset) -> str:
    """Content hash of all that is held out: a resumed run must go on with the same questions and texts."""
    digest = sha256()
    for row in chain(_reported(data), data.select_task, data.select_known, data.validation):
        digest.update(repr(replace(row, source="")).encode(errors="surrogatepass"))
    return digest.hexdigest()


def _reported(data: Dataset) -> list[Question | Example]:
    return [*data.task, *data.hallucination, *data.ability, *data.contexts, *data.texts, *data.task_texts]
