"""What each method and each probe costs: seconds and memory against plain, side by side in one run.

python tests/benchmarks/costs.py [LOGS]      about fifteen minutes on an otherwise idle machine
"""

import json
import os
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path

from studies import METHODS, callbacks

PROBES = ("[task,retention,hallucination,calibration]", "full")
EPOCHS = 4


def main(logs: Path) -> None:
    words = ["run.threads=1", "run.save_model=false", f"trainer.max_epochs={EPOCHS}"]
    run(logs, "plain", [*words, *callbacks(words)])  # makes the base
    plain = run(logs, "plain", [*words, *callbacks(words)])
    print(f"plain: an epoch {plain['epoch']:.1f} s, peak memory {plain['memory']:.0f} MiB")
    print(
        "\n| method | an epoch, of plain's | before it, s | after it, s | memory over plain's, MiB |\n"
        "|---|---|---|---|---|"
    )
    for method in METHODS:
        arm = [*words, f"method={method}"]
        found = run(logs, method, [*arm, *callbacks(arm)])
        cells = [f"{found['epoch'] / plain['epoch']:.2f}", f"{found['before']:.1f}", f"{found['after']:.1f}"]
        print(f"| {method} | {' | '.join(cells)} | {found['memory'] - plain['memory']:+.0f} |", flush=True)
    for probe, cache in product(PROBES, ("an empty", "a full")):
        if cache == "an empty":
            shutil.rmtree(logs / "costs" / "new", ignore_errors=True)
        found = run(logs / "costs" / "new", "probe", [f"probe={probe}"])
        share = f"{found['measuring']:.1f} s of {found['total']:.0f}, {found['measuring'] / found['total']:.0%}"
        print(f"\nprobe={probe} with {cache} cache: measuring takes {share} (goal: 15 %)", flush=True)


def run(logs: Path, name: str, words: list[str]) -> dict[str, float]:
    folder = logs / "costs" / name
    command = [sys.executable, "-m", "truetune", *words, f"hydra.run.dir={folder}", f"paths.log_dir={logs}"]
    shutil.rmtree(folder, ignore_errors=True)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, code, usage = os.wait4(process.pid, 0)
    if code != 0:
        raise SystemExit(f"{' '.join(command)} failed")
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    seconds = record["seconds"]
    whole = seconds["fine_tune"] - seconds["measure_while_training"]
    return {
        "epoch": whole / EPOCHS,
        "before": seconds["curate"] + seconds["prepare"],
        "after": seconds["total"]
        - sum(value for part, value in seconds.items() if part not in ("total", "measure_while_training")),
        "memory": usage.ru_maxrss / 1024,
        "measuring": seconds["measure"] + seconds["measure_while_training"],
        "total": seconds["total"],
    }


if __name__ == "__main__":
    main(Path(*sys.argv[1:] or ["logs"]))
