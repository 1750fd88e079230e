"""The LightningModule: forward, the sum of the objectives, the optimizer. No text, no files, no metrics of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from truetune.data.batch import Batch
from truetune.errors import Diverged, UserError, gathered
from truetune.models.logits import CHUNK, bare, body, forward, head, parts_into_head, states
from truetune.models.sharding import is_sharded, shard
from truetune.training.clipping import GradientStatistics, gradient_statistics
from truetune.training.objectives import Micro, NextToken, Objective
from truetune.training.schedules import Schedule, Steps

OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]


ADVICE = "try a lower optimizer.lr or clip=norm"


def few(ids: Sequence[str], limit: int = 8) -> str:
    return ", ".join(ids[:limit]) + (f" and {len(ids) - limit} more" if len(ids) > limit else "")


def logits_at_targets(model: nn.Module, objectives: Sequence[Objective], is_wanted: bool) -> bool:
    """Whether logits are made at target positions only; raises UserError if chunks are asked for but impossible."""
    has_chunks = any(getattr(objective, "chunk", None) is not None for objective in objectives)
    if not has_chunks and not is_wanted:
        return False
    blockers = [type(each).__name__ for each in objectives if getattr(each, "needs_logits", True)]
    is_possible = not blockers and parts_into_head(model)
    if has_chunks and not is_possible:
        reason = f"{type(model).__name__} does more than apply a head to its states; leave the key out"
        if blockers:
            reason = f"{blockers[0]} needs all logits at once; leave one of the two out"
        raise UserError(f"objective.next_token.chunk: {reason}")
    return is_possible


class FineTuning(LightningModule):
    """Gradients are sums over tokens until the window is complete, then divided once by its target tokens on all ranks.

    So 1 x 8, 2 x 4 and 8 x 1 rows take the same step, whatever the rows' lengths and however short the last window.
    With `at_targets`, logits are made only where there is something to learn, if model and objectives allow it.
    """

    def __init__(
        self,
        model: nn.Module,
        objectives: Sequence[Objective],
        optimizer: OptimizerFactory,
        schedule: Schedule,
        steps: Steps,
        *,
        compiled: bool = False,
        at_targets: bool = False,
        on_nonfinite: Callable[[str, list[str]], None] | None = None,
    ) -> None:
        """`on_nonfinite` gets a text on a step that is not finite, and its items: it raises, or the step is skipped."""
        super().__init__()
        self.strict_loading = False  # `on_load_checkpoint` is strict
        self.model = model
        parameters = model.named_parameters(remove_duplicate=False)
        self._frozen = [f"model.{name}" for name, parameter in parameters if not parameter.requires_grad]
        self._objectives, self._optimizer, self._schedule = list(objectives), optimizer, schedule
        self._at_targets = logits_at_targets(model, objectives, at_targets)
        self._compiled = compiled
        self._bind()
        self.steps, self._on_nonfinite = steps, on_nonfinite
        self.stepped = False
        self.window_loss, self.window_tokens = math.nan, 0  # like `gradients`, of the last step that was taken
        self.gradients = GradientStatistics(0.0, False, 0.0)
        self._validation = [0.0, 0.0]
        self._window: list[tuple[Tensor, Tensor, list[str]]] = []  # of each micro-batch: loss, target tokens, items

    def _bind(self) -> None:
        network: Any = body(self.model) if self._at_targets else bare(self.model)
        network = torch.compile(network) if self._compiled else network
        # Not the module itself, which would be registered and give each weight a second name.
        self._outputs = partial(states if self._at_targets else forward, network)

    def configure_model(self) -> None:
        """Cuts up the model; Lightning calls this once all processes have started."""
        mesh = self.device_mesh
        if isinstance(self.trainer.strategy, ModelParallelStrategy) and not is_sharded(self.model):
            shard(bare(self.model), mesh and mesh["data_parallel"])
            self._bind()

    def put_together(self, model: nn.Module) -> None:
        """Replaces the model in pieces by a whole one with the same weights."""
        self.model = model
        self._bind()

    def _micro(self, batch: Batch) -> Micro:
        return Micro(
            self.model,
            self._outputs(batch["input_ids"], batch.get("position_ids")),
            batch["labels"],
            batch["input_ids"],
            batch["attention_mask"],
            batch["weights"],
            batch.get("position_ids"),
            head(self.model) if self._at_targets else None,
        )

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        micro = self._micro(batch)
        total = torch.stack([objective.weight * objective(micro) for objective in self._objectives]).sum()
        self._window.append((total.detach(), micro.target_tokens, batch["ids"]))
        return total * self.trainer.accumulate_grad_batches  # Lightning divides by it again

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Called once a window, after unscaling, before the optimizer steps; without gradients that moves nothing."""
        loss, tokens = self._divide_by_window_tokens()
        gradients = gradient_statistics(self.parameters(), gradient_clip_val, gradient_clip_algorithm)
        is_finite = math.isfinite(loss) and math.isfinite(gradients.norm)
        self.stepped = self.trainer.strategy.reduce_boolean_decision(is_finite, all=True)
        # In 16 bits a gradient may overflow now and then: the scaler skips that step, and scales by less.
        scaler: Any = getattr(self.trainer.precision_plugin, "scaler", None)
        if self.stepped:
            self.window_loss, self.window_tokens, self.gradients = loss, tokens, gradients
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        elif scaler is None or scaler.get_scale() < 1 or not math.isfinite(loss):
            ids, what = self._at_fault(), "gradient" if math.isfinite(loss) else "loss"
            text = (
                f"the {what} is not finite at step {self.global_step + 1} (learning rate {self.learning_rate:.3g}, "
                f"loss {loss:.4g}, gradient norm {gradients.norm:.4g}); the weights were not touched; items {few(ids)}"
            )
            if self._on_nonfinite is None:
                raise Diverged(f"{text}; {ADVICE}")
            self._on_nonfinite(text, ids)
            optimizer.zero_grad(set_to_none=True)
        self._window = []

    def _divide_by_window_tokens(self) -> tuple[float, int]:
        """Makes gradients means over tokens; returns the mean loss and the number of target tokens, over all ranks."""
        widest = torch.float32 if self.device.type == "mps" else torch.float64  # Apple's GPUs have no float64
        losses = torch.stack([loss for loss, _, _ in self._window])
        counts = torch.stack([tokens for _, tokens, _ in self._window])
        sums = torch.stack([losses.to(widest).sum(), counts.to(widest).sum()])
        loss, tokens = self.trainer.strategy.reduce(sums, reduce_op="sum").tolist()
        if tokens == 0:
            items = few(self._at_fault())
            raise Diverged(f"step {self.global_step + 1}: no target token in the whole window; items {items}")
        scale = self.trainer.world_size / tokens  # DDP has averaged over ranks
        for parameter in self.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(scale)
        return loss / tokens, int(tokens)

    def _at_fault(self) -> list[str]:
        """Items of the micro-batches whose loss is not finite, or of all if there are none such; over all ranks."""
        own_micros = [(ids, bool(loss.isfinite())) for loss, _, ids in self._window]
        micros = [micro for rank in gathered(own_micros, self.trainer.world_size) for micro in rank]
        items = [item for ids, is_finite in micros if not is_finite for item in ids]
        return items or [item for ids, _ in micros for item in ids]

    def state_dict(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Trained weights and buffers; frozen weights, with their scales if quantised, are left to the base."""
        state: dict[str, Any] = super().state_dict(*arguments, **options)
        frozen, parts = set(self._frozen), tuple(f"{name}." for name in self._frozen)
        for name in [name for name in state if name in frozen or name.startswith(parts)]:
            del state[name]
        return state

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raises UserError for the first tensor that the model does not have, or not in that shape."""
        both = (checkpoint["state_dict"], self.state_dict())
        stored_shapes, own_shapes = (
            {name: "x".join(map(str, value.shape)) for name, value in state.items()} for state in both
        )
        for name in [*own_shapes, *stored_shapes]:
            if stored_shapes.get(name) != own_shapes.get(name):
                stored, own = stored_shapes.get(name, "missing"), own_shapes.get(name, "missing")
                reason = f"the checkpoint is of another model: {name} is {stored} there and {own} here"
                raise UserError(f"{reason}; resume with the model that the run started from")

    def on_train_start(self) -> None:
        """Applies the configured optimizer settings, not a checkpoint's: what is typed on resuming takes effect."""
        optimizer: Any = self.optimizers()
        scheduler: Any = self.lr_schedulers()
        for group, configured in zip(optimizer.param_groups, self._groups, strict=True):
            group.update(configured, initial_lr=configured["lr"])
        scheduler.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        for group, factor in zip(optimizer.param_groups, scheduler.lr_lambdas, strict=True):
            group["lr"] = group["initial_lr"] * factor(scheduler.last_epoch)

    @property
    def learning_rate(self) -> float:
        optimizer: Any = self.optimizers()
        return float(optimizer.param_groups[0]["lr"])

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """`val/loss`: nll in nats per target token, over all validation rows."""
        micro = self._micro(batch)
        self._validation[0] += float(NextToken(chunk=CHUNK)(micro))
        self._validation[1] += int(micro.target_tokens)

    def on_validation_epoch_end(self) -> None:
        device = "cpu" if self.device.type == "mps" else self.device  # Apple's GPUs have no float64
        counts = torch.tensor(self._validation, dtype=torch.float64, device=device)
        sums = self.trainer.strategy.reduce(counts, reduce_op="sum")
        self._validation = [0.0, 0.0]
        self.log("val/loss", (sums[0] / sums[1]).float(), sync_dist=False, logger=False)  # Measuring writes it

    def configure_optimizers(self) -> Any:
        optimizer = self._optimizer([p for p in self.parameters() if p.requires_grad])
        if getattr(self.trainer.precision_plugin, "scaler", None) is None:
            # Lightning does not clip for a fused optimizer, which could unscale by itself: here nothing is scaled.
            optimizer._step_supports_amp_scaling = False  # pyright: ignore[reportAttributeAccessIssue]
        peak = float(optimizer.param_groups[0]["lr"])
        self._groups = [{key: group[key] for key in group if key != "params"} for group in optimizer.param_groups]

        def factor(step: int) -> float:
            return self._schedule(self.steps.progress(step, self._time_share()), peak) / peak

        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}}

    def _time_share(self) -> float:
        """The share of the Trainer's max_time that is gone, the same on every rank; 0 where there is no limit."""
        share = 0.0
        for timer in (callback for callback in self.trainer.callbacks if isinstance(callback, Timer)):  # pyright: ignore
            elapsed, remaining = timer.time_elapsed(), timer.time_remaining()
            if remaining is not None:
                share = max(share, min(1.0, elapsed / max(elapsed + remaining, 1e-9)))
                share = self.trainer.strategy.broadcast(share)
        return share
