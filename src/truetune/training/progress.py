"""One line that says what is happening, in words: a bar on a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from truetune.errors import rank
from truetune.training.module import FineTuning

PLAIN_LINE_SECONDS = 15.0


def speaker(console: Console) -> Callable[[str], None]:
    """Plain words, one line each: a path must stay whole to be copied, and its brackets are no markup."""
    if rank() > 0:
        return lambda _: None
    return partial(console.print, highlight=False, soft_wrap=True, markup=False)


class ProgressLine(Callback):
    """Optimizer steps of one fit; the words come from the caller, the loss from the module."""

    def __init__(self, console: Console, words: str, total_steps: int) -> None:
        self.console, self.words, self.total = console, words, total_steps
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._spoke = self._drawn = time.monotonic()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        if not self.console.is_terminal:
            speaker(self.console)(f"{self.words}: {self.total} steps")
            return
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
        )
        self._task = self._bar.add_task(self.words, total=self.total, completed=trainer.global_step, loss="-")
        self._bar.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not trainer.is_global_zero or not isinstance(pl_module, FineTuning):
            return
        now = time.monotonic()
        loss = f"{pl_module.window_loss:.3f}"
        if self._bar is not None:
            if now - self._drawn > 0.2 or trainer.global_step == self.total:
                self._drawn = now
                self._bar.update(self._task, completed=trainer.global_step, loss=loss)
        elif now - self._spoke > PLAIN_LINE_SECONDS:
            self._spoke = now
            speaker(self.console)(f"{self.words}: step {trainer.global_step} of {self.total}, loss {loss}")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
