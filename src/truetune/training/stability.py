"""What a fit does about a step that is not finite, and about a loss that jumps."""

from __future__ import annotations

import copy
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from lightning import LightningModule, Trainer

from truetune.errors import Diverged
from truetune.training.module import FineTuning, few, stop
from truetune.training.step_log import EachStep

Policy = Literal["stop", "skip_step", "rewind"]
MOST_REWINDS = 3
MOST_SKIPPED_IN_A_ROW = 20  # bad rows come one by one; bad weights spoil every step
WINDOW, SIGMAS = 128, 6.0  # as OLMo-core's SkipStep optimizers


class Stability(EachStep):
    """Goes before the callbacks that log and keep a step. All ranks decide alike: the module's verdict is reduced.

    `rewind` goes back to the weights and the optimizer's state as they were after the last epoch, or at the start; data
    and schedule go on.
    """

    def __init__(self, policy: Policy, say: Callable[[str], None]) -> None:
        self.policy, self.say = policy, say
        self.counts = {"nonfinite_steps": 0, "rewinds": 0, "loss_spikes": 0}
        self._items: Counter[str] = Counter()
        self._losses: deque[float] = deque(maxlen=WINDOW)
        self._in_a_row = 0
        self._in_spike = self._rejected = False
        self._kept: tuple[list[torch.Tensor], Any] = ([], {})

    def report(self) -> dict[str, Any]:
        """For run.json: the counts, and the items that were in the most steps that were not finite."""
        return {**self.counts, "items": self._common()}

    def state_dict(self) -> dict[str, Any]:
        names = ("_step", "_in_a_row", "_in_spike")
        plain = {name: getattr(self, name) for name in names}
        return {**plain, "counts": dict(self.counts), "_items": dict(self._items), "_losses": list(self._losses)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.counts.update(state_dict.pop("counts"))
        self._items.update(state_dict.pop("_items"))
        self._losses.extend(state_dict.pop("_losses"))
        vars(self).update(state_dict)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if isinstance(pl_module, FineTuning):
            pl_module.on_nonfinite = self._not_finite
        self._keep(trainer, pl_module)

    def _not_finite(self, text: str, ids: list[str]) -> None:
        """Before the optimizer steps: stops, or lets the module pass over the step."""
        self.counts["nonfinite_steps"] += 1
        self._items.update(dict.fromkeys(ids, 1))
        self._in_a_row += 1
        self._rejected = True
        if self._common():
            text += f" (most often: {few(self._common())})"
        if self.policy == "stop":
            stop(text, ids)
        if self.policy == "rewind":
            self._count_rewind(text)
        elif self._in_a_row > MOST_SKIPPED_IN_A_ROW:
            stop(f"{text}; {MOST_SKIPPED_IN_A_ROW} steps before it were skipped already", ids)
        self.say(f"{text}; {'back to the last good weights' if self.policy == 'rewind' else 'step skipped'}")

    def _count_rewind(self, text: str) -> None:
        if self.counts["rewinds"] == MOST_REWINDS:
            stop(f"{text}; going back {MOST_REWINDS} times did not help", [])
        self.counts["rewinds"] += 1

    def _common(self) -> list[str]:
        most = max(self._items.values(), default=0)
        return [item for item, count in self._items.items() if count == most] if most > 1 else []

    def after_step(self, trainer: Trainer, module: FineTuning) -> None:
        if module.stepped:
            self._in_a_row = 0
            self._compare(module.window_loss, self._step)
        elif self.policy == "rewind" and self._rejected:  # a step that a loss scaler left out took nothing wrong
            self._rewind(trainer, module)
        self._rejected = False
        if trainer.is_last_batch:  # before the validation, and before a checkpoint is written
            self._check_weights(trainer, module)

    def _check_weights(self, trainer: Trainer, module: FineTuning) -> None:
        finite = all(bool(p.isfinite().all()) for p in module.parameters() if p.requires_grad)
        if trainer.strategy.reduce_boolean_decision(finite, all=True):
            return
        text = f"the weights are not finite after step {trainer.global_step} (learning rate {module.learning_rate:.3g})"
        if self.policy != "rewind":
            raise Diverged(f"{text}; try a lower optimizer.lr or clip=norm")
        self._count_rewind(text)
        self.say(f"{text}; back to the last good weights")
        self._rewind(trainer, module)

    def _compare(self, loss: float, step: int) -> None:
        """The alarm needs half a window, and sounds once per run of high losses."""
        if len(self._losses) >= WINDOW // 2:
            mean, deviation = float(np.mean(self._losses)), float(np.std(self._losses))
            high = loss > mean + SIGMAS * deviation
            self.counts["loss_spikes"] += high
            if high and not self._in_spike:
                before = f"the last {len(self._losses)}: {mean:.4g} ± {deviation:.2g}"
                self.say(f"loss spike at step {step}: {loss:.4g}; {before}")
            self._in_spike = high
        self._losses.append(loss)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._keep(trainer, pl_module)

    def _keep(self, trainer: Trainer, module: LightningModule) -> None:
        if self.policy == "rewind":
            weights = [p.detach().clone() for p in module.parameters() if p.requires_grad]
            self._kept = weights, copy.deepcopy(trainer.optimizers[0].state_dict()["state"])

    @torch.no_grad()
    def _rewind(self, trainer: Trainer, module: LightningModule) -> None:
        weights, moments = self._kept
        trained = [p for p in module.parameters() if p.requires_grad]
        for parameter, kept in zip(trained, weights, strict=True):
            parameter.copy_(kept)
        optimizer = trainer.optimizers[0]  # its groups hold the schedule's next learning rate
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": copy.deepcopy(moments), "param_groups": groups})
