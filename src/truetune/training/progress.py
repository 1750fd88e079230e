"""One line that says what is happening, in words: a bar on a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

import logging
import time
from typing import Any

from lightning import Callback, LightningModule, Trainer
from rich import progress
from rich.console import Console

from truetune.errors import speaker
from truetune.training.module import FineTuning
from truetune.training.schedules import ENDLESS

PLAIN_LINE_SECONDS, BAR_SECONDS = 15.0, 0.2


class ProgressLine(Callback):
    """Optimizer steps of one fit; the words come from the caller, the loss from the module."""

    def __init__(self, console: Console, words: str, total_steps: int) -> None:
        self.console, self.words = console, words
        self.total = None if total_steps == ENDLESS else total_steps
        self._bar: progress.Progress | None = None
        self._task = progress.TaskID(0)
        self._last_shown = time.monotonic()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        line = self.words + (f": {self.total} steps" if self.total else "")
        if not self.console.is_terminal:
            speaker(self.console)(line)
            return
        logging.getLogger("truetune").info("%s", line)
        columns = (
            *("{task.description}", progress.BarColumn(bar_width=24), progress.MofNCompleteColumn()),
            *("loss {task.fields[loss]}", progress.TimeElapsedColumn(), "left", progress.TimeRemainingColumn()),
        )
        self._bar = progress.Progress(*columns, console=self.console)
        self._task = self._bar.add_task(self.words, total=self.total, completed=trainer.global_step, loss="-")
        self._bar.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not trainer.is_global_zero or not isinstance(pl_module, FineTuning):
            return
        step, loss, seconds = trainer.global_step, f"{pl_module.window_loss:.3f}", time.monotonic() - self._last_shown
        if self._bar is not None and (seconds > BAR_SECONDS or step == self.total):
            self._bar.update(self._task, completed=step, loss=loss)
        elif self._bar is None and seconds > PLAIN_LINE_SECONDS:
            speaker(self.console)(f"{self.words}: step {step}{f' of {self.total}' if self.total else ''}, loss {loss}")
        else:
            return
        self._last_shown = time.monotonic()

    def _close(self, *_: Any, **__: Any) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    on_train_end = on_exception = _close
