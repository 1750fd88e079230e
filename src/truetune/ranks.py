"""Which of several processes of one run this is; launchers say so in the environment before anything is imported."""

import os
from typing import Any


def rank() -> int:
    """0 is the process that speaks, keeps the run folder and measures at the end."""
    return int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or os.environ.get("LOCAL_RANK") or 0)


def gathered(mine: Any, ranks: int) -> list[Any]:
    """What each of `ranks` processes brought, in their order, on every one of them."""
    found = [mine] * ranks
    if ranks > 1:
        import torch

        torch.distributed.all_gather_object(found, mine)
    return found
