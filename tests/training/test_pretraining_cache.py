"""The cache of bases, between runs: damage is mended, rivals share, and a kill leaves nothing half made."""

import io
import os
import signal
import time
from dataclasses import replace

import pytest
import torch
from rich.console import Console
from training.small import TINY

from truetune.data.dataset import Dataset, Example
from truetune.models.tiny import PretrainingSettings
from truetune.records.files import cached, verify
from truetune.training.pretraining import load_base

BUILDER = replace(TINY, pretraining=PretrainingSettings(3, 1e-2, 1, 0.0, 1.0))


class Corpus:
    micro_batches_per_step, description, content = 2, "one text", "v1"

    def vocabulary(self):
        return [f"w{n}" for n in range(12)]

    def micro_batches(self):
        while True:
            yield [Example("t", "", "w1 w2 w3 w4", "here")]


def loaded(cache):
    """The base and what was said of it."""
    console = Console(file=io.StringIO(), width=400)
    lm = load_base(BUILDER, Dataset([], pretraining=Corpus()), cache, console)
    return lm, console.file.getvalue()


def folders(cache):
    return [path for path in (cache / "bases").iterdir() if path.is_dir()]


def flip(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("model.safetensors", flip),
        ("model.safetensors", os.unlink),
        ("tokenizer.json", flip),
        ("config.json", os.unlink),
        ("manifest.json", os.unlink),
        ("manifest.json", lambda path: path.write_text("[]")),
    ],
)
def test_a_damaged_base_is_made_again_with_a_notice_and_the_same_weights(tmp_path, name, damage):
    first, said = loaded(tmp_path)
    before = [p.detach().clone() for p in first.model.parameters()]  # the model itself lies in the file, mapped
    assert said.count("pre-training the base") == 1
    (folder,) = folders(tmp_path)
    damage(folder / name)
    again, said = loaded(tmp_path)
    assert f"the cached folder {folder} is damaged" in said
    assert said.count("pre-training the base") == 1
    assert folders(tmp_path) == [folder]
    assert verify(folder) is None
    for one, two in zip(before, again.model.parameters(), strict=True):
        assert torch.equal(one, two)
    assert "pre-training" not in loaded(tmp_path)[1]


def forked(work):
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return child


def wait_for(condition):
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen")


def builder(log, go=None):
    """Writes a line to `log` when it begins, and stops half-way until the file `go` is there."""

    def make(folder):
        (folder / "half").write_text("half")
        with log.open("a") as file:
            file.write("began\n")
        if go is not None:
            wait_for(go.exists)
        (folder / "whole").write_text("whole")

    return make


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_of_two_processes_one_builds_and_the_other_waits_and_says_so(tmp_path):
    log, go, said = tmp_path / "log", tmp_path / "go", []

    def say(words):
        said.append(words)
        assert not (tmp_path / "base").exists()
        go.touch()

    child = forked(lambda: cached(tmp_path / "base", builder(log, go), lambda _: None))
    wait_for(log.exists)
    cached(tmp_path / "base", builder(log), say)
    os.waitpid(child, 0)
    assert log.read_text() == "began\n", "built once"
    assert said == ["another run is making base; waiting for it"]
    assert verify(tmp_path / "base") is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_kill_in_the_middle_leaves_nothing_in_place_and_no_lock(tmp_path):
    log, said = tmp_path / "log", []
    child = forked(lambda: cached(tmp_path / "base", builder(log, tmp_path / "never"), lambda _: None))
    wait_for(log.exists)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert not (tmp_path / "base").exists()
    cached(tmp_path / "base", builder(log), said.append)
    assert (log.read_text(), said) == ("began\n" * 2, [])
    assert verify(tmp_path / "base") is None
    assert sorted(path.name for path in (tmp_path / "base").iterdir()) == ["half", "manifest.json", "whole"]
