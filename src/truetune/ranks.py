"""Which of several processes of one run this is; launchers say so in the environment before anything is imported."""

import os


def rank() -> int:
    """0 is the process that speaks, keeps the run folder and measures at the end."""
    return int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or os.environ.get("LOCAL_RANK") or 0)
