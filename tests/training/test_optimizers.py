"""Optimizers beside AdamW and SGD: they move the weights, and one for matrices alone says so before measuring."""

import pytest
from faults.tiny import ran

from truetune.errors import UserError


@pytest.mark.parametrize("words", [("optimizer=adafactor",), ("optimizer=muon", "method=lora")])
def test_it_trains(tmp_path, words):
    record, _ = ran(tmp_path / "run", *words, "probe=task", "optimizer.lr=0.01", "trainer.max_epochs=8")
    losses = [point["metrics"]["train/loss"] for point in record["history"] if "train/loss" in point["metrics"]]
    assert losses[-1] < losses[0] - 0.05


@pytest.mark.slow
def test_muon_is_for_matrices(tmp_path):
    with pytest.raises(
        UserError, match=r"optimizer: Muon only supports 2D parameters.*method=lora trains matrices alone"
    ):
        ran(tmp_path / "run", "optimizer=muon")
