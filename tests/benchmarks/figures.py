"""Times and sizes, measured side by side in one run on an otherwise idle machine.

python tests/benchmarks/figures.py      about eight minutes on two cores
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[2]
TRUETUNE = [sys.executable, "-m", "truetune"]


def main() -> None:
    for words in (["--help"], ["--cfg", "job"], ["optimizer.lrr=1"]):
        seconds = sorted(timed([*TRUETUNE, *words])[0] for _ in range(3))
        print(f"truetune {' '.join(words)}: {seconds[0]:.2f} s (goal: 1 s), slowest of three {seconds[-1]:.2f} s")
    bare = min(timed([sys.executable, "-c", "import lightning, transformers, torch"])[0] for _ in range(2))
    print(f"import lightning, transformers, torch alone: {bare:.1f} s")
    with tempfile.TemporaryDirectory() as folder:
        job(Path(folder), "cold", 180)
        job(Path(folder), "cached", 60)
        resuming(Path(folder))
        checkpoints(Path(folder))
        parallel(Path(folder))
    lines = [line for path in (ROOT / "src").rglob("*.py") for line in path.read_text().splitlines()]
    code = [line for line in lines if line.strip() and not line.strip().startswith("#")]
    print(f"source: {len(lines)} lines, {len(code)} without blank lines and comments (goal: 2,200)")


def job(folder: Path, name: str, goal: int) -> None:
    words = [f"paths.log_dir={folder}", f"hydra.run.dir={folder}/{name}"]
    seconds, peak = timed([*TRUETUNE, *words])
    spent = json.loads((folder / name / "run.json").read_text())["seconds"]
    measuring = spent["measure"] + spent["measure_while_training"]
    print(f"main job, {name} base: {seconds:.0f} s (goal: {goal} s), peak memory {peak / 2**30:.2f} GiB (goal: 2)")
    print(f"  of it measuring: {measuring:.1f} s, {measuring / seconds:.0%} (goal: 10 %)")


def resuming(folder: Path) -> None:
    """One epoch more of a run, against a new run of one epoch."""
    common, run = [*TRUETUNE, f"paths.log_dir={folder}"], folder / "resumed"
    timed([*common, f"hydra.run.dir={run}", "trainer.max_epochs=1"])
    new = timed([*common, f"hydra.run.dir={folder}/new", "trainer.max_epochs=1"])[0]
    more = timed([*TRUETUNE, f"resume={run}", "trainer.max_epochs=2"])[0]
    print(f"resumed for one epoch more: {more:.1f} s, a new run of one epoch: {new:.1f} s")


def parallel(folder: Path) -> None:
    """Four jobs of a sweep on one cached base, one after the other and two at a time."""
    words = ["-m", "optimizer.lr=1e-4,2e-4,3e-4,4e-4", "trainer.max_epochs=8", f"paths.log_dir={folder}"]
    ways = {
        "one at a time, one thread": ["run.threads=1"],
        "one at a time, all threads": [],
        "two at a time": ["launcher=parallel"],
    }
    seconds = {way: timed([*TRUETUNE, *words, *more])[0] for way, more in ways.items()}
    together = seconds.pop("two at a time")
    for way, alone in seconds.items():
        print(
            f"four jobs two at a time: {together:.0f} s; {way}: {alone:.0f} s, {alone / together:.2f} times (goal: 1.8)"
        )


def checkpoints(folder: Path) -> None:
    """Ours (SHA-256, fsync, rename) against Lightning's own, in turn."""
    import torch
    from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

    from truetune.training.checkpoints import AtomicCheckpointIO

    stored = torch.load(folder / "cached" / "checkpoints" / "last.ckpt", weights_only=True)
    seconds: dict[str, list[float]] = {"ours": [], "lightning": []}
    for turn in range(20):
        for name, written in (("ours", AtomicCheckpointIO()), ("lightning", TorchCheckpointIO())):
            since = time.perf_counter()
            written.save_checkpoint(stored, folder / f"{name}{turn}.ckpt")
            seconds[name].append(time.perf_counter() - since)
    for name, times in seconds.items():
        size = (folder / f"{name}0.ckpt").stat().st_size / 2**20
        print(f"checkpoint, {name}: {1000 * median(times):.0f} ms, {size:.1f} MiB")


def timed(command: list[str]) -> tuple[float, int]:
    """Wall seconds, and the peak resident bytes of the process."""
    since = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tempfile.gettempdir())
    _, _, usage = os.wait4(process.pid, 0)
    return time.perf_counter() - since, usage.ru_maxrss * 1024


if __name__ == "__main__":
    main()
