"""Two processes take the same steps as one."""

import io
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from command_line import TINY_RUN, composed, typed
from rich.console import Console
from safetensors.torch import load_file

from truetune.commands.train import train
from truetune.config import run as build
from truetune.training.checkpoints import AtomicCheckpointIO

WORDS = (*TINY_RUN, "trainer.max_epochs=2", "optimizer.lr=1e-2", "paths.log_dir=logs")


def test_two_processes_and_one_end_at_the_same_weights(tmp_path, monkeypatch):
    # The windows are the same: 10 rows in one process, 5 + 5 in two.
    two = [*WORDS, "loader.batch_size=5", "trainer=ddp_sim", "trainer.max_epochs=2", "hydra.run.dir=two"]
    done = typed(*two, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"fine-tuning on .* \d+ steps$", done.stderr, re.M)) == 1
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("two")] == ["two"]
    monkeypatch.chdir(tmp_path)
    cfg = composed(*WORDS, "loader.batch_size=10")
    cfg.paths.output_dir = "one"
    train(build.build(cfg, build.prepare(cfg), tmp_path / "one"), Console(file=io.StringIO()))
    one, two = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("one", "two"))
    torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds children in /proc")
def test_a_rank_that_dies_ends_the_run_and_its_checkpoint_is_whole(tmp_path):
    words = [*WORDS, "trainer=ddp_sim", "trainer.max_epochs=100000", "hydra.run.dir=run"]
    process = subprocess.Popen(
        [Path(sys.executable).with_name("truetune"), *words],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    while not (tmp_path / "run" / "checkpoints" / "last.ckpt").exists():
        assert process.poll() is None
        time.sleep(0.01)
    (other,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(other), signal.SIGKILL)
    since = time.monotonic()
    said = process.communicate(timeout=60)[1].decode()
    assert time.monotonic() - since < 30
    assert "Traceback" not in said
    if process.returncode != -signal.SIGKILL:  # by Lightning, whose watch over the ranks may be the first to see it
        assert process.returncode == 1
        assert "error: rank 1 has ended with exit code -9; what it said is above" in said
    AtomicCheckpointIO().load_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")
