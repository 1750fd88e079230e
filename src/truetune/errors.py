"""The exit-code contract: 0 ok, 1 run-time failure, 2 bad usage or data, 3 diverged, 4 a limit of the gate is broken,
5 one is undecided, 130 SIGINT, 143 SIGTERM.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

TERMINATED = tuple(  # exit code 143; the last two are a cluster's warnings, and submitit sends the very last
    getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)
)
Say = Callable[[str], object]  # shows the user one line


class UserError(Exception):
    """Something the user can put right: shown as one line `error: <text>` without a traceback, exit code 2."""

    exit_code = 2


def first_line(error: BaseException) -> str:
    """What a library's error says, without the rest of its story."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


class Unwritable(Exception):
    """The disk is full or refuses: one line as well, exit code 1; what was whole before still is."""

    exit_code = 1


class Diverged(Exception):
    """A loss or a gradient is not finite: raised before the optimizer steps, exit code 3."""

    exit_code = 3


class GateBroken(Exception):
    """All was measured and recorded, and a limit of the gate is broken, exit code 4."""

    exit_code = 4


class GateUndecided(Exception):
    """All was measured and recorded, but too few questions decide on a limit of the gate, exit code 5."""

    exit_code = 5


class RankFailed(Exception):
    """Another process of a distributed run has ended and said why, exit code 1."""

    exit_code = 1


EXPECTED = (UserError, Unwritable, Diverged, GateBroken, GateUndecided, RankFailed)


# Which process this is, by words on its command line that others than its user add.
RANK_OF_A_RUN = "hydra.output_subdir=null"  # by Lightning, which starts the other ranks with rank 0's words
SWEEP_JOB = "hydra.mode=RUN"  # by a sweep


def started_by_rank_0(words: Sequence[str]) -> bool:
    return RANK_OF_A_RUN in words


def is_job_of_sweep(words: Sequence[str]) -> bool:
    return SWEEP_JOB in words


def rank() -> int:
    """0 is the process that speaks, keeps the run folder and measures at the end."""
    return int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or os.environ.get("LOCAL_RANK") or 0)


def tell(text: str) -> None:
    """At once and from one process, before a run begins: there is no console yet."""
    if rank() == 0:
        print(text, file=sys.stderr, flush=True)


def speaker(console: Console) -> Say:
    """Plain words, one line each: a path must stay whole to be copied, and its brackets are no markup.

    They go to truetune.log as well.
    """

    def say(text: str) -> None:
        if rank() == 0:
            console.print(text, highlight=False, soft_wrap=True, markup=False)
            logging.getLogger("truetune").info("%s", text)

    return say


_in_step = 1


def work_in_step(ranks: int) -> None:
    """From here on `ranks` processes do the same, long before a fit: each asks a model that no one of them has."""
    global _in_step
    _in_step = ranks


def in_step() -> int:
    """How many processes do the same as this one."""
    return _in_step


def gathered(mine: Any, ranks: int) -> list[Any]:
    """What each of `ranks` processes brought, in their order, on every one of them."""
    values = [mine] * ranks
    if ranks > 1:
        import torch

        torch.distributed.all_gather_object(values, mine)
    return values
