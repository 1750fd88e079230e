"""What watches a fit: measuring on a schedule, logging per step, progress in words."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from torch.optim import Optimizer

from truetune.records.files import writing
from truetune.scoring.memorising import memorising_since
from truetune.training.clipping import UpdateRatio
from truetune.training.module import FineTuning

History = list[dict[str, Any]]


class EachStep(Callback):
    """Calls `after_step` once an optimizer step, however many micro-batches that was made of."""

    _step = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step != self._step and isinstance(pl_module, FineTuning):
            self._step = trainer.global_step
            self.after_step(trainer, pl_module)

    def after_step(self, trainer: Trainer, module: FineTuning) -> None:
        raise NotImplementedError


class StepLog(EachStep):
    """Every so many steps and at the last: loss, gradient norm before clipping, share clipped, update ratio, speed."""

    def __init__(self, history: History, counts: Mapping[str, int] | None = None) -> None:
        """`counts` are logged as they stand at each line."""
        self.history, self.counts = history, counts or {}
        self._epoch = self._tokens = 0
        self._clipped: list[bool] = []
        self._since = time.perf_counter()
        self._update: UpdateRatio | None = None

    def state_dict(self) -> dict[str, Any]:
        """Of the steps since the last line."""
        elapsed = time.perf_counter() - self._since
        return {"step": self._step, "tokens": self._tokens, "clipped": list(self._clipped), "elapsed": elapsed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._step, self._tokens, self._clipped = (state_dict[key] for key in ("step", "tokens", "clipped"))
        self._since = time.perf_counter() - state_dict["elapsed"]

    def _due(self, trainer: Trainer, module: LightningModule, step: int) -> bool:
        last = isinstance(module, FineTuning) and step == module.steps_per_epoch * module.total_epochs
        return last or step % max(1, trainer.log_every_n_steps) == 0  # pyright: ignore[reportAttributeAccessIssue]

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """The activations are gone: no more memory is needed than the optimizer took."""
        if self._due(trainer, pl_module, trainer.global_step + 1):
            self._update = UpdateRatio(pl_module.parameters())

    def after_step(self, trainer: Trainer, module: FineTuning) -> None:
        self._epoch = trainer.current_epoch + 1
        if not module.stepped:
            self._update = None
            return
        self._tokens += module.window_tokens
        self._clipped.append(module.gradients.clipped)
        if self._due(trainer, module, self._step):
            self._log(trainer, module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """A fit that stops early has a last line, too, and its last checkpoint knows of it."""
        if trainer.should_stop:
            self.on_train_end(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._clipped and isinstance(pl_module, FineTuning):
            self._log(trainer, pl_module)

    def _log(self, trainer: Trainer, module: FineTuning) -> None:
        now = time.perf_counter()
        metrics = {
            "train/loss": module.window_loss,
            "train/grad_norm": module.gradients.norm,
            "train/clipped_fraction": sum(self._clipped) / len(self._clipped),
            "train/clipped_element_fraction": module.gradients.clipped_elements,
            "train/learning_rate": module.learning_rate,
            "train/target_tokens_per_second": self._tokens / max(now - self._since, 1e-9),
            **{f"train/{name}": float(count) for name, count in self.counts.items()},
        }
        if self._update is not None:
            metrics["train/update_to_weight_ratio"] = self._update.value()
        self._update, self._clipped, self._tokens, self._since = None, [], 0, now
        write(trainer, metrics, self._step)
        self.history.append({"step": self._step, "epoch": self._epoch, "metrics": metrics})


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


def write(trainer: Trainer, metrics: dict[str, float], step: int) -> None:
    for logger in trainer.loggers:
        with writing(Path(str(logger.log_dir or logger.save_dir or logger.name))):
            logger.log_metrics(metrics, step)


def epochs_to_measure(last: int, points: int) -> frozenset[int]:
    """About `points` epochs from 1 to the last, dense at the start, where things break first."""
    if points >= last:
        return frozenset(range(1, last + 1))
    ratio = last ** (1 / max(points - 1, 1))
    found = {round(ratio**k) for k in range(points)} | {1, last}
    return frozenset(epoch for epoch in found if 1 <= epoch <= last)
