"""The untouched base, measured once: a sweep of N runs asks it the same questions one time, not N."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock

from truetune.data.dataset import Battery, Dataset, Example, Question
from truetune.models.language_model import LanguageModel
from truetune.probes.asking import Asking
from truetune.probes.measure import measure, notes, only_at_ends
from truetune.probes.probe import Probe, Subject
from truetune.records.files import remove_torn, write_atomic, writing
from truetune.records.record import item_from_json, metrics_from_json, metrics_to_json
from truetune.scoring.item import Measurement

T = TypeVar("T")
SHARES = (1.0, 0.5, 0.25, 0.125, 0.0625)  # of the battery, from which the first that fits its seconds is taken
TRIED = 32  # questions of each part, about a batch, by whose time the whole is estimated


def measure_base(
    base: LanguageModel,
    data: Dataset,
    probes: Sequence[Probe],
    asking: Asking,
    cache: Path,
    say: Callable[[str], None],
) -> Measurement:
    """Read from the cache if weights, items and decoding are the same; a damaged file is measured again.

    The answers to the battery, which has nothing to do with the rows, are kept apart from the others.
    """
    for note in notes(base, data, probes, asking):
        say(note)

    def measured(data: Dataset, probes: Sequence[Probe], where: str = "") -> Measurement:
        def measurement() -> dict[str, Any]:
            say(f"measuring the untouched base{where}")
            measurement = measure(Subject(base), data, probes, asking)
            rows = {probe: [asdict(item) for item in items] for probe, items in measurement.items.items()}
            return {"metrics": metrics_to_json(measurement.metrics), "items": rows}

        path = cache / "baselines" / f"{measurement_digest(base.digest, data, probes)}.json"
        return _once(path, measurement, _measurement)

    measurement = measured(replace(data, elsewhere=None), [probe for probe in probes if not only_at_ends(probe)])
    at_ends = [probe for probe in probes if only_at_ends(probe)]
    if data.elsewhere is None or not at_ends:
        return measurement
    elsewhere = measured(data.elsewhere.alone, at_ends, " elsewhere")
    return Measurement(measurement.metrics | elsewhere.metrics, measurement.items | elsewhere.items)


def affordable(
    base: LanguageModel,
    data: Dataset,
    probes: Sequence[Probe],
    asking: Asking,
    cache: Path,
    say: Callable[[str], None],
) -> tuple[Dataset, list[str]]:
    """The data with as much of the battery as base and tuned model can answer in its seconds on this machine; notes.

    What was decided is kept in the cache: a run that is resumed and the next one ask the same.
    """
    battery, probes = data.elsewhere, [probe for probe in probes if only_at_ends(probe)]
    if battery is None or battery.seconds is None or not probes:
        return data, []
    limit = battery.seconds
    parts = {"facts": 2, "nonexistent": 2, "abilities": 2, "texts": 3}  # models' passes: the KL needs the base's again

    def seconds(part: str, tried: int) -> float:
        rows: Sequence[Any] = getattr(battery, part)
        trial = replace(Battery(shots=battery.shots, domains=battery.domains), **{part: rows[:tried]})
        start = time.perf_counter()
        measure(Subject(base, resamples=0), trial.alone, probes, asking)
        return parts[part] * len(rows) / min(tried, len(rows)) * (time.perf_counter() - start) if rows else 0.0

    def estimate() -> dict[str, Any]:
        say("timing what is asked elsewhere")
        total = sum(seconds(part, 4) for part in parts)
        if SHARES[-1] * total <= 8 * limit:  # few take about as long as a batch: else there is no time for one either
            total = sum(seconds(part, TRIED) for part in parts)
        return {"seconds": total}

    name = f"{measurement_digest(base.digest, battery.alone, probes)}-{limit:g}.seconds.json"
    total = _once(cache / "baselines" / name, estimate, lambda stored: float(stored["seconds"]))
    share = next((share for share in SHARES if share * total <= limit), SHARES[-1])
    if share == 1:
        return data, []
    part = battery.first(share)
    note = (
        f"battery: {part.size} of its {battery.size} questions and texts are asked, for all would take about "
        f"{total:.0f} s (base and tuned model), over battery.seconds={limit:g}"
    )
    return replace(data, elsewhere=part), [note]


def _once(path: Path, make: Callable[[], dict[str, Any]], read: Callable[[Any], T]) -> T:
    """What the file holds, or else what `make` returns, which is then written there.

    One process makes at a time: another that wants the same waits, and reads it.
    """

    def stored() -> T | None:
        try:
            return read(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    if (earlier := stored()) is not None:
        return earlier
    lock = FileLock(path.with_name(f".{path.stem}.lock"))
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        if (earlier := stored()) is not None:
            return earlier
        remove_torn(path.parent, f".{path.name}.*")  # of a process that was killed while it wrote
        content = json.dumps(make())
        write_atomic(path, content)
        return read(json.loads(content))
    finally:
        lock.release()


def _measurement(stored: Any) -> Measurement:
    items = {probe: [item_from_json(row) for row in rows] for probe, rows in stored["items"].items()}
    return Measurement(metrics_from_json(stored["metrics"]), items)


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
    battery = data.elsewhere or Battery()
    elsewhere = (*battery.facts, *battery.nonexistent, *battery.abilities, *battery.texts)
    questions = [str(row) for row in (*_reported(data), *elsewhere)]
    shots = {name: [str(row) for row in rows] for name, rows in data.shots.items()}
    kinds = {name: sorted(values) for name, values in data.domains.items()}
    asked = [questions, shots, kinds, [str(probe) for probe in probes]]
    parts = [weights, asked, groups, train.hexdigest(), code.hexdigest()]
    return sha256(json.dumps(parts).encode()).hexdigest()


def held_out_digest(data: Dataset) -> str:
    """Content hash of all that is held out: a resumed run must go on with the same questions and texts."""
    digest = sha256()
    for row in chain(_reported(data), data.select_task, data.select_known, data.validation):
        digest.update(repr(replace(row, source="")).encode(errors="surrogatepass"))
    return digest.hexdigest()


def _reported(data: Dataset) -> list[Question | Example]:
    return [*data.task, *data.hallucination, *data.ability, *data.contexts, *data.texts, *data.task_texts]
