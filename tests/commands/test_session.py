"""How many threads a run computes with, and how long a waiting one spins."""

import os
import signal
from pathlib import Path

import pytest
import torch

from truetune import cli
from truetune.commands.session import threads_for
from truetune.models.pretrained import Pretrained
from truetune.models.tiny import PretrainingSettings, Tiny

PRETRAINING = PretrainingSettings(steps=1, lr=1e-3, warmup_steps=0, weight_decay=0.0, gradient_clip_val=1.0)


def tiny(hidden_size: int) -> Tiny:
    return Tiny(0, hidden_size, 2, 64, 300, PRETRAINING, intermediate_size=8, heads=2)


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    monkeypatch.setattr(os, "cpu_count", lambda: 16)


@pytest.mark.usefixtures("many")
def test_a_small_model_takes_two_threads_and_a_large_one_no_more_than_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (threads_for(tiny(128)), threads_for(tiny(1024))) == (2, 16)
    for size, threads in ((1_000_000, 2), (30_000_000, 16)):
        with (tmp_path / "model.safetensors").open("wb") as file:
            file.truncate(size)
        assert threads_for(Pretrained(str(tmp_path))) == threads
    assert threads_for(Pretrained("somebody/on-the-hub")) == 16, "its size is not known yet"
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    assert threads_for(tiny(128)) == 64, "the user typed it"
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert threads_for(tiny(128)) == 1


@pytest.mark.parametrize(
    ("typed", "spins"),
    [({}, cli.SPINS), ({"OMP_WAIT_POLICY": "ACTIVE"}, None), ({"GOMP_SPINCOUNT": "7"}, "7")],
    ids=["nothing", "policy", "spins"],
)
def test_waiting_threads_spin_for_a_moment_only_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, typed: dict[str, str], spins: str | None
) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    for name, value in typed.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr("sys.argv", ["truetune-report", "--help"])
    with pytest.raises(SystemExit, match="0"):
        cli.report()
    assert os.environ.get("GOMP_SPINCOUNT") == spins
    for name in ("GOMP_SPINCOUNT", "KMP_BLOCKTIME"):
        monkeypatch.delenv(name, raising=False)  # set behind the back of monkeypatch
