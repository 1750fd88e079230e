"""The LightningModule: forward, the sum of the objectives, the optimizer. No text, no files, no metrics of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from truetune.data.tokens import Batch
from truetune.errors import Diverged
from truetune.models.language_model import forward
from truetune.training.clipping import GradientStatistics, gradient_statistics
from truetune.training.objectives import Micro, NextToken, Objective
from truetune.training.schedules import Progress, Schedule

OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]


class FineTuning(LightningModule):
    """Gradients are sums over tokens until the window is complete, then divided once by its target tokens on all ranks.

    So 1 x 8, 2 x 4 and 8 x 1 rows take the same step, whatever the rows' lengths and however short the last window.
    """

    def __init__(
        self,
        model: nn.Module,
        objectives: Sequence[Objective],
        optimizer: OptimizerFactory,
        schedule: Schedule,
        *,
        steps_per_epoch: int,
        total_epochs: int,
    ) -> None:
        super().__init__()
        self.model = model
        self._objectives, self._optimizer, self._schedule = list(objectives), optimizer, schedule
        self.steps_per_epoch, self.total_epochs = steps_per_epoch, total_epochs
        self.window_loss = math.nan
        self.window_tokens = 0
        self.gradients = GradientStatistics(0.0, False, 0.0)
        self._validation = [0.0, 0.0]
        self._start_window()

    def _start_window(self) -> None:
        self._loss: Tensor | None = None
        self._tokens: Tensor | None = None
        self._ids: list[str] = []

    def forward(self, batch: Batch) -> Tensor:
        """Unshifted logits, shape (batch, positions, vocabulary)."""
        return forward(self.model, batch["input_ids"], batch.get("position_ids"))

    def _micro(self, batch: Batch) -> Micro:
        return Micro(
            self.model,
            self(batch),
            batch["labels"],
            batch["input_ids"],
            batch["attention_mask"],
            batch["weights"],
            batch.get("position_ids"),
        )

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        micro = self._micro(batch)
        total = torch.stack([objective.weight * objective(micro) for objective in self._objectives]).sum()
        tokens = micro.target_tokens
        self._loss = total.detach() if self._loss is None else self._loss + total.detach()
        self._tokens = tokens if self._tokens is None else self._tokens + tokens
        self._ids += batch["ids"]
        return total * self.trainer.accumulate_grad_batches  # Lightning divides by it again

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Called once a window, after unscaling and before the optimizer steps."""
        self._divide_by_window_tokens()
        self.gradients = gradient_statistics(self.parameters(), gradient_clip_val, gradient_clip_algorithm)
        self._stop_if_diverged()
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        self._start_window()

    def _divide_by_window_tokens(self) -> None:
        assert self._loss is not None
        assert self._tokens is not None
        sums = torch.stack([self._loss.double(), self._tokens.double()])
        loss, tokens = self.trainer.strategy.reduce(sums, reduce_op="sum").tolist()
        if tokens == 0:
            raise Diverged(f"step {self.global_step + 1}: no target token in the whole window; items {self._items()}")
        self.window_loss, self.window_tokens = loss / tokens, int(tokens)
        scale = self.trainer.world_size / tokens  # DDP has averaged over ranks
        for parameter in self.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(scale)

    def _stop_if_diverged(self) -> None:
        if math.isfinite(self.window_loss) and math.isfinite(self.gradients.norm):
            return
        what = "loss" if not math.isfinite(self.window_loss) else "gradient"
        raise Diverged(
            f"the {what} is not finite at step {self.global_step + 1} (learning rate {self.learning_rate:.3g}, "
            f"loss {self.window_loss:.4g}, gradient norm {self.gradients.norm:.4g}); the weights were not touched; "
            f"items {self._items()}; try a lower optimizer.lr or clip=norm"
        )

    def _items(self, shown: int = 8) -> str:
        more = f" and {len(self._ids) - shown} more" if len(self._ids) > shown else ""
        return ", ".join(self._ids[:shown]) + more

    @property
    def learning_rate(self) -> float:
        optimizer: Any = self.optimizers()
        return float(optimizer.param_groups[0]["lr"])

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """`val/loss`: nll in nats per target token, over all validation rows."""
        micro = self._micro(batch)
        self._validation[0] += float(NextToken()(micro))
        self._validation[1] += int(micro.target_tokens)

    def on_validation_epoch_start(self) -> None:
        self._validation = [0.0, 0.0]

    def on_validation_epoch_end(self) -> None:
        sums = self.trainer.strategy.reduce(torch.tensor(self._validation, dtype=torch.float64), reduce_op="sum")
        self.log("val/loss", (sums[0] / sums[1]).float(), sync_dist=False, logger=False)  # Measuring writes it

    def configure_optimizers(self) -> Any:
        optimizer = self._optimizer([p for p in self.parameters() if p.requires_grad])
        peak = float(optimizer.param_groups[0]["lr"])

        def factor(step: int) -> float:
            return self._schedule(Progress(step, self.steps_per_epoch, self.total_epochs), peak) / peak

        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}}
