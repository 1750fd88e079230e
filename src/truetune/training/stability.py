"""What a fit does about a step that is not finite, and about a loss that jumps."""

from __future__ import annotations

from collections import deque
from typing import Any, Literal

import numpy as np
from lightning import Callback, LightningModule, Trainer

from truetune.errors import Diverged, Say
from truetune.models.sharding import local
from truetune.records.state import StabilityReport
from truetune.training.module import ADVICE, FineTuning, few

MOST_SKIPPED_IN_A_ROW = 20  # bad rows come one by one; bad weights spoil every step
WINDOW, SIGMAS = 128, 6.0  # as OLMo-core's SkipStep optimizers


class Stability(Callback):
    """Must come before the callbacks that log a step. All ranks decide alike: the module's verdict is reduced."""

    def __init__(self, policy: Literal["stop", "skip_step"], say: Say) -> None:
        self.policy, self.say, self.report = policy, say, StabilityReport()
        self._losses: deque[float] = deque(maxlen=WINDOW)
        self._step, self._in_a_row, self._in_spike = 0, 0, False

    def state_dict(self) -> dict[str, Any]:
        fields = {name: getattr(self, name) for name in ("_step", "_in_a_row", "_in_spike")}
        return {**fields, "counts": self.report.counts, "items": dict(self.report.items), "losses": list(self._losses)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        vars(self.report).update(state_dict.pop("counts"))
        self.report.items.update(state_dict.pop("items"))
        self._losses.extend(state_dict.pop("losses"))
        vars(self).update(state_dict)

    def not_finite(self, text: str, ids: list[str]) -> None:
        """The module's `on_nonfinite`, before the optimizer steps: raises, or lets the module skip the step."""
        self.report.nonfinite_steps += 1
        self.report.items.update(dict.fromkeys(ids, 1))
        self._in_a_row += 1
        if worst := self.report.most_common():
            text += f" (most often: {few(worst)})"
        if self.policy == "stop":
            raise Diverged(f"{text}; {ADVICE}")
        if self._in_a_row > MOST_SKIPPED_IN_A_ROW:
            raise Diverged(f"{text}; {MOST_SKIPPED_IN_A_ROW} steps before it were skipped already; {ADVICE}")
        self.say(f"{text}; step skipped")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self._step or not isinstance(pl_module, FineTuning):
            return  # the window has further micro-batches
        self._step = trainer.global_step
        if pl_module.stepped:
            self._in_a_row = 0
            self._compare(pl_module.window_loss, self._step)
        if trainer.is_last_batch:  # before the validation, and before a checkpoint is written
            is_finite = all(bool(local(p).isfinite().all()) for p in pl_module.parameters() if p.requires_grad)
            if not trainer.strategy.reduce_boolean_decision(is_finite, all=True):
                rate = f"learning rate {pl_module.learning_rate:.3g}"
                raise Diverged(f"the weights are not finite after step {self._step} ({rate}); {ADVICE}")

    def _compare(self, loss: float, step: int) -> None:
        """Counts a high loss. The alarm needs half a window, and sounds once per run of high losses."""
        if len(self._losses) >= WINDOW // 2:
            mean, deviation = float(np.mean(self._losses)), float(np.std(self._losses))
            is_high = loss > mean + SIGMAS * deviation
            self.report.loss_spikes += is_high
            if is_high and not self._in_spike:
                window = f"the last {len(self._losses)}: {mean:.4g} ± {deviation:.2g}"
                self.say(f"loss spike at step {step}: {loss:.4g}; {window}")
            self._in_spike = is_high
        self._losses.append(loss)
