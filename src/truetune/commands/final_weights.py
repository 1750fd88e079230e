"""The end of a run, after the fit: the weights that it ends with, and what is saved of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from lightning import Trainer

from truetune.commands.sharded_model import save_in_pieces
from truetune.commands.tuned_model import save_adapter, save_model
from truetune.config.run import TrainingRun
from truetune.data.dataset import Dataset
from truetune.errors import Say
from truetune.methods.adaptation import Adaptation, Trained
from truetune.models.language_model import LanguageModel
from truetune.models.sharding import gathered_state, is_sharded
from truetune.models.weight_change import change_by_layer
from truetune.probes.asking import Asking
from truetune.probes.probe import Probe, Subject
from truetune.probes.selection import selection
from truetune.records.run_folder import ADAPTER, MODEL
from truetune.records.state import State
from truetune.training.module import FineTuning

Questions = tuple[Dataset, list[Probe], Asking]  # what is asked, by which probes, and how


def put_together(
    tuned: LanguageModel, module: FineTuning, trainer: Trainer, again: Callable[[], LanguageModel]
) -> LanguageModel:
    """Gathers the weights of a model in pieces into a whole one on the CPU, which `again` makes on rank 0.

    All ranks must call this.
    """
    if not is_sharded(tuned.model):
        return tuned
    state = gathered_state(tuned.model, keep=trainer.is_global_zero)
    if trainer.is_global_zero:
        tuned = again()
        tuned.model.load_state_dict(state)
        module.put_together(tuned.model)
    return tuned


def finished(
    run: TrainingRun,
    adaptations: Sequence[Adaptation],
    subject: Subject,
    base: LanguageModel,
    questions: Questions,
    state: State,
    say: Say,
) -> Subject:
    """The subject with the weights that the adaptations make of the trained ones. Saves an adapter before that."""
    if is_sharded(subject.lm.model):
        return subject
    keeps_adapter = all(getattr(adaptation, "keeps_adapter", True) for adaptation in adaptations)
    if run.settings.save_model and keeps_adapter and hasattr(subject.lm.model, "peft_config"):
        save_adapter(subject.lm, run.run_dir)
    start_weights: dict[str, torch.Tensor] = dict(base.model.named_parameters())
    for adaptation in reversed(adaptations):
        score = partial(selection_score, subject, questions)
        model = adaptation.finish(Trained(subject.lm.model, start_weights, score, say, state.weights.__setitem__))
        subject = replace(subject, respondent=replace(subject.lm, model=model))
    state.weights["change_by_layer"] = change_by_layer(start_weights, subject.lm.model)
    return subject


def keep(run: TrainingRun, adaptations: Sequence[Adaptation], lm: LanguageModel) -> None:
    """Saves the model that was measured, unless the base and the saved adapter together already are that model."""
    in_adapter = len(adaptations) == 1 and (run.run_dir / ADAPTER).is_dir() and not run.settings.merge
    if run.settings.save_model and is_sharded(lm.model):
        save_in_pieces(lm, run.run_dir)
    elif run.settings.save_model and in_adapter:
        shutil.rmtree(run.run_dir / MODEL, ignore_errors=True)  # left from before the run was resumed
    elif run.settings.save_model:
        save_model(lm, run.run_dir)


def selection_score(subject: Subject, questions: Questions) -> float:
    result = selection(subject, *questions)
    assert result is not None, "an adaptation that is scored needs selection questions"
    return result.score
