"""The main job: base, measurement, fine-tune, measurement, record, report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from lightning import Trainer, seed_everything
from rich.console import Console

from truetune.commands.final_weights import Questions, finished, keep, put_together
from truetune.commands.session import begin, judge_answers, measure_first, recording, with_battery
from truetune.commands.sharded_model import read_in_pieces, start
from truetune.commands.taught_rows import curated
from truetune.config.run import TrainingRun
from truetune.data.dataset import Dataset
from truetune.data.encode import encode
from truetune.data.module import TokenizedData
from truetune.data.tokens import Encoder
from truetune.errors import Say, UserError, first_line, rank
from truetune.methods.adaptation import Adaptation
from truetune.methods.reference import Reference
from truetune.models.language_model import LanguageModel
from truetune.models.logits import check_packing
from truetune.models.pretrained import Pretrained
from truetune.models.sharding import is_sharded
from truetune.probes.base_knows import adapted_to
from truetune.probes.baseline import held_out_digest
from truetune.probes.measure import compare, follow, measure, values
from truetune.probes.probe import Subject
from truetune.probes.selection import selection
from truetune.records.run_folder import LAST
from truetune.records.state import State
from truetune.scoring.selection_score import Selected
from truetune.training.earliest_best import EarliestBest
from truetune.training.fit import add_callbacks, best_checkpoint, fit, make_trainer, show_profile, take_weights
from truetune.training.measuring import Measuring, epochs_to_measure
from truetune.training.module import FineTuning
from truetune.training.pretraining import load_base
from truetune.training.preview import preview
from truetune.training.progress import ProgressLine
from truetune.training.resumable import Resumable
from truetune.training.schedules import ENDLESS, Steps, steps_per_epoch
from truetune.training.sharded import NAME
from truetune.training.stability import Stability
from truetune.training.step_log import StepLog
from truetune.training.tensorboard import log_final

# Measures the model in training: by all probes or the cheap questions only, and on the selection questions.
Probing = tuple[Callable[[bool], dict[str, float]], Callable[[], Selected | None]]


def train(run: TrainingRun, console: Console) -> dict[str, Any]:
    """Base, measurement, fine-tune (measuring on the way), measurement, record; returns what run.json holds."""
    say, probes, settings = begin(run, console), run.probes(), run.settings
    trainer = make_trainer(run.trainer, run.callbacks, run.loggers, run.run_dir)
    refuse_what_cannot_be_made(run, trainer)  # before the base is pre-trained
    with recording(run, say) as state:
        with state.timed("base"):
            base, data = untouched(run, trainer, state, console, say)
        with state.timed("curate"):
            data = curated(run, base, data, state, say)
        with state.timed("prepare"):
            tuned, adaptations = adapted(run, base)
            if in_pieces := not base.is_read:  # then the base is what the tuned model is before its first step
                base = tuned = read_in_pieces(tuned, trainer)
            rows = tokenized(run, data, tuned, say)
            preview(rows.rows[: settings.preview] if rank() == 0 else [], tuned.tokenizer, console)
        with state.timed("measure"):  # takes long: by now a row or a layer that does not fit has been refused
            questions = (with_battery(run, state, base, data, say), probes, run.asking)
            measure_first(run, state, base, *questions, say)
        reference = Reference(base, data, state.known, run.loader.batch_size, run.seed, run.optimizer, run.trainer, say)
        with state.timed("prepare"):
            stability = Stability(settings.on_nonfinite, say)
            module = fine_tuning(run, tuned, rows, reference, stability, trainer)
        subject = to_be_followed(run, tuned, reference)
        probing = partial(follow, subject, *questions, state.base), partial(selection, subject, *questions)
        watch(run, trainer, state, stability, probing, module.steps, say)
        progress = ProgressLine(console, plan(run, rows, module.steps), module.steps.total)
        resumable = Resumable(state, f"{rows.digest} {tuned.digest} {held_out_digest(data)}", say)
        add_callbacks(trainer, last=[progress, resumable])  # after all that goes into a checkpoint
        with state.timed("fine_tune"):
            fit(trainer, module, rows, seed=run.seed, checkpoint=run.checkpoint)
            show_profile(run.run_dir, say)
        tuned = tuned if in_pieces else put_together(tuned, module, trainer, lambda: adapted(run, base.cpu())[0])
        if not (trainer.is_global_zero or in_pieces):
            return {}  # rank 0 measures and writes
        subject = replace(subject, respondent=tuned.to(trainer.strategy.root_device))  # a Trainer leaves it on the CPU
        step, epoch = take_weights(trainer, module, settings.final)
        subject = finished(run, adaptations, subject, base, questions, state, say)
        measure_again(state, subject, questions, step, epoch)
        keep(run, adaptations, subject.lm)
        judge_answers(run, state, say)
        log_final(trainer, run.run_dir, state.config, state.base, state.final)
    say_where_curves_are(run, say)
    return state.record


def say_where_curves_are(run: TrainingRun, say: Say) -> None:
    if "tensorboard" in (run.config.get("logger") or {}):
        say(f"curves: tensorboard --logdir {run.run_dir}")


def refuse_what_cannot_be_made(run: TrainingRun, trainer: Trainer) -> None:
    """Raises UserError for what `prepare` cannot try: the optimizer, which needs a parameter, and run.final=best."""
    if run.settings.final == "best":
        best_checkpoint(trainer)
    try:
        run.optimizer([torch.nn.Parameter(torch.zeros(1, 1))])
    except (TypeError, ValueError) as error:
        raise UserError(f"optimizer: {error}") from None


def untouched(
    run: TrainingRun, trainer: Trainer, state: State, console: Console, say: Say
) -> tuple[LanguageModel, Dataset]:
    """The untouched base, on the device that the Trainer trains on, and the data in the form that suits the base."""
    if getattr(run.prepared.builder, "init", "") == "meta":
        start(trainer)
    base = load_base(run.prepared.builder, run.prepared.data, run.cache, console).to(trainer.strategy.root_device)
    state.base_digest = base.digest
    return adapted_to(base, run.prepared.data, run.asking, run.cache, say)


def adapted(run: TrainingRun, base: LanguageModel) -> tuple[LanguageModel, list[Adaptation]]:
    """A copy of the base to be trained, and the adaptations, which decide which of its weights may change."""
    tuned, adaptations = base.copy(), run.adaptations
    if run.trainer.get("strategy") == NAME:
        tuned.cpu()  # its layers go from there to the devices one by one
    seed_everything(run.seed, verbose=False)  # an adaptation may add weights, drawn at random
    for adaptation in adaptations:
        tuned = replace(tuned, model=adaptation.prepare(tuned.model))
    try:
        run.optimizer([parameter for parameter in tuned.model.parameters() if parameter.requires_grad])
    except (TypeError, ValueError) as error:  # Muon, for one, trains matrices alone
        raise UserError(f"optimizer: {first_line(error)}; method=lora trains matrices alone") from None
    return tuned, adaptations


def tokenized(run: TrainingRun, data: Dataset, tuned: LanguageModel, say: Say) -> TokenizedData:
    loader, encoder = run.loader, Encoder(tuned.tokenizer)
    limits = (tuned.context_length, loader.over_long, loader.max_tokens)
    rows = encode(encoder, data.train, *limits, cache=run.cache, say=say)
    validation = encode(encoder, data.validation, *limits) if data.validation else None
    for note in (*rows.notes, *(validation.notes if validation else ())):
        say(note)
    held_out = validation.rows if validation else []
    tokens = TokenizedData(rows.rows, held_out, pad=encoder.pad, seed=run.seed, loader=loader, digest=rows.digest)
    if tokens.packs is not None:
        check_packing(tuned.model)
        say(f"{len(rows.rows)} examples packed into {tokens.lines} rows")
    return tokens


def fine_tuning(
    run: TrainingRun,
    tuned: LanguageModel,
    rows: TokenizedData,
    reference: Reference,
    guard: Stability,
    trainer: Trainer,
) -> FineTuning:
    """The module to be trained. The Trainer has already turned `fast_dev_run` and `overfit_batches` into limits."""
    for objective in run.objectives:
        if bind := getattr(objective, "bind", None):
            bind(reference)
    windows = (trainer.accumulate_grad_batches, trainer.world_size, trainer.limit_train_batches)
    per_epoch = steps_per_epoch(rows.lines, run.loader.batch_size, *windows)
    return FineTuning(
        tuned.model,
        run.objectives,
        run.optimizer,
        run.schedule,
        Steps(per_epoch, trainer.max_epochs or 0, trainer.max_steps),
        compiled=getattr(run.prepared.builder, "compile", False),
        at_targets=isinstance(run.prepared.builder, Pretrained),
        on_nonfinite=guard.not_finite,
    )


def to_be_followed(run: TrainingRun, tuned: LanguageModel, reference: Reference) -> Subject:
    """The tuned model to be measured, with the base at rest beside it, or without a base where no process has one."""
    if is_sharded(tuned.model):
        return Subject(tuned, None, run.decoding, drifts=False)
    reference.frozen.rest()
    return Subject(tuned, reference.frozen, run.decoding)


def plan(run: TrainingRun, rows: TokenizedData, steps: Steps) -> str:
    """A line that says what the fit is about to do."""
    words, time = f"fine-tuning on {len(rows.rows)} rows", run.trainer.get("max_time")
    words += f", {steps.passes} {'epoch' if steps.passes == 1 else 'epochs'}" if steps.total < ENDLESS else ""
    return f"{words}, for {time} at most" if time else words


def watch(
    run: TrainingRun, trainer: Trainer, state: State, guard: Stability, probing: Probing, steps: Steps, say: Say
) -> None:
    """Begins the history and the curves; what logs and measures comes before the configuration's own callbacks."""
    timer = partial(state.timed, "measure_while_training")
    # A fit that only time ends has no last epoch: its points are spread over the first 1,024.
    last_epoch = steps.passes if steps.total < ENDLESS else 1 << 10
    epochs = epochs_to_measure(last_epoch, run.measure.points) - {last_epoch}
    probe, select = probing
    measuring = Measuring(epochs, probe, state.history, state.unknown_high, say, timer, select)
    state.stability = guard.report
    state.add_point(0, 0, values(compare(state.base, state.base)))
    log = StepLog(state.history, guard.report, run.trainer.get("log_every_n_steps"))
    candidate = EarliestBest(run.run_dir / LAST.parent, measuring, say)
    add_callbacks(
        trainer, first=[guard, measuring, log, *([candidate] if run.settings.final == "earliest_best" else [])]
    )
    for logger in trainer.loggers if run.checkpoint is None else ():
        logger.log_metrics(state.history[0]["metrics"], 0)


def measure_again(state: State, subject: Subject, questions: Questions, step: int, epoch: int) -> None:
    """Measures the tuned model, compares it with the base, and scores it on the selection questions."""
    with state.timed("measure"):
        final, selection_result = compare(state.base, measure(subject, *questions)), selection(subject, *questions)
    state.final = replace(final, metrics=final.metrics | (selection_result.estimates() if selection_result else {}))
    state.final_step = step
    state.add_point(step, epoch, values(state.final))
