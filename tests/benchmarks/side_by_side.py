"""Two runs at once against one alone, and one alone against one whose threads spin, as they did before.

python tests/benchmarks/side_by_side.py [--rounds 3] [--epochs 4]     on an otherwise idle machine

Goals: two side by side take at most 2.5 times as long as one alone; one alone at most 1.03 times as long as before.
GOMP_SPINCOUNT is libgomp's own: 300000 is what it takes where no policy is set.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

GOALS = {"two": 2.5, "alone": 1.03}
FREE = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4)
    given = parser.parse_args()
    seconds: dict[str, list[float]] = {"before": [], "alone": [], "two": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        together(folder, given.epochs, 1)  # makes the base
        for _ in range(given.rounds):
            seconds["before"].append(together(folder, given.epochs, 1, {"GOMP_SPINCOUNT": "300000"}))
            seconds["alone"].append(together(folder, given.epochs, 1))
            seconds["two"].append(together(folder, given.epochs, 2))
    for name, against in (("two", "alone"), ("alone", "before")):
        ratios = [ours / theirs for ours, theirs in zip(seconds[name], seconds[against], strict=True)]
        middle = median(ratios)
        verdict = "met" if middle <= GOALS[name] else "NOT met"
        print(
            f"{name}: {median(seconds[name]):.1f} s, {against}: {median(seconds[against]):.1f} s; {middle:.2f} times "
            f"({min(ratios):.2f} to {max(ratios):.2f} in {given.rounds} rounds), goal {GOALS[name]}: {verdict}"
        )


def together(folder: Path, epochs: int, runs: int, environment: dict[str, str] | None = None) -> float:
    """Wall seconds until all of them have ended."""
    inherited = {name: value for name, value in os.environ.items() if name not in FREE}
    words = [f"paths.log_dir={folder}", f"trainer.max_epochs={epochs}", "trainer.accelerator=cpu", "battery=none"]
    since = time.perf_counter()
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "truetune",
                *words,
                f"hydra.run.dir={folder}/{time.time_ns()}",
                f"optimizer.lr={lr}",
            ],
            env=inherited | (environment or {}),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
        )
        for lr in ("1e-4", "2e-4")[:runs]
    ]
    codes = [process.wait() for process in processes]
    if any(codes):
        raise SystemExit("a run failed")
    return time.perf_counter() - since


if __name__ == "__main__":
    main()
