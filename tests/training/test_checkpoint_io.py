"""A checkpoint is whole, or refused, or the old one."""

import pickle

import pytest
import torch

from truetune.errors import UserError
from truetune.training.checkpoint_io import AtomicCheckpointIO, sidecar

STATE = {"state_dict": {"w": torch.arange(50.0)}, "epoch": 3}


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "deep" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(STATE, path)
    return path


def test_round_trip_leaves_nothing_else(saved):
    loaded = AtomicCheckpointIO().load_checkpoint(saved)
    assert torch.equal(loaded["state_dict"]["w"], STATE["state_dict"]["w"])
    assert loaded["epoch"] == 3
    assert sorted(path.name for path in saved.parent.iterdir()) == ["last.ckpt", "last.ckpt.sha256"]


def test_every_flipped_bit_and_every_cut_is_refused(saved):
    whole = saved.read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 60)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << (place % 8)
        saved.write_bytes(damaged)
        with pytest.raises(UserError, match=r"last\.ckpt: the checkpoint is damaged"):
            AtomicCheckpointIO().load_checkpoint(saved)
    for length in range(0, len(whole), max(1, len(whole) // 20)):
        saved.write_bytes(whole[:length])
        with pytest.raises(UserError, match="damaged"):
            AtomicCheckpointIO().load_checkpoint(saved)


def test_a_save_that_fails_keeps_the_old_file(saved, monkeypatch):
    def full(checkpoint, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    before = saved.read_bytes()
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space"):
        AtomicCheckpointIO().save_checkpoint(STATE, saved)
    assert saved.read_bytes() == before
    assert sorted(path.name for path in saved.parent.iterdir()) == ["last.ckpt", "last.ckpt.sha256"]
    AtomicCheckpointIO().load_checkpoint(saved)


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    canary = tmp_path / "canary"
    torch.save({"state_dict": Bomb(str(canary))}, tmp_path / "bad.ckpt")
    with pytest.raises(pickle.UnpicklingError):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "bad.ckpt")
    assert not canary.exists()


def test_removing_takes_the_digest_too(saved):
    AtomicCheckpointIO().remove_checkpoint(saved)
    assert not saved.exists()
    assert not sidecar(saved).exists()
