"""The main job: base, measurement, fine-tune, measurement, record, report."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from filelock import FileLock, Timeout
from rich.console import Console

from truetune.build import Run
from truetune.data.dataset import Dataset
from truetune.data.module import TokenizedData, steps_per_epoch
from truetune.data.tokens import Encoded, Encoder, encode
from truetune.errors import Diverged, UserError
from truetune.models.language_model import Frozen, LanguageModel
from truetune.probes.baseline import measure_base
from truetune.probes.measure import compare, measure, selection
from truetune.probes.measure import fit as fitted
from truetune.probes.probe import Probe, Subject
from truetune.record import Measurement, delta, metrics_to_json, write_items, write_run
from truetune.report import run_report
from truetune.report.summary import print_table
from truetune.training.base import load_base
from truetune.training.callbacks import History, Measuring, StepLog, epochs_to_measure
from truetune.training.fit import fit, make_trainer, quiet
from truetune.training.module import FineTuning
from truetune.training.progress import ProgressLine, speaker
from truetune.training.tensorboard import log_final, log_samples
from truetune.versions import about


@dataclass
class State:
    """What is known so far; a run that stops half-way records it with the status it stopped with."""

    status: str = "failed"
    base: Measurement = field(default_factory=Measurement)
    final: Measurement = field(default_factory=Measurement)
    history: History = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


STATUS: dict[type[BaseException], str] = {
    Diverged: "diverged",
    KeyboardInterrupt: "interrupted",
    SystemExit: "interrupted",  # SIGTERM
}


def run(job: Run, console: Console) -> dict[str, Any]:
    """Returns what run.json holds; the run folder is locked while it works."""
    lock = FileLock(job.run_dir / ".lock")
    try:
        with lock.acquire(timeout=0):
            return _run(job, console)
    except Timeout:
        raise UserError(f"{job.run_dir}: another run is working in this folder; choose another hydra.run.dir") from None


def _run(job: Run, console: Console) -> dict[str, Any]:
    if job.config["extras"]["threads"] is not None:
        torch.set_num_threads(job.config["extras"]["threads"])
    quiet()
    started, state = time.time(), State()
    say = speaker(console)
    data = job.prepared.data
    for note in data.notes:
        say(note)
    _rehearse(job)
    try:
        with timed(state, "base"):
            base = load_base(job.prepared.builder, data, job.cache, console)
        _train_and_measure(job, data, base, state, console)
        state.status = "finished"
    except BaseException as error:
        state.status = STATUS.get(type(error), "failed")
        _write(job, state, started)
        raise
    record = _write(job, state, started)
    page = run_report.render(job.run_dir)
    print_table(record, Console())
    say(f"report: {page.absolute()}")
    say(f"curves: tensorboard --logdir {job.run_dir}")
    return record


def _rehearse(job: Run) -> None:
    """Makes what the configuration names once, so that a bad argument is said before the base is pre-trained."""
    make_trainer(job.trainer, callbacks=job.callbacks(), loggers=job.loggers())
    job.schedule()
    job.probes()
    try:
        job.optimizer()([torch.nn.Parameter(torch.zeros(1))])
    except (TypeError, ValueError) as error:
        raise UserError(f"optimizer: {error}") from None


def _train_and_measure(job: Run, data: Dataset, base: LanguageModel, state: State, console: Console) -> None:
    probes, reference = job.probes(), Frozen(base.model)
    with timed(state, "measure"):
        state.base = measure_base(base, data, probes, job.cache, speaker(console))
    tuned = base.copy()
    module, tokenized = _module(job, data, base, tuned, console)
    epochs = job.trainer["max_epochs"]
    measuring = Measuring(
        epochs_to_measure(epochs, job.config["extras"]["measure_points"]) - {epochs},
        partial(_measure_now, Subject(tuned, reference), data, probes, state.base),
        state.history,
    )
    state.history.append({"step": 0, "epoch": 0, "metrics": _values(compare(state.base, state.base))})
    loggers, steps = job.loggers(), module.steps_per_epoch * epochs
    progress = ProgressLine(console, f"fine-tuning on {len(tokenized.rows)} rows, {epochs} epochs", steps)
    callbacks = [measuring, StepLog(state.history), *job.callbacks(), progress]
    with timed(state, "fine_tune"):
        trainer = fit(
            module,
            tokenized,
            seed=job.seed,
            trainer=job.trainer,
            callbacks=callbacks,
            loggers=loggers,
            run_dir=job.run_dir,
        )
    state.seconds["measure_while_training"] = measuring.seconds
    with timed(state, "measure"):
        state.final = compare(state.base, measure(Subject(tuned, reference), data, probes))
    last = {"step": trainer.global_step, "epoch": trainer.current_epoch, "metrics": _values(state.final)}
    state.history.append(last)
    log_samples(loggers, state.base, state.final)
    log_final(loggers, job.config, state.base, state.final, delta(state.base, state.final), trainer.global_step)


def _module(
    job: Run, data: Dataset, base: LanguageModel, tuned: LanguageModel, console: Console
) -> tuple[FineTuning, TokenizedData]:
    loader, encoder = job.loader, Encoder(base.tokenizer)
    rows = encode(encoder, data.train, base.context_length, loader["over_long"])
    held_out = Encoded([], [])
    if data.validation:
        held_out = encode(encoder, data.validation, base.context_length, loader["over_long"])
    for note in (*rows.notes, *held_out.notes):
        speaker(console)(note)
    tokenized = TokenizedData(
        rows.rows,
        held_out.rows,
        pad=encoder.pad,
        batch_size=loader["batch_size"],
        seed=job.seed,
        num_workers=loader["num_workers"],
    )
    trainer = job.trainer
    steps = steps_per_epoch(len(rows.rows), loader["batch_size"], trainer["accumulate_grad_batches"], 1)
    module = FineTuning(
        tuned.model,
        job.objectives(base),
        job.optimizer(),
        job.schedule(),
        steps_per_epoch=steps,
        total_epochs=trainer["max_epochs"],
    )
    return module, tokenized


def _measure_now(
    subject: Subject, data: Dataset, probes: list[Probe], base: Measurement, full: bool
) -> dict[str, float]:
    """After an epoch: the fit of the facts and the selection score; at chosen epochs every probe."""
    chosen = {name: e.value for name, e in selection(subject, data, probes).items()}
    if full:
        return chosen | _values(compare(base, measure(subject, data, probes)))
    return chosen | {name: estimate.value for name, estimate in fitted(subject, data).items()}


def _values(measurement: Measurement) -> dict[str, float]:
    return {name: estimate.value for name, estimate in measurement.metrics.items()}


def _write(job: Run, state: State, started: float) -> dict[str, Any]:
    files: list[str] = []
    for when, measurement in (("base", state.base), ("final", state.final)):
        for probe, items in measurement.items.items():
            files.append(f"items/{probe}.{when}.jsonl")
            write_items(job.run_dir / files[-1], items)
    record = {
        **about(job.config, started, state.seconds),
        "status": state.status,
        "base": metrics_to_json(state.base.metrics),
        "final": metrics_to_json(state.final.metrics),
        "delta": metrics_to_json(delta(state.base, state.final)),
        "history": state.history,
        "files": files,
    }
    write_run(job.run_dir, record)
    return record


class timed:
    """Adds the seconds of a block to `state.seconds[name]`."""

    def __init__(self, state: State, name: str) -> None:
        self.state, self.name = state, name

    def __enter__(self) -> None:
        self.since = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.state.seconds[self.name] = self.state.seconds.get(self.name, 0.0) + time.perf_counter() - self.since
