"""The audit: the run's probes on any model and, with a baseline, what it gained, lost and makes up against it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rich.console import Console

from truetune.commands.session import begin, measure_first, recording, with_battery
from truetune.config.run import Run
from truetune.data.dataset import Dataset
from truetune.data.tokens import Encoder, TokenRow
from truetune.errors import Say
from truetune.models.frozen import Frozen
from truetune.models.language_model import LanguageModel, fastest, with_template
from truetune.probes.base_knows import adapted_to
from truetune.probes.measure import compare, measure, notes
from truetune.probes.probe import Subject, true_answers
from truetune.scoring.item import Measurement

DRIFT = "kl_to_base_nats_per_token"


def audit(run: Run, console: Console) -> dict[str, Any]:
    """Measures a model, after its baseline if there is one; returns what run.json holds."""
    say, data, baseline = begin(run, console), run.prepared.data, run.prepared.baseline
    asking, reference = run.asking, None
    rows: list[TokenRow] = []
    shape = (0, 0)
    with recording(run, say) as state:
        if baseline is not None:
            with state.timed("base"):
                base, data = adapted_to(load(baseline, say), data, asking, run.cache, say)
                asking = asking.fixed(base, data)  # both are asked in the form of the first
                probes = run.probes(asking)
                data = with_battery(run, state, base, data, say)
                measure_first(run, state, base, data, probes, asking, say)
                reference, (rows, shape) = Frozen(base.model), cut(base, data)
                del base  # two models are held at once, not three
        with state.timed("measure"):
            lm = load(run.prepared.builder, say)
            if baseline is None:
                # Nothing is taught: the questions are all of them, not those that this model knows.
                lm, data = adapted_to(lm, replace(data, choose=None), asking, run.cache, say)
                data = with_battery(run, state, lm, data, say)
            elif data.has_conversations:
                lm = with_template(lm, data.chat_template, say)
            probes = run.probes(asking)
            lm_rows, lm_shape = cut(lm, data)
            left_out = ""
            if baseline is None:
                left_out = DRIFT
                for note in notes(lm, data, probes, asking):
                    say(note)
            elif rows != lm_rows:
                left_out = "nats_per_token"
                say(
                    "the two models cut texts into different tokens: losses per token are left out, they do not compare"
                )
            elif shape != lm_shape:
                left_out = DRIFT
                say("the two models differ in vocabulary or context size: the drift (KL) is left out")
            say(f"measuring {lm.origin}")
            final = measure(Subject(lm, None if left_out else reference), data, probes, asking)
            if left_out:
                state.base, final = without(state.base, left_out), without(final, left_out)
            state.final = compare(state.base, final)
    return state.record


def load(builder: Any, say: Say) -> LanguageModel:
    lm: LanguageModel = builder.load(say)
    return lm.to(fastest())


def cut(lm: LanguageModel, data: Dataset) -> tuple[list[TokenRow], tuple[int, int]]:
    """All that a loss per token is measured on, as this model's tokenizer cuts it; vocabulary and context size."""
    encoder = Encoder(lm.tokenizer)
    elsewhere = data.elsewhere.texts if data.elsewhere else ()
    rows = [encoder.row(text) for text in (*data.texts, *data.task_texts, *true_answers(data.task), *elsewhere)]
    vocabulary = int(getattr(lm.model.config.get_text_config(decoder=True), "vocab_size", 0))
    return rows, (vocabulary, lm.context_length)


def without(measurement: Measurement, ending: str) -> Measurement:
    metrics = {name: value for name, value in measurement.metrics.items() if not name.endswith(ending)}
    return Measurement(metrics, measurement.items)
