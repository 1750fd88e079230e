"""A checkpoint is whole, or refused, or the old one."""

import os
import sys
import tempfile

import pytest
import torch

from truetune.errors import Unwritable, UserError
from truetune.records.files import file_digest, sidecar
from truetune.training.checkpoints import AtomicCheckpointIO

STATE = {"state_dict": {"w": torch.arange(50.0)}, "epoch": 3}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "deep" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(STATE, path)
    return path


def test_round_trip_leaves_nothing_else(saved):
    loaded = AtomicCheckpointIO().load_checkpoint(saved)
    assert torch.equal(loaded["state_dict"]["w"], STATE["state_dict"]["w"])
    assert loaded["epoch"] == 3
    assert names(saved.parent) == ["last.ckpt", "last.ckpt.sha256"]
    assert sidecar(saved).read_text() == f"{file_digest(saved)}  last.ckpt\n"


def test_a_save_that_fails_keeps_the_old_file(saved):
    """A limit on file sizes stands for a full disk: writing fails half-way."""
    resource = pytest.importorskip("resource")
    before, limits = saved.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(Unwritable, match="File too large"):
            AtomicCheckpointIO().save_checkpoint({"state_dict": {"w": torch.zeros(100_000)}}, saved)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert saved.read_bytes() == before
    assert names(saved.parent) == ["last.ckpt", "last.ckpt.sha256"]
    AtomicCheckpointIO().load_checkpoint(saved)


def test_the_folder_for_temporary_files_is_not_used(saved, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))  # what TMPDIR decides, at the first use
    AtomicCheckpointIO().save_checkpoint({**STATE, "epoch": 4}, saved)
    assert AtomicCheckpointIO().load_checkpoint(saved)["epoch"] == 4


TOUCHES = {"open", "mkdir", "write", "flush", "fsync", "replace", "unlink", "chmod", "close", "__exit__"}


def killed_before(call, path):
    """A process that saves epoch 4 and dies right before its `call`th touch of the file system; False if it lived."""
    child = os.fork()
    if child == 0:
        left = call

        def watch(_, event, function):
            nonlocal left
            left -= event == "c_call" and function.__name__ in TOUCHES
            if left < 0:
                os._exit(9)

        try:
            sys.setprofile(watch)
            AtomicCheckpointIO().save_checkpoint({**STATE, "epoch": 4}, path)
        finally:
            os._exit(0)  # whatever happens, the child runs no other test
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_kill_at_any_point_leaves_a_checkpoint_that_loads(saved):
    found, call = [], 0
    while True:
        AtomicCheckpointIO().save_checkpoint(STATE, saved)
        dead = killed_before(call, saved)
        found.append(AtomicCheckpointIO().load_checkpoint(saved)["epoch"])
        if not dead:
            break
        call += 1
    assert found[0] == 3
    assert found[-1] == 4
    assert found == sorted(found), "the old one, then the new one"
    assert len(found) > 15


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="reads open files' names from /proc")
def test_the_file_is_on_the_disk_before_it_has_its_name(saved, monkeypatch):
    """Or a power cut could leave an empty file under the old name."""
    calls, fsync, replace = [], os.fsync, os.replace

    def syncing(handle):
        name = os.readlink(f"/proc/self/fd/{handle}")
        calls.append(("fsync", os.path.basename(name).split(".")[1:3], os.fstat(handle).st_size > 0))
        fsync(handle)

    def replacing(source, target):
        calls.append(("rename", os.path.basename(target)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(os, "replace", replacing)
    AtomicCheckpointIO().save_checkpoint(STATE, saved)
    assert calls == [
        ("fsync", ["last", "ckpt"], True),  # the digest
        ("rename", "last.ckpt.sha256"),
        ("fsync", [], True),  # the folder
        ("fsync", ["last", "ckpt"], True),
        ("rename", "last.ckpt"),
        ("fsync", [], True),
    ]


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    canary = tmp_path / "canary"
    torch.save({"state_dict": Bomb(str(canary))}, tmp_path / "bad.ckpt")
    for asked in (True, False, None):
        with pytest.raises(UserError, match="cannot be read as tensors and plain values"):
            AtomicCheckpointIO().load_checkpoint(tmp_path / "bad.ckpt", weights_only=asked)
    assert not canary.exists()


def test_removing_takes_the_digest_too(saved):
    AtomicCheckpointIO().remove_checkpoint(saved)
    assert names(saved.parent) == []
