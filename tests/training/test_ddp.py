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
from transformers import AutoModelForCausalLM

from truetune.commands.train import train
from truetune.config import run as build
from truetune.records.record import read_run
from truetune.training.checkpoints import AtomicCheckpointIO, pieces
from truetune.training.sharded import load_whole

WORDS = (*TINY_RUN, "trainer.max_epochs=2", "optimizer.lr=1e-2", "paths.log_dir=logs")


FSDP = ("trainer=fsdp", "trainer.accelerator=cpu", "trainer.devices=2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where `one` process has trained on windows of 10 rows; its base is in the cache."""
    folder = tmp_path_factory.mktemp("ranks")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        cfg = composed(*WORDS, "loader.batch_size=10")
        cfg.paths.output_dir = "one"
        train(build.build(cfg, build.prepare(cfg), folder / "one"), Console(file=io.StringIO()))
    return folder


def model(run):
    return load_file(run / "model" / "model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("words", [("trainer=ddp_sim",), FSDP], ids=["ddp", "fsdp"])
def test_two_processes_and_one_end_at_the_same_weights(folder, words):
    # The windows are the same: 10 rows in one process, 5 + 5 in two.
    run = words[0].removeprefix("trainer=")
    two = [*WORDS, "loader.batch_size=5", *words, "trainer.max_epochs=2", f"hydra.run.dir={run}"]
    done = typed(*two, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"fine-tuning on .* \d+ steps$", done.stderr, re.M)) == 1
    assert [path.name for path in folder.iterdir() if path.name.startswith(run)] == [run]
    torch.testing.assert_close(model(folder / run), model(folder / "one"), rtol=1e-4, atol=1e-4)
    one, two = (read_run(folder / name)["history"] for name in ("one", run))
    measured = [[entry for entry in history if "val/score" in entry["metrics"]] for history in (one, two)]
    assert [entry["step"] for entry in measured[1]] == [entry["step"] for entry in measured[0]] != []
    for here, there in zip(*measured, strict=True):
        assert here["metrics"] == pytest.approx(there["metrics"], rel=1e-3, abs=1e-4)


@pytest.mark.skipif(not os.environ.get("TRUETUNE_LONG"), reason="long: TRUETUNE_LONG=1")
def test_a_run_in_pieces_that_goes_on_ends_in_the_same_bytes(folder):
    """After `test_two_processes_and_one_end_at_the_same_weights`, whose run was not interrupted."""
    first = [*WORDS, "loader.batch_size=5", *FSDP, "trainer.max_epochs=1", "hydra.run.dir=again"]
    for words in (first, ["resume=again", "trainer.max_epochs=2", "run.final=best"]):
        done = typed(*words, cwd=folder)
        assert done.returncode == 0, done.stderr
    best = read_run(folder / "again")["final_step"]
    assert best in (5, 10)
    if best == 10:
        straight, resumed = (folder / run / "model" / "model.safetensors" for run in ("fsdp", "again"))
        assert straight.read_bytes() == resumed.read_bytes()
    load = load_whole(folder / "again" / "checkpoints" / "last.ckpt")["state_dict"]
    straight = model(folder / "fsdp")
    assert all(torch.equal(load[f"model.{name}"], weights) for name, weights in straight.items())
    (piece,) = pieces(folder / "again" / "checkpoints" / "last.ckpt")
    piece.rename(piece.with_name("elsewhere"))
    done = typed("resume=again", "trainer.max_epochs=3", cwd=folder)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    (error,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert error.endswith(f"{piece.name} is missing beside it; start a new run")


@pytest.mark.skipif(not os.environ.get("TRUETUNE_LONG"), reason="long: TRUETUNE_LONG=1")
def test_an_adapter_in_pieces_is_saved_and_merged(folder):
    words = ["method=lora", "run.merge=true", "hydra.run.dir=lora", "loader.batch_size=5", *FSDP]
    done = typed(*WORDS, *words, "optimizer.lr=1e-2", cwd=folder)
    assert done.returncode == 0, done.stderr
    done = typed("lora", "exported", command="truetune-export", cwd=folder)
    assert done.returncode == 0, done.stderr
    merged = AutoModelForCausalLM.from_pretrained(folder / "exported").state_dict()
    torch.testing.assert_close({name: merged[name] for name in model(folder / "lora")}, model(folder / "lora"))
    (base,) = (folder / "logs" / "cache" / "bases").glob("*/model.safetensors")
    assert any(not torch.equal(weights, model(folder / "lora")[name]) for name, weights in load_file(base).items())


@pytest.mark.slow
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
