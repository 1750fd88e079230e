"""What lets a resumed fit end in exactly the weights of one that was never interrupted."""

from __future__ import annotations

import json
import os
import random
import shlex
import signal
from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from truetune.errors import TERMINATED, Say, UserError, gathered
from truetune.records.record import changes
from truetune.records.run_folder import LAST
from truetune.records.state import State
from truetune.training.step_log import History

KEY = "truetune"
NOTICE = b"stopping after this step, with a checkpoint; Ctrl-C leaves at once\n"


class Resumable(Checkpoint):
    """Puts the random state and the history into every checkpoint, and writes one when a signal asks to stop.

    It is a `Checkpoint`, so that Lightning calls it after the callbacks whose state it stores. At the end of an epoch
    it waits for the measurement: a run cannot be resumed from between an epoch's last step and its end.
    """

    def __init__(self, state: State, data: str, say: Say) -> None:
        """`data` is the content hash of what is taught and asked, and of the base."""
        self.state, self.data, self.say, self.run_dir = state, data, say, state.run_dir
        self._signal = 0
        self._handlers: dict[int, Any] = {}
        self._random: dict[str, Any] | None = None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        for logger in trainer.loggers:
            logger.save()  # what the checkpoint has seen must not be lost from the curves
        checkpoint[KEY] = {
            "random": gathered(random_state(), trainer.world_size),
            "history": json.dumps(self.state.history),
            "seconds": self.state.spent(),
            "stopped": bool(trainer.should_stop),
            "data": self.data,
            "config": json.dumps(self.state.config),
            "changes": json.dumps(self.state.changes),
            "folder": str(self.run_dir.resolve()),
        }

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        stored, processes = checkpoint.get(KEY) or {}, trainer.world_size
        problem = None
        if "config" not in stored:
            problem = "this checkpoint was made by an older truetune; start a new run"
        elif stored["data"] != self.data:
            problem = "the training rows, what is held out or the base have changed since then; start a new run"
        elif stored["folder"] != str(self.run_dir.resolve()):
            problem = f"this run was made in {stored['folder']}; move it back there to resume"
        elif (count := len(stored["random"])) != processes:
            words = f"{count} process{'es' if count > 1 else ''}, not {processes}"
            problem = f"this run was made by {words}; use as many again"
        if problem:
            raise UserError(f"{self.run_dir}: {problem}")
        step = checkpoint["global_step"]
        self.state.history[:] = json.loads(stored["history"])
        self.state.earlier = stored["seconds"]
        self.state.changes = json.loads(stored["changes"])
        if differences := changes(json.loads(stored["config"]), json.loads(json.dumps(self.state.config))):
            self.state.changes.append({"step": step, "changed": differences})
        for key, (old, new) in differences.items():
            self.say(f"from step {step} on: {key}={new} (was {old})")
        trainer.should_stop = stored["stopped"]
        self._random = random = stored["random"][trainer.global_rank]
        set_random_state(random)  # here too: nothing may be left to train, but something to measure
        if trainer.is_global_zero:
            take_up_curves(trainer, self.state.history, step)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._random is not None:
            set_random_state(self._random)  # again: what was set up since may have drawn numbers
        for number in (signal.SIGINT, *TERMINATED):
            self._handlers[number] = signal.signal(number, self._stop_soon)

    def _stop_soon(self, number: int, frame: Any) -> None:
        if self._signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal = self._signal or number
        os.write(2, NOTICE)  # print is not safe in a signal handler

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # A run could not be resumed from within an accumulation window, nor from after an epoch's last batch. Only
        # Lightning's loop knows whether it is at either, and no public name tells.
        loop = trainer.fit_loop
        is_last = trainer.overfit_batches or loop.epoch_loop._num_ready_batches_reached()  # pyright: ignore
        if not loop._should_accumulate() and not is_last:  # pyright: ignore
            self.on_train_epoch_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.strategy.reduce_boolean_decision(bool(self._signal), all=False):
            trainer.save_checkpoint(self.run_dir / LAST)
            self.say(f"resume with: truetune {shlex.quote(f'resume={self.run_dir.absolute()}')}")
            raise KeyboardInterrupt if self._signal == signal.SIGINT else SystemExit(143)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._restore_handlers()
        if self._signal:  # it came after the last epoch's end, whose checkpoint is written
            raise KeyboardInterrupt if self._signal == signal.SIGINT else SystemExit(143)

    def _restore_handlers(self, *_: Any, **__: Any) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    on_exception = _restore_handlers


def random_state() -> dict[str, Any]:
    """Plain values and tensors only: a checkpoint is read with weights_only=True."""
    name, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": [name, torch.tensor(keys.astype(np.int64)), *rest],  # pyright: ignore
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: dict[str, Any]) -> None:
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


def take_up_curves(trainer: Trainer, history: History, step: int) -> None:
    """Lets no point appear twice: TensorBoard forgets what came after the checkpoint, the CSV file is rewritten."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            writer: Any = logger.experiment
            writer.close()
            writer.purge_step = step + 1
        elif isinstance(logger, CSVLogger):
            for entry in history:
                logger.log_metrics(entry["metrics"], entry["step"])
