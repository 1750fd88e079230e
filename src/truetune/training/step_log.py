"""What is logged of each step: loss, gradient norm before clipping, share clipped, update ratio, speed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from truetune.records.disk import writing
from truetune.records.state import StabilityReport
from truetune.training.clipping import update_ratio
from truetune.training.module import FineTuning

SHORT = 200  # steps in all, below which each is logged: a curve of two dots shows nothing
History = list[dict[str, Any]]


class StepLog(Callback):
    """Logs every so many steps (each, if they are few) and the last, with the counts of `stability` at that time."""

    def __init__(self, history: History, stability: StabilityReport | None = None, every: int | None = None) -> None:
        self.history, self.stability = history, stability or StabilityReport()
        self.every = every
        self._step = self._epoch = self._tokens = 0
        self._clipped: list[bool] = []
        self._since = time.perf_counter()
        self._before: list[Tensor] | None = None  # the weights before a step that is to be logged

    def state_dict(self) -> dict[str, Any]:
        """What has been counted since the last line."""
        elapsed = time.perf_counter() - self._since
        return {"step": self._step, "tokens": self._tokens, "clipped": list(self._clipped), "elapsed": elapsed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._step, self._tokens, self._clipped = (state_dict[key] for key in ("step", "tokens", "clipped"))
        self._since = time.perf_counter() - state_dict["elapsed"]

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Copies the weights. The activations are gone by now: it needs no more memory than the optimizer took."""
        if not isinstance(pl_module, FineTuning):
            return
        step, total = trainer.global_step + 1, pl_module.steps.total
        every = self.every or (1 if total < SHORT else 10)
        if step == total or step % every == 0:
            self._before = [p.detach().clone() for p in pl_module.parameters() if p.requires_grad]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self._step or not isinstance(pl_module, FineTuning):
            return  # the window has further micro-batches
        self._step, self._epoch = trainer.global_step, trainer.current_epoch + 1
        if not pl_module.stepped:
            self._before = None
            return
        self._tokens += pl_module.window_tokens
        self._clipped.append(pl_module.gradients.clipped)
        if self._before is not None:
            self._log(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Logs the last step of a fit that stops early, too, before its last checkpoint is written."""
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
            **{f"train/{name}": float(count) for name, count in self.stability.counts.items()},
        }
        if self._before is not None:
            parameters = [p for p in module.parameters() if p.requires_grad]
            metrics["train/update_to_weight_ratio"] = update_ratio(parameters, self._before)
        self._before, self._clipped, self._tokens, self._since = None, [], 0, now
        write(trainer, metrics, self._step)
        self.history.append({"step": self._step, "epoch": self._epoch, "metrics": metrics})


def write(trainer: Trainer, metrics: dict[str, float], step: int) -> None:
    for logger in trainer.loggers:
        with writing(Path(str(logger.log_dir or logger.save_dir or logger.name))):
            logger.log_metrics(metrics, step)
