"""The one training path: pre-training and fine-tuning are the same module in the same kind of Trainer."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from lightning import Callback, LightningDataModule, Trainer, seed_everything
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from torch.utils.data import DataLoader

from truetune.errors import RankFailed, Say, UserError
from truetune.models.sharding import is_sharded
from truetune.training.checkpoints import AtomicCheckpointIO
from truetune.training.module import FineTuning
from truetune.training.sharded import NAME, Sharded, load_whole

Final = Literal["last", "best", "earliest_best"]  # which weights a run ends with
PROFILE = "profile"  # the table of trainer.profiler is written to fit-profile.txt
SECONDS_TO_END = 10  # for another rank, before it is killed
BACKENDS = ("gloo", "NCCL")  # whose errors say no more than that a connection is lost


def make_trainer(
    arguments: dict[str, Any],
    callbacks: Sequence[Callback] = (),
    loggers: Sequence[Any] = (),
    run_dir: Path | None = None,
) -> Trainer:
    """Lightning's Trainer; raises UserError for what it refuses: an unknown argument, a device that is not there."""
    off_by_default = ("use_distributed_sampler", "enable_progress_bar", "enable_model_summary")
    options: dict[str, Any] = {**dict.fromkeys(off_by_default, False), **arguments}
    if options.get("strategy") == NAME:
        # Weights that are gathered in inference mode could not be trained afterwards.
        options |= {"strategy": Sharded(), "inference_mode": False}
    try:
        trainer = Trainer(
            callbacks=list(callbacks),
            logger=list(loggers) or False,
            # Where the configuration has no checkpoint callback, Lightning would add one of its own.
            enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
            default_root_dir=run_dir,
            plugins=[AtomicCheckpointIO()],
            **options,
        )
    except (TypeError, ValueError, MisconfigurationException) as error:
        raise UserError(f"trainer: {' '.join(str(error).split()).removeprefix('Trainer.__init__() ')}") from error
    if run_dir is not None and arguments.get("profiler"):
        profiler: Any = trainer.profiler  # pyright: ignore[reportAttributeAccessIssue]
        profiler.dirpath, profiler.filename = run_dir, PROFILE
    precision = str(arguments.get("precision"))
    if precision.startswith("16") and str(trainer.precision).startswith("bf16"):
        raise UserError(
            f"trainer.precision={precision}: this CPU would compute in bf16; type trainer.precision=bf16-mixed"
        )
    return trainer


def show_profile(run_dir: Path, say: Say) -> None:
    """Prints the tables of trainer.profiler, if one was asked for: a file for each rank."""
    for table in sorted(run_dir.glob(f"fit-{PROFILE}*.txt")):
        say(table.read_text(encoding="utf-8").expandtabs().strip())


def add_callbacks(trainer: Trainer, first: Sequence[Callback] = (), last: Sequence[Callback] = ()) -> None:
    """Adds callbacks around the configured ones, in the order of their calls: Lightning has done its sorting by now."""
    trainer.callbacks = [*first, *trainer.callbacks, *last]  # pyright: ignore[reportAttributeAccessIssue]


def fit(
    trainer: Trainer,
    module: FineTuning,
    data: LightningDataModule | DataLoader[Any],
    *,
    seed: int,
    checkpoint: Path | None = None,
) -> None:
    """Trains in place, from `checkpoint` on if there is one."""
    seed_everything(seed, verbose=False)
    source = {"datamodule" if isinstance(data, LightningDataModule) else "train_dataloaders": data}
    try:
        trainer.fit(module, ckpt_path=checkpoint, **source)  # pyright: ignore[reportArgumentType]
    except (Exception, SystemExit) as error:
        replacement = _in_our_words(error, _kill_other_ranks(trainer))
        if replacement is None:
            raise
        raise replacement from error


def _in_our_words(error: BaseException, failed_ranks: dict[int, int]) -> BaseException | None:
    """The error to raise instead of one from Lightning; None to raise that one."""
    text = " ".join(str(error).split())
    if isinstance(error, MisconfigurationException):
        return UserError(f"trainer: {text}")
    if text.startswith("Early stopping conditioned on metric"):
        return UserError(f"callbacks: {text}")
    if failed_ranks and isinstance(error, RuntimeError) and any(name in text for name in BACKENDS):
        ends = ", ".join(f"rank {rank} has ended with exit code {code}" for rank, code in failed_ranks.items())
        return RankFailed(f"{ends}; what it said is above, and the last checkpoint is whole")
    if isinstance(error, SystemExit) and isinstance(error.__context__, KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.default_int_handler)  # Lightning ignores SIGINT from here on and exits 1
        return KeyboardInterrupt()
    return None


def _kill_other_ranks(trainer: Trainer) -> dict[int, int]:
    """Ends the processes that rank 0 has started: one that waits for a lost rank would wait for ever.

    Returns the exit codes of those that had failed by themselves.
    """
    exit_codes: dict[int, int] = {}
    procs: list[Any] = getattr(trainer.strategy.launcher, "procs", [])
    processes = list(procs)
    procs.clear()  # or Lightning would kill this process for them, before it has written its record
    for rank, process in enumerate(processes, start=1):
        try:
            if code := process.wait(timeout=SECONDS_TO_END):
                exit_codes[rank] = code
        except subprocess.TimeoutExpired:
            process.kill()
    return exit_codes


def best_checkpoint(trainer: Trainer) -> ModelCheckpoint:
    callback = trainer.checkpoint_callback
    if not isinstance(callback, ModelCheckpoint):
        raise UserError("run.final=best needs a ModelCheckpoint among the callbacks; type callbacks=default")
    return callback


def take_weights(trainer: Trainer, module: FineTuning, final: Final) -> tuple[int, int]:
    """Loads the weights that the run ends with and returns the optimizer steps and epochs behind them.

    They are the last, those that a callback has chosen, or those that its ModelCheckpoint calls best.
    """
    callbacks: list[Any] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
    for choice in (callback.chosen() for callback in callbacks if hasattr(callback, "chosen")):
        if choice is not None:
            _load(trainer, module, choice.path)
            return choice.step, choice.epochs
    if final == "last":
        # Early stopping and a resumed fit leave the trainer's `current_epoch` behind.
        progress: Any = trainer.fit_loop.epoch_progress.current
        return trainer.global_step, progress.processed
    path = best_checkpoint(trainer).best_model_path
    if not path:
        raise UserError("run.final=best: the ModelCheckpoint among the callbacks has written nothing")
    checkpoint = _load(trainer, module, Path(path))
    return checkpoint["global_step"], checkpoint["epoch"] + 1


def _load(trainer: Trainer, module: FineTuning, path: Path) -> dict[str, Any]:
    if is_sharded(module.model):  # no process could hold the whole of it
        checkpoint: dict[str, Any] = trainer.strategy.load_checkpoint(path, weights_only=True)
    else:
        checkpoint = load_whole(path)
    module.on_load_checkpoint(checkpoint)
    module.load_state_dict(checkpoint["state_dict"], strict=False)
    return checkpoint
