"""How many steps there are, and the learning rate of each. No torch: the check of the command line uses it, too."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass

from truetune.data.values import Count, CountOrZero, NotNegative, Share

ENDLESS = sys.maxsize  # the steps of a fit that time alone ends


@dataclass(frozen=True)
class Steps:
    """How many optimizer steps a fit takes, by the Trainer's own limits: -1 is none."""

    per_epoch: int
    epochs: int
    max_steps: int = -1

    @property
    def total(self) -> int:
        limits = (self.per_epoch * self.epochs, self.max_steps)
        return min((limit for limit in limits if limit >= 0), default=ENDLESS)

    @property
    def passes(self) -> int:
        """Number of epochs that are begun: `max_steps` may cut the last one short."""
        return -(-self.total // self.per_epoch)

    def progress(self, step: int, time_share: float = 0.0) -> Progress:
        """Progress after `step` steps; where time runs out first, the share of it that is gone gives the total."""
        total = min(self.total, round(step / time_share)) if step and time_share else self.total
        return Progress(step, step // self.per_epoch, total, max(1, -(-total // self.per_epoch)))


@dataclass(frozen=True)
class Progress:
    """Where training stands: optimizer steps and epochs done, and how many there will be."""

    step: int
    epoch: int
    total_steps: int
    total_epochs: int


# The learning rate for the step that comes next, given the highest one. An object of a class, for a YAML to name.
Schedule = Callable[[Progress, float], float]


def batches_per_epoch(rows: int, batch_size: int, devices: int) -> int:
    """Number of batches per device, counting the last, shorter one."""
    return math.ceil(math.ceil(rows / devices) / batch_size)


def steps_per_epoch(rows: int, batch_size: int, accumulate: int, devices: int, limit: float = 1.0) -> int:
    """Number of optimizer steps; `limit` is Lightning's limit_train_batches: a share if it is a float, else a number.

    The Trainer's own estimate builds the loader early and loses its state (Lightning #20550).
    """
    batches = batches_per_epoch(rows, batch_size, devices)
    used_batches = int(batches * limit) if isinstance(limit, float) else min(batches, limit)
    return math.ceil(max(1, used_batches) / accumulate)


def warmup(step: int, warmup_steps: int) -> float:
    """The factor (step + 1) / warmup_steps until it reaches 1: the first step already learns."""
    return min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0


@dataclass(frozen=True)
class Constant:
    warmup_steps: CountOrZero = 0

    def __call__(self, progress: Progress, lr: float) -> float:
        return lr * warmup(progress.step, self.warmup_steps)


@dataclass(frozen=True)
class LinearPerEpoch:
    """Linear from epoch to epoch, constant within one."""

    lr_end: NotNegative

    def __call__(self, progress: Progress, lr: float) -> float:
        return lr + (self.lr_end - lr) * progress.epoch / progress.total_epochs


@dataclass(frozen=True)
class StepDecay:
    rate: Share
    every: Count

    def __call__(self, progress: Progress, lr: float) -> float:
        return lr * (1 - self.rate) ** (progress.epoch // self.every)


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from the warm-up's end to `lr_end` (Loshchilov & Hutter 2017, eq. 5)."""

    lr_end: NotNegative
    warmup_steps: CountOrZero = 0

    def __call__(self, progress: Progress, lr: float) -> float:
        total = max(1, progress.total_steps - self.warmup_steps)
        step = min(max(0, progress.step - self.warmup_steps), total)
        rate = self.lr_end + (lr - self.lr_end) * (1 + math.cos(math.pi * step / total)) / 2
        return rate * warmup(progress.step, self.warmup_steps)


@dataclass(frozen=True)
class WarmupStableDecay:
    """Warm-up, a constant plateau, then linearly to `lr_end` over the last `decay_steps` (Hu et al. 2024).

    In a run too short for warm-up and decay together, the lower of the two rates holds: there is no jump.
    """

    lr_end: NotNegative
    warmup_steps: CountOrZero
    decay_steps: Count

    def __call__(self, progress: Progress, lr: float) -> float:
        remaining = max(0, progress.total_steps - progress.step)
        rate = self.lr_end + (lr - self.lr_end) * min(1.0, remaining / max(1, self.decay_steps))
        return min(lr * warmup(progress.step, self.warmup_steps), rate)
