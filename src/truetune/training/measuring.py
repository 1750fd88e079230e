"""Measuring on the way: what is asked after which epoch, and the alarm on facts that are being memorised."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from lightning import Callback, LightningModule, Trainer

from truetune.scoring.memorising import memorising_since
from truetune.training.module import FineTuning
from truetune.training.step_log import History, write


class Measuring(Callback):
    """Asks after every epoch: the cheap questions always, every probe at the chosen epochs.

    `val/score` is what checkpoints and early stopping look at: the balance on selection questions, or else the negative
    validation loss, or without validation rows the training loss.
    """

    def __init__(self, epochs: frozenset[int], probe: Callable[[bool], dict[str, float]], history: History) -> None:
        self.epochs, self.probe, self.history = epochs, probe, history
        self.seconds = 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seconds = state_dict["seconds"]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        start = time.perf_counter()
        epoch, step = trainer.current_epoch + 1, trainer.global_step
        metrics = self.probe(epoch in self.epochs)
        loss = trainer.callback_metrics.get("val/loss")
        if loss is not None:
            metrics["val/loss"] = float(loss)
        if "val/score" not in metrics and isinstance(pl_module, FineTuning):
            metrics["val/score"] = -metrics.get("val/loss", pl_module.window_loss)
        for name in metrics.keys() & {"val/score", "val/exact_match", "val/known_exact_match"}:
            pl_module.log(name, metrics[name], logger=False)
        write(trainer, metrics, step)
        self.history.append({"step": step, "epoch": epoch, "metrics": metrics})
        self.seconds += time.perf_counter() - start


class Alarm(Callback):
    """Says, after the epoch in which it happens, that facts which the base did not know are being memorised."""

    def __init__(self, history: History, base_high: float | None, say: Callable[[str], None]) -> None:
        self.history, self.base_high, self.say = history, base_high, say

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        since = memorising_since(self.history, self.base_high)
        if since and since["step"] == trainer.global_step:
            share = f"{since['share']:.2f} of them are reproduced"
            self.say(f"the model has begun to memorise unknown facts at step {since['step']}: {share}")


def epochs_to_measure(last: int, points: int) -> frozenset[int]:
    """About `points` epochs from 1 to the last, dense at the start, where things break first."""
    if points >= last:
        return frozenset(range(1, last + 1))
    ratio = last ** (1 / max(points - 1, 1))
    found = {round(ratio**k) for k in range(points)} | {1, last}
    return frozenset(epoch for epoch in found if 1 <= epoch <= last)
