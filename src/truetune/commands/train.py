"""The main job: base, measurement, fine-tune, measurement, record, report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from lightning import Trainer, seed_everything
from rich.console import Console

from truetune.commands.export import save_model
from truetune.config.run import Run
from truetune.data.dataset import Dataset
from truetune.data.module import TokenizedData
from truetune.data.tokens import Encoded, Encoder, encode
from truetune.errors import Diverged, UserError, rank
from truetune.methods.adaptation import Adaptation, Trained
from truetune.methods.curation import Context, curate
from truetune.methods.reference import Reference, drawn_texts
from truetune.models.language_model import LanguageModel, with_template
from truetune.models.logits import check_packing
from truetune.models.pretrained import Pretrained
from truetune.probes.baseline import held_out_digest, measure_base
from truetune.probes.knowledge import groups, summary
from truetune.probes.measure import compare, follow, measure, values
from truetune.probes.probe import Asking, Probe, Subject
from truetune.probes.selection import selection
from truetune.records.files import IN_USE, owned, remove_torn
from truetune.records.state import State, begin
from truetune.scoring.item import Measurement
from truetune.scoring.paired import delta
from truetune.training.fit import best_checkpoint, fit, load_best, make_trainer
from truetune.training.measuring import Alarm, Measuring, epochs_to_measure
from truetune.training.module import FineTuning
from truetune.training.pretraining import load_base
from truetune.training.preview import preview
from truetune.training.progress import ProgressLine, speaker
from truetune.training.resumable import Resumable
from truetune.training.schedules import steps_per_epoch
from truetune.training.stability import Stability
from truetune.training.step_log import StepLog
from truetune.training.tensorboard import log_final, log_samples


def run(job: Run, console: Console) -> dict[str, Any]:
    """Returns what run.json holds; the run folder is locked while it works."""
    if rank() > 0:
        return _beside_rank_0(job, console)
    with owned(job.run_dir, IN_USE):
        remove_torn(job.run_dir, deep=True)
        return _run(job, console)


def _beside_rank_0(job: Run, console: Console) -> dict[str, Any]:
    """Rank 0 says how the run ended; at any exit code but 0 Lightning would kill it before it could."""
    try:
        return _run(job, console)
    except (Diverged, KeyboardInterrupt, SystemExit):
        raise SystemExit(0) from None


def _run(job: Run, console: Console) -> dict[str, Any]:
    state, say, data = State(), begin(job, console), job.prepared.data
    trainer = _rehearse(job)
    with state.recording(job):
        with state.timed("base"):
            base = load_base(job.prepared.builder, data, job.cache, console).to(trainer.strategy.root_device)
            if data.has_conversations:
                base = with_template(base, data.chat_template, say)
        _train_and_measure(job, data, base, state, console, trainer)
    state.finish(job, say)
    say(f"curves: tensorboard --logdir {job.run_dir}")
    return state.record


def _rehearse(job: Run) -> Trainer:
    """Makes what the configuration names once, so that a bad argument is said before the base is pre-trained."""
    trainer = make_trainer(job.trainer, callbacks=job.callbacks(), loggers=job.loggers())
    if job.settings.final == "best":
        best_checkpoint(trainer)
    job.schedule()
    job.objectives()
    job.probes()
    job.curations()
    job.adaptations()
    try:
        job.optimizer()([torch.nn.Parameter(torch.zeros(1))])
    except (TypeError, ValueError) as error:
        raise UserError(f"optimizer: {error}") from None
    return trainer


def _train_and_measure(
    job: Run, data: Dataset, base: LanguageModel, state: State, console: Console, rehearsed: Trainer
) -> None:
    probes, asking, say = job.probes(), job.measure.asking, speaker(console)
    with state.timed("curate"):
        data = _curated(job, data, base, state, say)
    with state.timed("prepare"):
        tuned, adaptations, tokenized = _prepared(job, data, base, console)
    with state.timed("measure"):
        state.base = measure_base(base, data, probes, asking, job.cache, say)
    reference = _reference(job, data, base, state, say)
    with state.timed("prepare"):
        module = _module(job, tuned, tokenized, reference, rehearsed.world_size)
    subject = Subject(tuned, reference.frozen, job.decoding())
    epochs = job.trainer["max_epochs"]
    measuring = Measuring(
        epochs_to_measure(epochs, job.measure.points) - {epochs},
        partial(follow, subject, data, probes, asking, state.base),
        state.history,
    )
    state.history.append(_at(0, 0, compare(state.base, state.base)))
    reference.frozen.rest()
    loggers = job.loggers()
    base_and_questions = f"{tuned.digest} {held_out_digest(data)}"
    trainer = _fit(job, module, tokenized, base_and_questions, measuring, loggers, state, console)
    tuned.to(rehearsed.strategy.root_device)  # a Trainer leaves it on the CPU
    done: Any = trainer.fit_loop.epoch_progress.current  # early stopping and a resumed fit leave current_epoch behind
    step, epoch = trainer.global_step, done.processed
    if job.settings.final == "best":
        step, epoch = load_best(trainer, module)
    for adaptation in reversed(adaptations):
        start: dict[str, torch.Tensor] = dict(base.model.named_parameters())
        trained = Trained(tuned.model, start, partial(_score, replace(subject, lm=tuned), data, probes, asking), say)
        tuned = replace(tuned, model=adaptation.finish(trained))
    with state.timed("measure"):
        subject = replace(subject, lm=tuned)
        found = compare(state.base, measure(subject, data, probes, asking))
        state.final = replace(found, metrics=found.metrics | selection(subject, data, probes, asking))
    state.final_step = step
    state.history.append(_at(step, epoch, state.final))
    state.history.sort(key=lambda entry: entry["step"])
    if job.settings.save_model:
        save_model(tuned, job.run_dir)
    log_samples(loggers, state.base, state.final)
    log_final(loggers, job.recorded, state.base, state.final, delta(state.base, state.final), trainer.global_step)


def _fit(
    job: Run,
    module: FineTuning,
    data: TokenizedData,
    base: str,
    measuring: Measuring,
    loggers: list[Any],
    state: State,
    console: Console,
) -> Trainer:
    """On the other ranks the process ends here: rank 0 measures and writes."""
    for logger in loggers if job.checkpoint is None else ():
        logger.log_metrics(state.history[0]["metrics"], 0)
    words = f"fine-tuning on {len(data.rows)} rows, {module.total_epochs} epochs"
    progress = ProgressLine(console, words, module.steps_per_epoch * module.total_epochs)
    resumable = Resumable(job.run_dir, state, f"{data.digest()} {base}", job.recorded, speaker(console))
    stability = Stability(job.settings.on_nonfinite, speaker(console))
    state.stability = stability.report
    watching = [stability, measuring, StepLog(state.history, stability.counts)]
    alarm = Alarm(state.history, state.unknown_high, speaker(console))
    callbacks = [*watching, alarm, *job.callbacks(), progress, resumable]
    options: dict[str, Any] = {"trainer": job.trainer, "callbacks": callbacks, "loggers": loggers}
    with state.timed("fine_tune"):
        trainer = fit(module, data, seed=job.seed, run_dir=job.run_dir, checkpoint=job.checkpoint, **options)
    if rank() > 0:
        raise SystemExit(0)
    state.seconds["measure_while_training"] = measuring.seconds
    return trainer


def _prepared(
    job: Run, data: Dataset, base: LanguageModel, console: Console
) -> tuple[LanguageModel, list[Adaptation], TokenizedData]:
    """What does not fit, a row or a layer to adapt, is said before the base is measured, which can take long."""
    tuned, adaptations = base.copy(), job.adaptations()
    seed_everything(job.seed, verbose=False)  # an adaptation may add weights, drawn at random
    for adaptation in adaptations:
        tuned = replace(tuned, model=adaptation.prepare(tuned.model))
    tokenized = _tokenized(job, data, tuned, speaker(console))
    if rank() == 0:
        preview(tokenized.rows[: job.settings.preview], tuned.tokenizer, console)
    return tuned, adaptations, tokenized


def _tokenized(job: Run, data: Dataset, tuned: LanguageModel, say: Callable[[str], None]) -> TokenizedData:
    loader, encoder = job.loader, Encoder(tuned.tokenizer)
    limits = (tuned.context_length, loader.over_long, loader.max_tokens)
    rows = encode(encoder, data.train, *limits)
    held_out = encode(encoder, data.validation, *limits) if data.validation else Encoded([], [])
    for note in (*rows.notes, *held_out.notes):
        say(note)
    tokenized = TokenizedData(rows.rows, held_out.rows, pad=encoder.pad, seed=job.seed, loader=loader)
    if tokenized.packs is not None:
        check_packing(tuned.model)
        say(f"{len(rows.rows)} examples packed into {tokenized.lines} rows")
    return tokenized


def _module(job: Run, tuned: LanguageModel, tokenized: TokenizedData, reference: Reference, devices: int) -> FineTuning:
    trainer, objectives = job.trainer, job.objectives()
    reference.bind(objectives)
    limit = trainer.get("overfit_batches") or trainer.get("limit_train_batches", 1.0)
    steps = steps_per_epoch(tokenized.lines, job.loader.batch_size, trainer["accumulate_grad_batches"], devices, limit)
    return FineTuning(
        tuned.model,
        objectives,
        job.optimizer(),
        job.schedule(),
        steps_per_epoch=steps,
        total_epochs=trainer["max_epochs"],
        compiled=getattr(job.prepared.builder, "compile", False),
        at_targets=isinstance(job.prepared.builder, Pretrained),
    )


def _curated(job: Run, data: Dataset, base: LanguageModel, state: State, say: Callable[[str], None]) -> Dataset:
    """The base is examined only if a curation asks, or if labels are wanted for the record."""

    def categories() -> dict[str, str]:
        if not state.knowledge:
            say("examining what the base knows of the facts to be taught")
            state.knowledge = job.knowledge.examine(base, data.train, job.measure.asking, job.seed)
            say(summary(state.knowledge))
        return {known.id: known.category for known in state.knowledge}

    if job.knowledge.label:
        categories()
    drawn = partial(drawn_texts, base, seed=job.seed)
    curated = curate(data, job.curations(), Context(categories, data.pretraining, job.seed, drawn), say)
    by_category = groups(state.knowledge, data.train)
    return replace(curated, fit_groups={**data.fit_groups, **by_category})


def _reference(job: Run, data: Dataset, base: LanguageModel, state: State, say: Callable[[str], None]) -> Reference:
    known = frozenset(fact.id for fact in state.knowledge if fact.category != "Unknown")
    return Reference(base, data, known, job.loader.batch_size, job.seed, job.optimizer, job.trainer, say)


def _score(subject: Subject, data: Dataset, probes: list[Probe], asking: Asking) -> float:
    return selection(subject, data, probes, asking)["val/score"].value


def _at(step: int, epoch: int, measurement: Measurement) -> dict[str, Any]:
    """One entry of the history."""
    return {"step": step, "epoch": epoch, "metrics": values(measurement)}
