"""How many steps there are, and the learning rate of each: pure functions of numbers, bound to a configuration.

No torch: the command line is checked by it, too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from truetune.data.values import Count, CountOrZero, NotNegative, Share


@dataclass(frozen=True)
class Steps:
    """How many optimizer steps a fit takes."""

    per_epoch: int
    epochs: int

    @property
    def total(self) -> int:
        return self.per_epoch * self.epochs


@dataclass(frozen=True)
class Progress:
    """Where training stands: optimizer steps done, and how many there will be."""

    step: int
    steps_per_epoch: int
    total_epochs: int

    @property
    def epoch(self) -> int:
        return self.step // self.steps_per_epoch

    @property
    def total_steps(self) -> int:
        return self.steps_per_epoch * self.total_epochs


def batches_per_epoch(rows: int, batch_size: int, devices: int) -> int:
    """Number of batches per device, counting the last, shorter one."""
    return math.ceil(math.ceil(rows / devices) / batch_size)


def steps_per_epoch(rows: int, batch_size: int, accumulate: int, devices: int, limit: float = 1.0) -> int:
    """Number of optimizer steps; `limit` is Lightning's limit_train_batches: a share if it is a float, else a number.

    The Trainer's own estimate builds the loader early and loses its state (Lightning #20550).
    """
    batches = batches_per_epoch(rows, batch_size, devices)
    limited = int(batches * limit) if isinstance(limit, float) else min(batches, limit)
    return math.ceil(max(1, limited) / accumulate)


def linear_per_epoch(epoch: int, total_epochs: int, lr0: float, lr1: float) -> float:
    """lr0 + (lr1 - lr0) * epoch / total_epochs, constant within an epoch."""
    return lr0 + (lr1 - lr0) * epoch / total_epochs


def step_decay(epoch: int, lr0: float, rate: float, every: int) -> float:
    """lr0 * (1 - rate) ** (epoch // every)."""
    return lr0 * (1 - rate) ** (epoch // every)


def cosine(step: int, total_steps: int, lr0: float, lr1: float) -> float:
    """Half a cosine from lr0 at the first step to lr1 at the end (Loshchilov & Hutter 2017, eq. 5)."""
    return lr1 + (lr0 - lr1) * (1 + math.cos(math.pi * min(step, total_steps) / total_steps)) / 2


def warmup(step: int, warmup_steps: int) -> float:
    """The factor (step + 1) / warmup_steps until it reaches 1: the first step already learns."""
    return min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0


def warmup_stable_decay(
    step: int, total_steps: int, lr0: float, lr1: float, warmup_steps: int, decay_steps: int
) -> float:
    """Warm-up, a constant plateau, then linearly to lr1 over the last `decay_steps` (Hu et al. 2024).

    Where the two overlap, because both do not fit into `total_steps`, the lower one holds: there is no jump.
    """
    left = max(0, total_steps - step)
    decayed = lr1 + (lr0 - lr1) * min(1.0, left / max(1, decay_steps))
    return min(lr0 * warmup(step, warmup_steps), decayed)


class Schedule(Protocol):
    """`__call__` returns the learning rate for the step that comes next."""

    def __call__(self, progress: Progress, lr: float) -> float: ...


@dataclass(frozen=True)
class Constant:
    warmup_steps: CountOrZero = 0

    def __call__(self, progress: Progress, lr: float) -> float:
        return lr * warmup(progress.step, self.warmup_steps)


@dataclass(frozen=True)
class LinearPerEpoch:
    lr_end: NotNegative

    def __call__(self, progress: Progress, lr: float) -> float:
        return linear_per_epoch(progress.epoch, progress.total_epochs, lr, self.lr_end)


@dataclass(frozen=True)
class StepDecay:
    rate: Share
    every: Count

    def __call__(self, progress: Progress, lr: float) -> float:
        return step_decay(progress.epoch, lr, self.rate, self.every)


@dataclass(frozen=True)
class Cosine:
    lr_end: NotNegative
    warmup_steps: CountOrZero = 0

    def __call__(self, progress: Progress, lr: float) -> float:
        decayed = cosine(
            max(0, progress.step - self.warmup_steps), max(1, progress.total_steps - self.warmup_steps), lr, self.lr_end
        )
        return decayed * warmup(progress.step, self.warmup_steps)


@dataclass(frozen=True)
class WarmupStableDecay:
    lr_end: NotNegative
    warmup_steps: CountOrZero
    decay_steps: Count

    def __call__(self, progress: Progress, lr: float) -> float:
        return warmup_stable_decay(
            progress.step, progress.total_steps, lr, self.lr_end, self.warmup_steps, self.decay_steps
        )
