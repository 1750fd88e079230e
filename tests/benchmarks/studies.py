"""The studies: what new facts, clipping, schedules, methods and architectures do to gain and loss. One base a seed.

    python tests/benchmarks/studies.py [LOGS] [STUDY ...]     about two hours on two cores for all of them

Every arm is a run with one thread, JOBS (2) at a time; finished ones in LOGS are kept: an interrupted study goes
on. Prints the tables of LOG.md. SEEDS=0,1 takes fewer seeds.
Studies: closed_world, new_facts, clipping, methods, architectures, analyst; and, only if it is named, grid: the 112
arms of which clipping has 22 (SEEDS=0: about half an hour). Of a real model, only if they are named, with three seeds
and one to two hours each: real_form, real_new_facts, real_clipping, real_methods, real_analyst, real_gentle.
"""

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import real_studies as real
import study_tables
from closed_world import closed_world
from omegaconf import OmegaConf

from truetune.commands.launch import CONF

COMMON = ["run.threads=1", "run.save_model=false"]
_, *METHODS = OmegaConf.load(CONF / "experiment" / "methods.yaml").hydra.sweeper.params.method.split(",")  # plain first
SCHEDULES = ("linear_per_epoch", "cosine", "step_decay")


CLIPS = ("none", "norm 0.1", "norm 1", "norm 10", "value 0.01", "value 0.1", "value 1")
FIVE_SEEDS = {  # of the grid's arms with a constant rate
    "1e-4": ("none", "norm 0.1", "norm 1", "value 0.01"),
    "3e-4": ("none", "norm 1"),
    "1e-3": CLIPS,
    "3e-3": ("none", "norm 0.1", "norm 1"),
}


def grid_arms(*, whole: bool = True) -> dict[str, list[str]]:
    """Each rate with each schedule and clip; or those that five seeds are spent on."""
    arms: dict[str, list[str]] = {}
    for rate, schedule, clip in product(FIVE_SEEDS, ("constant", *SCHEDULES), CLIPS):
        falling = schedule != "constant"
        if whole or (clip == "norm 1" and rate in ("1e-4", "1e-3") if falling else clip in FIVE_SEEDS[rate]):
            kind, _, limit = clip.partition(" ")
            clipped = ["clip=none"] if kind == "none" else [f"clip={kind}", f"trainer.gradient_clip_val={limit}"]
            epochs = [] if rate == "1e-4" else ["trainer.max_epochs=10"]
            falls = [f"schedule={schedule}"] if falling else []
            arms[f"lr {rate}, {schedule}, {clip}"] = [f"optimizer.lr={rate}", *clipped, *falls, *epochs]
    return arms


STUDIES: dict[str, dict[str, list[str]]] = {
    "closed_world": {
        "half of the facts new": ["data.new_share=0.5"],
        "no new facts": ["data.new_share=0"],
        "half new, names apart": ["data.new_share=0.5", "data.new_names=disjoint", "trainer.max_epochs=40"],
    },
    "new_facts": {f"{share} new": [f"data.new_share={share}"] for share in ("0", "0.25", "0.5", "0.75", "1")},
    "clipping": grid_arms(whole=False),
    "methods": {"plain": [], **{method: [f"method={method}"] for method in METHODS}},
    "architectures": {"Transformer": [], "LSTM": ["model=lstm"], "GRU": ["model=gru"]},
    "analyst": {"plain": [], **{m: [f"method={m}"] for m in ("relabel_unknown", "r_tuning", "self_replay")}},
    "grid": grid_arms(),
    **real.studies(),
}
TABLES = {
    "closed_world": closed_world,
    "new_facts": study_tables.new_facts,
    "clipping": study_tables.at_equal_fit,
    "methods": study_tables.against_plain,
    "architectures": study_tables.architectures,
    "analyst": study_tables.worth_of_silence,
    "grid": study_tables.grid,
    **real.TABLES,
}


def main(logs: Path, names: list[str]) -> None:
    jobs = {
        place(logs, words, seed): [*words, f"seed={seed}"]
        for seed in sorted({seed for name in names for seed in seeds(name)})
        for name in names
        for words in STUDIES[name].values()
        if seed in seeds(name)
    }
    with ThreadPoolExecutor(int(os.environ.get("JOBS", "2"))) as pool:
        list(pool.map(lambda folder: run(logs, folder, jobs[folder]), jobs))
    for name in names:
        print(f"\n### {name}, seeds {', '.join(map(str, seeds(name)))}\n")
        TABLES[name]({arm: [place(logs, words, seed) for seed in seeds(name)] for arm, words in STUDIES[name].items()})


def seeds(name: str) -> list[int]:
    standard = "0,1,2" if name.startswith("real_") else "0,1,2,3,4"
    return [int(seed) for seed in os.environ.get("SEEDS", standard).split(",")]


def place(logs: Path, words: list[str], seed: int) -> Path:
    """Arms that are the same run share a folder: the defaults go without saying."""
    said = [w for w in words if w not in ("data.new_share=0.5", "method=plain", "optimizer.lr=1e-4", "clip=norm")]
    said = [w for w in said if w != "trainer.gradient_clip_val=1"]
    return logs / "studies" / f"{'_'.join(said).replace('=', '-') or 'plain'}_{seed}"


def run(logs: Path, folder: Path, words: list[str]) -> None:
    if finished(folder):
        return
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was interrupted
    is_real = any(word.startswith("experiment=real_") for word in words)
    common = COMMON if is_real else [*COMMON, *callbacks(words), *points(words)]
    paths = [f"hydra.run.dir={folder}", f"paths.log_dir={logs}"]
    print(" ".join(words), flush=True)
    subprocess.run([sys.executable, "-m", "truetune", *words, *common, *paths], stdout=subprocess.DEVNULL, check=False)


def callbacks(words: list[str]) -> list[str]:
    """None at all, except where the method is one itself."""
    return [] if "method=early_stop" in words else ["callbacks=none"]


def points(words: list[str]) -> list[str]:
    """Measured after every epoch, but where a table needs no more than the end."""
    return [] if any(word.startswith(("method=", "data.new_names=")) for word in words) else ["measure.points=100"]


def finished(folder: Path) -> bool:
    record = folder / "run.json"
    return record.exists() and json.loads(record.read_text(encoding="utf-8"))["status"] in ("finished", "diverged")


if __name__ == "__main__":
    typed = sys.argv[1:] or ["logs"]
    main(Path(typed[0]), typed[1:] or [name for name in STUDIES if name != "grid" and not name.startswith("real_")])
