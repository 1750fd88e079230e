"""Times and sizes, measured side by side in one run on an otherwise idle machine.

python tests/benchmarks/figures.py      about five minutes on two cores
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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


def timed(command: list[str]) -> tuple[float, int]:
    """Wall seconds, and the peak resident bytes of the process."""
    since = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tempfile.gettempdir())
    _, _, usage = os.wait4(process.pid, 0)
    return time.perf_counter() - since, usage.ru_maxrss * 1024


if __name__ == "__main__":
    main()
