"""The studies: what new facts, clipping, schedules and each method do to gain and loss. One base a seed, many arms.

    python tests/benchmarks/studies.py [LOGS] [STUDY ...]     about 90 minutes on two cores for all of them

Every arm is a run with one thread, JOBS (2) at a time; finished ones in LOGS are kept: an interrupted study goes
on. Prints the tables of LOG.md. SEEDS=0,1 takes fewer seeds.
"""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from truetune.balance.estimates import Estimate, mean_t_interval

SEEDS = tuple(int(seed) for seed in os.environ.get("SEEDS", "0,1,2,3,4").split(","))
KNOWN, FITTED = "hallucination/known_exact_match", 0.9
COMMON = ["extras.threads=1", "extras.save_model=false", "callbacks=none", "extras.measure_points=100"]
METHODS = (
    *("filter_unknown", "relabel_unknown", "downweight_unknown", "replay", "kl_to_base", "l2_sp"),
    *("lora", "freeze", "interpolate", "early_stop"),
)
SCHEDULES = ("linear_per_epoch", "cosine", "step_decay")


def clipped(kind: str, limit: str) -> list[str]:
    return ["clip=none"] if kind == "none" else [f"clip={kind}", f"trainer.gradient_clip_val={limit}"]


def clipping_arms() -> dict[str, list[str]]:
    limits = {
        "1e-4": ("none", "norm 0.1", "norm 1", "value 0.01"),
        "3e-4": ("none", "norm 1"),
        "1e-3": ("none", "norm 0.1", "norm 1", "norm 10", "value 0.01", "value 0.1", "value 1"),
        "3e-3": ("none", "norm 0.1", "norm 1"),
    }
    arms: dict[str, list[str]] = {}
    for rate, clips in limits.items():
        epochs = [] if rate == "1e-4" else ["trainer.max_epochs=10"]
        for clip in clips:
            kind, _, limit = clip.partition(" ")
            arms[f"lr {rate}, {clip}"] = [f"optimizer.lr={rate}", *clipped(kind, limit), *epochs]
        for schedule in SCHEDULES if rate in ("1e-4", "1e-3") else ():
            arms[f"lr {rate}, norm 1, {schedule}"] = [f"optimizer.lr={rate}", f"schedule={schedule}", *epochs]
    return arms


STUDIES: dict[str, dict[str, list[str]]] = {
    "new_facts": {f"{share} new": [f"data.new_share={share}"] for share in ("0", "0.25", "0.5", "0.75", "1")},
    "clipping": clipping_arms(),
    "methods": {method: [f"method={method}"] for method in ("plain", *METHODS)},
}


def main(logs: Path, names: list[str]) -> None:
    jobs = {
        place(logs, words, seed): [*words, f"seed={seed}"]
        for seed in SEEDS
        for name in names
        for words in STUDIES[name].values()
    }
    with ThreadPoolExecutor(int(os.environ.get("JOBS", "2"))) as pool:
        list(pool.map(lambda folder: run(logs, folder, jobs[folder]), jobs))
    for name in names:
        print(f"\n### {name}\n")
        runs = {arm: [read(place(logs, words, seed)) for seed in SEEDS] for arm, words in STUDIES[name].items()}
        table(runs)
        if name == "new_facts":
            regression([record for records in runs.values() for record in records])


def place(logs: Path, words: list[str], seed: int) -> Path:
    """Arms that are the same run share a folder: the defaults go without saying."""
    said = [w for w in words if w not in ("data.new_share=0.5", "method=plain", "optimizer.lr=1e-4", "clip=norm")]
    said = [w for w in said if w != "trainer.gradient_clip_val=1"]
    return logs / "studies" / f"{'_'.join(said).replace('=', '-') or 'plain'}_{seed}"


def run(logs: Path, folder: Path, words: list[str]) -> None:
    if finished(folder):
        return
    common = [word for word in COMMON if not (word.startswith("callbacks=") and "method=early_stop" in words)]
    paths = [f"hydra.run.dir={folder}", f"paths.log_dir={logs}"]
    print(" ".join(words), flush=True)
    subprocess.run([sys.executable, "-m", "truetune", *words, *common, *paths], stdout=subprocess.DEVNULL, check=False)


def read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))


def table(runs: dict[str, list[dict[str, Any]]]) -> None:
    """Means over seeds with their 95 % t-intervals; a run that diverged counts in its own column only."""
    print(
        f"| arm | gained at the end | lost at the end | lost when {FITTED} of the facts are fitted | epochs to that |",
        end="",
    )
    print(" lost at the best checkpoint | made up | general ability | diverged |")
    print("|---|---|---|---|---|---|---|---|---|")
    for arm, records in runs.items():
        whole = [record for record in records if record["status"] == "finished"]
        fitted = [at_fit(record) for record in whole]
        reached = [found for found in fitted if found]
        cells = [
            mean([value(record, "task/exact_match") for record in whole]),
            mean([lost(record) for record in whole]),
            mean([found[1] for found in reached]) + ("" if len(reached) == len(whole) else f" ({len(reached)} runs)"),
            mean([found[0] for found in reached], ".1f"),
            mean([at_best(record) for record in whole]),
            mean([value(record, "hallucination/invented_rate") for record in whole]),
            mean([value(record, "retention/accuracy") for record in whole]),
            str(len(records) - len(whole)),
        ]
        print(f"| {arm} | {' | '.join(cells)} |")


def mean(values: list[float], form: str = ".2f") -> str:
    if not values:
        return "never"
    found: Estimate = mean_t_interval(values)
    if found.low is None or found.high is None:
        return f"{found.value:{form}}"
    return f"{found.value:{form}} [{found.low:{form}} {found.high:{form}}]"


def value(record: dict[str, Any], metric: str) -> float:
    return record["final"][metric]["value"]


def lost(record: dict[str, Any]) -> float:
    return record["base"][KNOWN]["value"] - value(record, KNOWN)


def measured(record: dict[str, Any]) -> list[tuple[int, float, float, float]]:
    """After each epoch: the epoch, the share of all facts fitted, the loss on known facts, the selection score."""
    base = record["base"][KNOWN]["value"]
    rows = [(entry["epoch"], entry["metrics"]) for entry in record["history"] if KNOWN in entry["metrics"]]
    return [(epoch, fit(m), base - m[KNOWN], m["val/score"]) for epoch, m in rows if "val/score" in m]


def fit(metrics: dict[str, float]) -> float:
    """Both groups are of the same size wherever there are two."""
    return float(
        np.mean([metrics[name] for name in metrics if name.startswith("fit/") and name.endswith("exact_match")])
    )


def at_fit(record: dict[str, Any]) -> tuple[float, float] | None:
    """(epochs, loss) where the share of the facts that is fitted crosses FITTED, interpolated between two epochs."""
    before = (0.0, 0.0, 0.0)
    for epoch, fitted, loss, _ in measured(record):
        if fitted >= FITTED:
            part = (FITTED - before[1]) / (fitted - before[1])
            return before[0] + part * (epoch - before[0]), before[2] + part * (loss - before[2])
        before = (float(epoch), fitted, loss)
    return None


def at_best(record: dict[str, Any]) -> float:
    """The loss at the epoch that the selection questions choose."""
    return max(measured(record), key=lambda row: row[3])[2]


def regression(records: list[dict[str, Any]], draws: int = 2000) -> None:
    """known facts right = b0 + b1 * known fitted + b2 * new fitted, shares of the training set (Gekhman et al. 2024).

    Least squares over every epoch of every run, with an own b0 for each seed; intervals by a bootstrap over runs.
    """
    points = [points_of(record) for record in records]
    found = least_squares(points)
    generator = np.random.default_rng(0)
    drawn = [least_squares([points[i] for i in generator.integers(0, len(points), len(points))]) for _ in range(draws)]
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    for name, b, lower, upper in zip(("known", "new"), found, low, high, strict=True):
        print(f"\nright answers lost per share of {name} facts fitted: {-b:+.2f} [{-upper:+.2f} {-lower:+.2f}]", end="")
    print(f" (n = {sum(len(p) for p in points)} measurements of {len(points)} runs)")


def points_of(record: dict[str, Any]) -> np.ndarray:
    """Rows of (known facts right, known facts fitted, new facts fitted, seed)."""
    share = record["config"]["data"]["new_share"]
    rows = []
    for entry in record["history"]:
        m = entry["metrics"]
        if KNOWN in m and "val/score" in m:
            known = m.get("fit/known_exact_match", 0.0) * (1 - share)
            rows.append((m[KNOWN], known, m.get("fit/new_exact_match", 0.0) * share, record["config"]["seed"]))
    return np.array(rows)


def least_squares(points: list[np.ndarray]) -> np.ndarray:
    """The two slopes."""
    rows = np.concatenate(points)
    levels = (rows[:, 3:] == np.unique(rows[:, 3])).astype(float)
    solution, *_ = np.linalg.lstsq(np.hstack([rows[:, 1:3], levels]), rows[:, 0], rcond=None)
    return solution[:2]


def finished(folder: Path) -> bool:
    record = folder / "run.json"
    return record.exists() and json.loads(record.read_text(encoding="utf-8"))["status"] in ("finished", "diverged")


if __name__ == "__main__":
    typed = sys.argv[1:] or ["logs"]
    main(Path(typed[0]), typed[1:] or list(STUDIES))
