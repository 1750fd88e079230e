"""Two processes take the same steps as one."""

import io

import torch
from commands import TINY_RUN, composed, typed
from rich.console import Console
from safetensors.torch import load_file

from truetune import build
from truetune.run import run

WORDS = (*TINY_RUN, "trainer.max_epochs=2", "optimizer.lr=1e-2", "paths.log_dir=logs")


def test_two_processes_and_one_end_at_the_same_weights(tmp_path, monkeypatch):
    # The windows are the same: 10 rows in one process, 5 + 5 in two.
    two = [*WORDS, "data.batch_size=5", "trainer=ddp_sim", "trainer.max_epochs=2", "hydra.run.dir=two"]
    done = typed(*two, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("fine-tuning on") == 1
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("two")] == ["two"]
    monkeypatch.chdir(tmp_path)
    cfg = composed(*WORDS, "data.batch_size=10")
    cfg.paths.output_dir = "one"
    run(build.build(cfg, build.prepare(cfg), tmp_path / "one"), Console(file=io.StringIO()))
    one, two = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("one", "two"))
    torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-4)
