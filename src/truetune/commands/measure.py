"""The audit: the run's probes on any model and, with a baseline, what it gained, lost and makes up against it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.console import Console

from truetune.config.run import Run
from truetune.data.dataset import Dataset
from truetune.data.tokens import Encoder, TokenRow
from truetune.models.frozen import Frozen
from truetune.models.language_model import LanguageModel, fastest, with_template
from truetune.probes.baseline import measure_base
from truetune.probes.measure import compare, measure, notes
from truetune.probes.probe import Subject, true_answers
from truetune.records.files import IN_USE, owned
from truetune.records.state import State, begin
from truetune.scoring.item import Measurement

DRIFT = "retention/kl_to_base_nats_per_token"


def audit(job: Run, console: Console) -> dict[str, Any]:
    """Returns what run.json holds; the folder is locked while it works."""
    with owned(job.run_dir, IN_USE):
        state, say = State(), begin(job, console)
        with state.recording(job):
            _measure(job, state, say)
        return state.finish(job, say)


def _measure(job: Run, state: State, say: Callable[[str], None]) -> None:
    data, probes, baseline = job.prepared.data, job.probes(), job.prepared.baseline
    reference: Frozen | None = None
    rows: list[TokenRow] = []
    shape = (0, 0)
    if baseline is not None:
        with state.timed("base"):
            base = _load(baseline, data, say)
            state.base = measure_base(base, data, probes, job.measure.asking, job.cache, say)
            reference, rows, shape = Frozen(base.model), _rows(base, data), _shape(base)
            del base  # two models are held at once, not three
    with state.timed("measure"):
        lm = _load(job.prepared.builder, data, say)
        left_out = ""
        if baseline is None:
            left_out = DRIFT
        elif rows != _rows(lm, data):
            left_out = "nats_per_token"
            say("the two models cut texts into different tokens: losses per token are left out, they do not compare")
        elif shape != _shape(lm):
            left_out = DRIFT
            say("the two models differ in vocabulary or context size: the drift (KL) is left out")
        for note in notes(lm, data, probes, job.measure.asking) if baseline is None else ():
            say(note)
        say(f"measuring {lm.origin}")
        found = measure(Subject(lm, None if left_out else reference), data, probes, job.measure.asking)
        if left_out:
            state.base, found = _without(state.base, left_out), _without(found, left_out)
        state.final = compare(state.base, found)


def _load(builder: Any, data: Dataset, say: Callable[[str], None]) -> LanguageModel:
    lm: LanguageModel = builder.load()
    if data.has_conversations:
        lm = with_template(lm, data.chat_template, say)
    return lm.to(fastest())


def _rows(lm: LanguageModel, data: Dataset) -> list[TokenRow]:
    """All that a loss per token is measured on, as this model's tokenizer cuts it."""
    encoder = Encoder(lm.tokenizer)
    return [encoder.row(text) for text in (*data.texts, *data.task_texts, *true_answers(data.task))]


def _shape(lm: LanguageModel) -> tuple[int, int]:
    return int(getattr(lm.model.config.get_text_config(decoder=True), "vocab_size", 0)), lm.context_length


def _without(measurement: Measurement, ending: str) -> Measurement:
    kept = {name: value for name, value in measurement.metrics.items() if not name.endswith(ending)}
    return Measurement(kept, measurement.items)
