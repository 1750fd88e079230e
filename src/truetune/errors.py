"""The exit-code contract: 0 ok, 1 run-time failure, 2 bad usage or data, 3 diverged, 4 a limit of the gate is broken,
5 a limit is undecided, 130 SIGINT, 143 SIGTERM.
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

# Signals that end a command with exit code 143. A cluster warns by the last two; submitit sends SIGUSR2.
TERMINATED = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name))
Say = Callable[[str], object]  # shows the user one line


class UserError(Exception):
    """Something the user can put right: shown as one line `error: <text>` without a traceback, exit code 2."""

    exit_code = 2


def first_line(error: BaseException) -> str:
    """The first line of a library's error that is not blank, or the name of its class if there is none."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


class Unwritable(Exception):
    """The disk is full or refuses: shown as one line too, exit code 1; files that were whole before still are."""

    exit_code = 1


class Diverged(Exception):
    """A loss or a gradient is not finite: raised before the optimizer steps, exit code 3."""

    exit_code = 3


class GateBroken(Exception):
    """Everything was measured and recorded, but a limit of the gate is broken: exit code 4."""

    exit_code = 4


class GateUndecided(Exception):
    """Everything was measured and recorded, but a limit of the gate needs more questions to be decided: exit code 5."""

    exit_code = 5


class RankFailed(Exception):
    """Another process of a distributed run has ended and has said why: exit code 1."""

    exit_code = 1


EXPECTED = (UserError, Unwritable, Diverged, GateBroken, GateUndecided, RankFailed)


# Words on the command line that tell which process this is; the user does not type them.
RANK_OF_A_RUN = "hydra.output_subdir=null"  # added by Lightning, which starts the other ranks with rank 0's words
SWEEP_JOB = "hydra.mode=RUN"  # added by a sweep


def started_by_rank_0(words: Sequence[str]) -> bool:
    return RANK_OF_A_RUN in words


def is_job_of_sweep(words: Sequence[str]) -> bool:
    return SWEEP_JOB in words


def rank() -> int:
    """The number of this process; 0 is the one that speaks, keeps the run folder and measures at the end."""
    return int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or os.environ.get("LOCAL_RANK") or 0)


def tell(text: str) -> None:
    """Prints a line at once, and from one process only; for use before a run begins, when there is no console yet."""
    if rank() == 0:
        print(text, file=sys.stderr, flush=True)


def speaker(console: Console) -> Say:
    """The function that shows the user one line on the console and writes it to truetune.log as well.

    A line is neither wrapped nor read as markup: a path must stay whole to be copied, and may hold brackets.
    """

    def say(text: str) -> None:
        if rank() == 0:
            console.print(text, highlight=False, soft_wrap=True, markup=False)
            logging.getLogger("truetune").info("%s", text)

    return say


_in_step = 1


def work_in_step(ranks: int) -> None:
    """Notes that from here on, long before a fit, `ranks` processes take the same steps: together they hold the model
    that each of them asks.
    """
    global _in_step
    _in_step = ranks


def in_step() -> int:
    """The number of processes that take the same steps, this one included."""
    return _in_step


def gathered(value: Any, ranks: int) -> list[Any]:
    """The values that the `ranks` processes bring, in the order of their ranks; each process gets all of them."""
    values = [value] * ranks
    if ranks > 1:
        import torch

        torch.distributed.all_gather_object(values, value)
    return values
