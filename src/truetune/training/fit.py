"""The one training path: pre-training and fine-tuning are the same module in the same Trainer."""

from __future__ import annotations

import logging
import signal
import subprocess
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning import Callback, LightningDataModule, Trainer, seed_everything
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from torch.utils.data import DataLoader
from transformers.utils import logging as transformers_logging

from truetune.errors import RankFailed, UserError
from truetune.training.checkpoints import AtomicCheckpointIO
from truetune.training.module import FineTuning

SECONDS_TO_END = 10
BACKENDS = ("gloo", "NCCL")  # whose errors say no more than that a connection is lost


def fit(
    module: FineTuning,
    data: LightningDataModule | DataLoader[Any],
    *,
    seed: int,
    trainer: dict[str, Any],
    callbacks: Sequence[Callback] = (),
    loggers: Sequence[Any] = (),
    run_dir: Path | None = None,
    checkpoint: Path | None = None,
) -> Trainer:
    """Trains in place, from `checkpoint` on if there is one; returns the trainer.

    `trainer` holds keyword arguments of lightning's Trainer.
    """
    quiet()
    seed_everything(seed, verbose=False)
    made = make_trainer(trainer, callbacks=callbacks, loggers=loggers, run_dir=run_dir)
    try:
        if isinstance(data, LightningDataModule):
            made.fit(module, datamodule=data, ckpt_path=checkpoint)
        else:
            made.fit(module, train_dataloaders=data, ckpt_path=checkpoint)
    except MisconfigurationException as error:
        raise UserError(f"trainer: {' '.join(str(error).split())}") from error
    except (Exception, SystemExit) as error:
        ended = _end_other_ranks(made)
        if str(error).startswith("Early stopping conditioned on metric"):
            raise UserError(f"callbacks: {' '.join(str(error).split())}") from error
        if ended and isinstance(error, RuntimeError) and any(name in str(error) for name in BACKENDS):
            gone = ", ".join(f"rank {rank} has ended with exit code {code}" for rank, code in ended.items())
            raise RankFailed(f"{gone}; what it said is above, and the last checkpoint is whole") from error
        if not isinstance(error, SystemExit) or not isinstance(error.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, signal.default_int_handler)  # Lightning ignores SIGINT from here on and exits 1
        raise KeyboardInterrupt from None
    return made


def make_trainer(
    trainer: dict[str, Any], *, callbacks: Sequence[Callback], loggers: Sequence[Any], run_dir: Path | None = None
) -> Trainer:
    """Raises UserError for what Lightning refuses: an unknown argument, a device that is not there."""
    arguments: dict[str, Any] = {
        "use_distributed_sampler": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        **trainer,
    }
    try:
        made = Trainer(
            callbacks=list(callbacks),
            logger=list(loggers) or False,
            enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
            default_root_dir=run_dir,
            plugins=[AtomicCheckpointIO()],
            **arguments,
        )
    except (TypeError, ValueError, MisconfigurationException) as error:
        raise UserError(f"trainer: {' '.join(str(error).split()).removeprefix('Trainer.__init__() ')}") from error
    asked = str(trainer.get("precision"))
    if asked.startswith("16") and str(made.precision).startswith("bf16"):
        raise UserError(f"trainer.precision={asked}: this CPU would compute in bf16; type trainer.precision=bf16-mixed")
    return made


def best_checkpoint(trainer: Trainer) -> ModelCheckpoint:
    callback = trainer.checkpoint_callback
    if not isinstance(callback, ModelCheckpoint):
        raise UserError("run.final=best needs a ModelCheckpoint among the callbacks; type callbacks=default")
    return callback


def load_best(trainer: Trainer, module: FineTuning) -> tuple[int, int]:
    """The weights of the checkpoint that the run's ModelCheckpoint calls best; after which step and epoch it was."""
    path = best_checkpoint(trainer).best_model_path
    if not path:
        raise UserError("run.final=best: the ModelCheckpoint among the callbacks has written nothing")
    stored = AtomicCheckpointIO().load_checkpoint(path, map_location="cpu")
    module.on_load_checkpoint(stored)
    module.load_state_dict(stored["state_dict"], strict=False)
    return stored["global_step"], stored["epoch"] + 1


def quiet() -> None:
    """Lightning's start-up lines and advice on workers would bury what the user needs to read."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for words in (
        ".*does not have many workers.*",
        ".*`_lru_cache`.*",
        ".*TensorBoard.*",
        ".*exists and is not empty.*",
        "fan_in_fan_out is set to",  # peft then sets it itself
    ):
        warnings.filterwarnings("ignore", message=words)
    warnings.filterwarnings("ignore", category=UserWarning, module="lightning")
    warnings.filterwarnings("ignore", category=FutureWarning)
    threading.excepthook = _thread_failed
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()


def _end_other_ranks(trainer: Trainer) -> dict[int, int]:
    """Of the processes that rank 0 has started: one that waits for a rank that is gone would wait for ever.

    Returns the exit codes of those that had failed by themselves. Lightning, which would kill this process for them
    before it has written its record, watches none from here on.
    """
    failed: dict[int, int] = {}
    watched: list[Any] = getattr(trainer.strategy.launcher, "procs", [])
    processes = list(watched)
    watched.clear()
    for rank, process in enumerate(processes, start=1):
        try:
            if code := process.wait(timeout=SECONDS_TO_END):
                failed[rank] = code
        except subprocess.TimeoutExpired:
            process.kill()
    return failed


def _thread_failed(failure: threading.ExceptHookArgs) -> None:
    """TensorBoard's writer hands its error on to the next call as well: no traceback for that."""
    if type(failure.thread).__name__ != "_AsyncWriterThread":
        threading.__excepthook__(failure)
