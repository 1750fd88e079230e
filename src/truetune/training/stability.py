"""What a fit does about a step that is not finite, and about a loss that jumps."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from lightning import Trainer

from truetune.errors import Diverged
from truetune.records.state import StabilityReport
from truetune.training.module import FineTuning, few, stop
from truetune.training.step_log import EachStep

Policy = Literal["stop", "skip_step"]
MOST_SKIPPED_IN_A_ROW = 20  # bad rows come one by one; bad weights spoil every step
WINDOW, SIGMAS = 128, 6.0  # as OLMo-core's SkipStep optimizers


class Stability(EachStep):
    """Comes before the callbacks that log a step. All ranks decide alike: the module's verdict is reduced."""

    def __init__(self, policy: Policy, say: Callable[[str], None]) -> None:
        self.policy, self.say, self.report = policy, say, StabilityReport()
        self._losses: deque[float] = deque(maxlen=WINDOW)
        self._in_a_row, self._in_spike = 0, False

    def state_dict(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in ("_step", "_in_a_row", "_in_spike")}
        items, losses = dict(self.report.items), list(self._losses)
        return {**plain, "counts": self.report.counts, "_items": items, "_losses": losses}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        counts, items = state_dict.pop("counts"), state_dict.pop("_items")
        self.report.nonfinite_steps, self.report.loss_spikes = counts["nonfinite_steps"], counts["loss_spikes"]
        self.report.items.update(items)
        self._losses.extend(state_dict.pop("_losses"))
        vars(self).update(state_dict)

    def not_finite(self, text: str, ids: list[str]) -> None:
        """The module's `on_nonfinite`, before the optimizer steps: stops, or lets the module pass over the step."""
        self.report.nonfinite_steps += 1
        self.report.items.update(dict.fromkeys(ids, 1))
        self._in_a_row += 1
        if worst := self.report.most_common():
            text += f" (most often: {few(worst)})"
        if self.policy == "stop":
            stop(text, ids)
        if self._in_a_row > MOST_SKIPPED_IN_A_ROW:
            stop(f"{text}; {MOST_SKIPPED_IN_A_ROW} steps before it were skipped already", ids)
        self.say(f"{text}; step skipped")

    def after_step(self, trainer: Trainer, module: FineTuning) -> None:
        if module.stepped:
            self._in_a_row = 0
            self._compare(module.window_loss, self._step)
        if trainer.is_last_batch:  # before the validation, and before a checkpoint is written
            finite = all(bool(p.isfinite().all()) for p in module.parameters() if p.requires_grad)
            if not trainer.strategy.reduce_boolean_decision(finite, all=True):
                raise Diverged(
                    f"the weights are not finite after step {trainer.global_step} "
                    f"(learning rate {module.learning_rate:.3g}); try a lower optimizer.lr or clip=norm"
                )

    def _compare(self, loss: float, step: int) -> None:
        """The alarm needs half a window, and sounds once per run of high losses."""
        if len(self._losses) >= WINDOW // 2:
            mean, deviation = float(np.mean(self._losses)), float(np.std(self._losses))
            high = loss > mean + SIGMAS * deviation
            self.report.loss_spikes += high
            if high and not self._in_spike:
                before = f"the last {len(self._losses)}: {mean:.4g} ± {deviation:.2g}"
                self.say(f"loss spike at step {step}: {loss:.4g}; {before}")
            self._in_spike = high
        self._losses.append(loss)
