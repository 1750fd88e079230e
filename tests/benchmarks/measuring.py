"""How near measuring comes to what the processor can do: multiplications needed, at the rate of a large matrix product.

python tests/benchmarks/measuring.py [experiment=real_model ...]     on an otherwise idle machine

A tuned model is measured beside its base, as after a run. The goal is 0.6 of the rate, over all probes.
"""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode

from truetune.config.run import build, prepare
from truetune.errors import speaker
from truetune.models.frozen import Frozen
from truetune.probes.base_knows import adapted_to
from truetune.probes.measure import fit
from truetune.probes.probe import Subject
from truetune.training.pretraining import load_base

CONF = str(Path(__file__).parents[2] / "conf")


def rate(dtype: torch.dtype, size: int = 2048, times: int = 5) -> float:
    """Floating-point operations a second of a square matrix product, the best of five."""
    one, other = torch.randn(2, size, size).to(dtype)
    seconds: list[float] = []
    for _ in range(times + 1):
        start = time.perf_counter()
        one @ other
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds[1:])


def main(words: list[str]) -> None:
    torch.set_num_threads(2)
    folders = ["paths.log_dir=logs", "paths.output_dir=logs"]
    with initialize_config_dir(CONF, version_base="1.3"):
        cfg = compose("train", overrides=[*(words or ["experiment=real_model"]), *folders])
    prepared = prepare(cfg)
    run, console = build(cfg, prepared, Path("logs")), Console()
    base = load_base(prepared.builder, prepared.data, run.cache, console)
    base, data = adapted_to(base, prepared.data, run.asking, run.cache, speaker(console))
    subject = run.asking.measured(Subject(base.copy(), Frozen(base.model), resamples=0))
    fastest = rate(next(subject.lm.model.parameters()).dtype)
    print(f"a product of 2048 x 2048 matrices: {fastest / 1e9:.0f} GFLOP/s")
    needed, taken = dict[str, float](), dict[str, float]()
    for counting in (True, False):
        share_answers = replace(subject, memory={})
        parts = {probe.name: partial(probe.measure, share_answers, data) for probe in run.probes()}
        for name, work in {**parts, "fit": partial(fit, share_answers, data, run.asking)}.items():
            start = time.perf_counter()
            with FlopCounterMode(display=False) if counting else nullcontext() as flops:
                work()
            if flops:
                needed[name] = flops.get_total_flops()
            taken[name] = time.perf_counter() - start
    needed["all"], taken["all"] = sum(needed.values()), sum(taken.values())
    for name in needed:
        share = needed[name] / taken[name] / fastest
        print(f"{name:14} {needed[name] / 1e12:7.2f} TFLOP {taken[name]:6.1f} s   {share:.2f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
