"""The untouched base, measured once: a sweep of N runs asks it the same questions one time, not N."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from truetune.data.dataset import Battery, Dataset, Example, Question
from truetune.data.rows.many import attributes
from truetune.errors import Say
from truetune.models.language_model import LanguageModel
from truetune.probes.asking import Asking
from truetune.probes.measure import measure, notes, only_at_ends
from truetune.probes.probe import Probe, Subject
from truetune.probes.respondent import Respondent
from truetune.records.files import cached_json, source_digest
from truetune.records.record import item_from_json, metrics_from_json, metrics_to_json
from truetune.scoring.item import Measurement

T = TypeVar("T")
SHARES = (1.0, 0.5, 0.25, 0.125, 0.0625)  # of the battery; the first that fits its seconds is used
TRIED = 32  # questions of each part, about a batch, by whose time the whole is estimated


def measure_base(
    base: Respondent,
    data: Dataset,
    probes: Sequence[Probe],
    asking: Asking,
    cache: Path,
    say: Say,
) -> Measurement:
    """The base's measurement, from the cache if weights, items and decoding are the same and the file is whole.

    The answers to the battery, which has nothing to do with the rows, are kept apart from the others.
    """
    for note in notes(base, data, probes, asking):
        say(note)

    def measure_cached(data: Dataset, probes: Sequence[Probe], where: str = "") -> Measurement:
        def measurement() -> dict[str, Any]:
            say(f"measuring the untouched base{where}")
            measurement = measure(Subject(base), data, probes, asking)
            rows = {probe: [asdict(item) for item in items] for probe, items in measurement.items.items()}
            return {"metrics": metrics_to_json(measurement.metrics), "items": rows}

        path = cache / "baselines" / f"{measurement_digest(base.digest, data, probes)}.json"
        return remembered(base, path, measurement, _measurement)

    always = [probe for probe in probes if not only_at_ends(probe)]
    at_ends = [probe for probe in probes if only_at_ends(probe)]
    measurement = measure_cached(replace(data, elsewhere=None), always)
    if data.elsewhere is None or not at_ends:
        return measurement
    elsewhere = measure_cached(data.elsewhere.alone, at_ends, " elsewhere")
    return Measurement(measurement.metrics | elsewhere.metrics, measurement.items | elsewhere.items)


def affordable(
    base: Respondent, data: Dataset, probes: Sequence[Probe], asking: Asking, cache: Path, say: Say
) -> tuple[Dataset, list[str]]:
    """The data with as much of its battery as both models can answer in its seconds on this machine, and notes.

    The estimate is kept in the cache, so that a resumed run and the next one ask the same.
    """
    battery, probes = data.elsewhere, [probe for probe in probes if only_at_ends(probe)]
    if battery is None or battery.seconds is None or not probes:
        return data, []
    limit = battery.seconds

    def seconds(sample: int) -> float:
        """Seconds for the whole battery, estimated from `sample` questions of each part."""
        total = 0.0
        for part, rows in battery.parts.items():
            trial = replace(Battery(shots=battery.shots, domains=battery.domains), **{part: rows[:sample]})
            passes = 3 if part == "texts" else 2  # of a model: the tuned one's KL needs the base's pass again
            start = time.perf_counter()
            measure(Subject(base, resamples=0), trial.alone, probes, asking)
            total += passes * (time.perf_counter() - start) * len(rows) / max(1, min(sample, len(rows)))
        return total

    def estimate() -> dict[str, Any]:
        say("timing what is asked elsewhere")
        total = seconds(4)
        if SHARES[-1] * total <= 8 * limit:  # else there is no time to try a whole batch, which takes about as long
            total = seconds(TRIED)
        return {"seconds": total}

    name = f"{measurement_digest(base.digest, battery.alone, probes)}-{limit:g}.seconds.json"
    total = remembered(base, cache / "baselines" / name, estimate, lambda content: float(content["seconds"]))
    share = next((share for share in SHARES if share * total <= limit), SHARES[-1])
    if share == 1:
        return data, []
    part = battery.first(share)
    note = (
        f"battery: {part.size} of its {battery.size} questions and texts are asked, for all would take about "
        f"{total:.0f} s (base and tuned model), over battery.seconds={limit:g}"
    )
    return replace(data, elsewhere=part), [note]


def said_before(
    base: Respondent, cache: Path, make: Callable[[], Any], read: Callable[[Any], T], *parts: Iterable[object]
) -> T:
    """What the base says, from the cache if it was asked the same before.

    Another number of threads or another device rounds otherwise, and a run that goes on there must teach the same rows.
    """
    digest = sha256(f"{base.digest} {asking_code()}".encode())
    for part in chain.from_iterable(parts):
        digest.update(f"{part!r}\n".encode(errors="surrogatepass"))
    return remembered(base, cache / "said" / f"{digest.hexdigest()}.json", make, read)


def remembered(lm: Respondent, path: Path, make: Callable[[], Any], read: Callable[[Any], T]) -> T:
    """The cached value, but never for a served model: another model may answer behind its URL tomorrow."""
    return cached_json(path, make, read) if isinstance(lm, LanguageModel) else read(make())


def _measurement(content: Any) -> Measurement:
    items = {probe: [item_from_json(row) for row in rows] for probe, rows in content["items"].items()}
    return Measurement(metrics_from_json(content["metrics"]), items)


def measurement_digest(weights: str, data: Dataset, probes: Sequence[Probe]) -> str:
    """Content hash of a base measurement: the weights, every question and text, the decoding, and the code."""
    groups = {name: [str(row) for row in rows] for name, rows in data.fit_groups.items()}
    train = sha256()  # decides the kind `echo`
    for _, (completion,) in attributes(data.train, "completion"):
        train.update(repr(completion).encode())
    battery = data.elsewhere or Battery()
    questions = [str(row) for row in chain(_reported(data), *battery.parts.values())]
    shots = {name: [str(row) for row in rows] for name, rows in data.shots.items()}
    kinds = {name: sorted(values) for name, values in data.domains.items()}
    content = [questions, shots, kinds, [str(probe) for probe in probes]]
    parts = [weights, content, groups, train.hexdigest(), asking_code()]
    return sha256(json.dumps(parts).encode()).hexdigest()


def asking_code() -> str:
    """Digest of the code that asks and judges, so that base and tuned model are never judged by different rules."""
    package = Path(__file__).parents[1]
    files = [path for wing in ("probes", "scoring", "extensions", "models") for path in (package / wing).glob("*.py")]
    return source_digest([*files, package / "data" / "tokens.py"])


def held_out_digest(data: Dataset) -> str:
    """Content hash of all that is held out: a resumed run must go on with the same questions and texts."""
    digest = sha256()
    for row in chain(_reported(data), data.select_task, data.select_known, data.validation):
        digest.update(repr(replace(row, source="")).encode(errors="surrogatepass"))
    return digest.hexdigest()


def _reported(data: Dataset) -> list[Question | Example]:
    return [*data.task, *data.hallucination, *data.ability, *data.contexts, *data.texts, *data.task_texts]
