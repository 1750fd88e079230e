"""The audit: measures any model by the probes of a run and, with a baseline, what it gained, lost and makes up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rich.console import Console

from truetune.commands.session import begin, judge_answers, measure_first, recording, with_battery
from truetune.config.run import Run
from truetune.data.dataset import Dataset
from truetune.data.tokens import Encoder, TokenRow
from truetune.errors import Say
from truetune.models.frozen import Frozen
from truetune.models.language_model import LanguageModel, fastest, with_template
from truetune.probes.asking import Asking
from truetune.probes.base_knows import adapted_to
from truetune.probes.measure import DRIFT, compare, measure, notes, without
from truetune.probes.probe import Probe, Subject, true_answers
from truetune.probes.respondent import Respondent
from truetune.scoring.item import Measurement

PER_TOKEN, FIT = "nats_per_token", "fit/"
OF_CONFIDENCE = ("calibration/", "selective/")
Cut = tuple[list[TokenRow], tuple[int, int]]  # texts as tokens, (vocabulary size, context size)


def audit(run: Run, console: Console) -> dict[str, Any]:
    """Measures a model, after its baseline if there is one; returns what run.json holds."""
    say, data, baseline = begin(run, console), run.prepared.data, run.prepared.baseline
    asking, reference = run.asking, None
    base_cut: Cut | None = None
    with recording(run, say) as state:
        if baseline is not None:
            with state.timed("base"):
                base, data = adapted_to(load(baseline, say), data, asking, run.cache, say)
                asking = asking.fixed(base, data)  # the model is asked in the same form as its baseline
                probes = probes_of(run, asking)
                data = with_battery(run, state, base, data, say)
                measure_first(run, state, base, data, probes, asking, say)
                base_cut = cut(base, data)
                reference = Frozen(base.model) if isinstance(base, LanguageModel) else None
                del base  # two models are held at once, not three
        with state.timed("measure"):
            lm = load(run.prepared.builder, say)
            if baseline is None:
                # Nothing is taught, so all questions are asked, not only those that this model knows.
                lm, data = adapted_to(lm, replace(data, choose=None), asking, run.cache, say)
                data = with_battery(run, state, lm, data, say)
            elif data.has_conversations and isinstance(lm, LanguageModel):
                lm = with_template(lm, data.chat_template, say)
            probes = probes_of(run, asking)
            for note in notes(lm, data, probes, asking) if baseline is None else ():
                say(note)
            omissions = (DRIFT,) if baseline is None else not_compared(base_cut, cut(lm, data), say)
            say(f"measuring {lm.origin}")
            final = measure(Subject(lm, None if omissions else reference), data, probes, asking)
            omissions += () if has_confidence(final) else OF_CONFIDENCE
            state.base, state.final = without(state.base, *omissions), without(final, *omissions)
            state.final = compare(state.base, state.final)
        judge_answers(run, state, say)
    return state.record


def load(builder: Any, say: Say) -> Respondent:
    lm: Respondent = builder.load(say)
    return lm.to(fastest()) if isinstance(lm, LanguageModel) else lm


def probes_of(run: Run, asking: Asking) -> list[Probe]:
    """The probes by which both models can be measured."""
    builders = (run.prepared.builder, run.prepared.baseline)
    have_weights = all(getattr(builder, "has_weights", True) for builder in builders)
    return [probe for probe in run.probes(asking) if have_weights or not getattr(probe, "needs_weights", False)]


def cut(lm: Respondent, data: Dataset) -> Cut | None:
    """The texts of the losses per token, as this model's tokenizer cuts them, and its vocabulary and context size.

    None for a model that is only served.
    """
    if not isinstance(lm, LanguageModel):
        return None
    encoder = Encoder(lm.tokenizer)
    elsewhere = data.elsewhere.texts if data.elsewhere else ()
    rows = [encoder.row(text) for text in (*data.texts, *data.task_texts, *true_answers(data.task), *elsewhere)]
    vocabulary = int(getattr(lm.model.config.get_text_config(decoder=True), "vocab_size", 0))
    return rows, (vocabulary, lm.context_length)


def not_compared(base_cut: Cut | None, model_cut: Cut | None, say: Say) -> tuple[str, ...]:
    """Parts of the names of metrics that cannot be compared between the two models."""
    if base_cut is None or model_cut is None:  # nothing to say: the model that is served has said so itself
        return (PER_TOKEN, FIT)
    if base_cut[0] != model_cut[0]:
        say("the two models cut texts into different tokens: losses per token are left out, they do not compare")
        return (PER_TOKEN,)
    if base_cut[1] != model_cut[1]:
        say("the two models differ in vocabulary or context size: the drift (KL) is left out")
        return (DRIFT,)
    return ()


def has_confidence(measurement: Measurement) -> bool:
    return any(item.confidence is not None for items in measurement.items.values() for item in items)
