"""Measuring while training: what is asked after which epoch, and the alarm on facts that are being memorised."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from lightning import Callback, LightningModule, Trainer

from truetune.errors import Say
from truetune.scoring.memorising import memorising_since
from truetune.scoring.selection_score import Selected
from truetune.training.module import FineTuning
from truetune.training.step_log import History, write


class Measuring(Callback):
    """Measures after every epoch: the cheap questions always, every probe at the chosen epochs.

    `val/score` is what checkpoints and early stopping look at: the balance on selection questions, or else the negative
    validation loss, or without validation rows the training loss.
    """

    def __init__(
        self,
        epochs: frozenset[int],
        probe: Callable[[bool], dict[str, float]],
        history: History,
        base_high: float | None = None,
        say: Say = print,
        timed: Callable[[], AbstractContextManager[None]] = nullcontext,
        select: Callable[[], Selected | None] = lambda: None,
    ) -> None:
        """`base_high` bounds the base's share of unknown facts; `say` reports the epoch that first exceeds it.

        `select` asks the selection questions; `selected` is its result after the last epoch.
        """
        self.epochs, self.probe, self.history, self.select = epochs, probe, history, select
        self.selected: Selected | None = None
        self.base_high, self.say, self.timed = base_high, say, timed

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epoch, step = trainer.current_epoch + 1, trainer.global_step
        with self.timed():
            self.selected = self.select()
            estimates = self.selected.estimates() if self.selected else {}
            metrics = {name: estimate.value for name, estimate in estimates.items()} | self.probe(epoch in self.epochs)
        loss = trainer.callback_metrics.get("val/loss")
        if loss is not None and epoch % (trainer.check_val_every_n_epoch or 1) == 0:  # else it is an earlier epoch's
            metrics["val/loss"] = float(loss)
        if "val/score" not in metrics and isinstance(pl_module, FineTuning):
            metrics["val/score"] = -metrics.get("val/loss", pl_module.window_loss)
        for name in metrics.keys() & {"val/score", "val/right", "val/known_right"}:
            pl_module.log(name, metrics[name], logger=False)
        write(trainer, metrics, step)
        self.history.append({"step": step, "epoch": epoch, "metrics": metrics})
        since = memorising_since(self.history, self.base_high)
        if since and since["step"] == step:
            share = f"{since['share']:.2f} of them are reproduced"
            self.say(f"the model has begun to memorise unknown facts at step {step}: {share}")


def remark(history: History, step: int, by: str, text: str, **more: Any) -> None:
    """Adds a remark to the history's entry of a step, where the report shows it and a checkpoint keeps it."""
    point = next(entry for entry in reversed(history) if entry["step"] == step)
    point.setdefault("remarks", []).append({"by": by, "text": text, **more})


def epochs_to_measure(last: int, points: int | Sequence[int]) -> frozenset[int]:
    """The epochs listed, or about `points` from 1 to the last, dense at the start, where things break first."""
    if not isinstance(points, int):
        return frozenset(points)
    if points >= last:
        return frozenset(range(1, last + 1))
    ratio = last ** (1 / max(points - 1, 1))
    epochs = {round(ratio**k) for k in range(points)} | {1, last}
    return frozenset(epoch for epoch in epochs if 1 <= epoch <= last)
