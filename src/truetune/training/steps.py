"""How many optimizer steps an epoch has. No torch: the command line is checked by it, too."""

from __future__ import annotations

import math


def batches_per_epoch(rows: int, batch_size: int, devices: int) -> int:
    """Of each device; the last, shorter one counts."""
    return math.ceil(math.ceil(rows / devices) / batch_size)


def steps_per_epoch(rows: int, batch_size: int, accumulate: int, devices: int, limit: float = 1.0) -> int:
    """Optimizer steps; the trainer's own estimate builds the loader early and loses its state (Lightning #20550).

    `limit` is Lightning's limit_train_batches: a share of the batches if it is a float, else their number.
    """
    batches = batches_per_epoch(rows, batch_size, devices)
    limited = int(batches * limit) if isinstance(limit, float) else min(batches, limit)
    return math.ceil(max(1, limited) / accumulate)
