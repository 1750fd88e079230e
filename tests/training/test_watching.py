"""The alarm on memorised unknown facts, the checkpoints on the frontier, and the runs of a sweep that end early."""

import json
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from training.small import language_model, loader, rows

from truetune.data.module import TokenizedData
from truetune.extensions.frontier_checkpoints import FrontierCheckpoint
from truetune.extensions.median_pruning import MedianPruning
from truetune.scoring.memorising import LOW, UNKNOWN, memorising_since
from truetune.training.fit import fit, make_trainer
from truetune.training.measuring import Measuring
from truetune.training.module import FineTuning
from truetune.training.objectives import NextToken
from truetune.training.schedules import Constant, Steps


def entry(step, share, low):
    return {"step": step, "epoch": step / 10, "metrics": {UNKNOWN: share, LOW: low}}


LOSS = {"step": 15, "epoch": 2, "metrics": {"train/loss": 1.0}}
HISTORY = [entry(0, 0.0, 0.0), entry(10, 0.05, 0.02), LOSS, entry(20, 0.1, 0.06), entry(30, 0.9, 0.85)]


def test_the_alarm_is_the_first_lower_bound_above_the_bases_upper_one():
    assert memorising_since(HISTORY, 0.04) == {"step": 20, "epoch": 2, "share": 0.1}
    assert memorising_since(HISTORY, 0.06) == {"step": 30, "epoch": 3, "share": 0.9}
    assert memorising_since(HISTORY, 0.9) is None
    assert memorising_since(HISTORY, None) is None, "no labels"
    assert memorising_since([LOSS], 0.0) is None


def test_the_alarm_is_said_once():
    said, history = [], []
    for one in HISTORY:
        measuring = Measuring(frozenset(), lambda _, one=one: dict(one["metrics"]), history, 0.04, said.append)
        trainer = SimpleNamespace(global_step=one["step"], current_epoch=0, callback_metrics={}, loggers=[])
        measuring.on_train_epoch_end(trainer, None)
    assert said == ["the model has begun to memorise unknown facts at step 20: 0.10 of them are reproduced"]


def test_a_loss_of_another_epoch_is_not_taken_for_this_ones():
    history = []
    measuring = Measuring(frozenset(), lambda _: {}, history)
    for epoch in range(4):
        loss = {"val/loss": torch.tensor(1.0)} if epoch else {}  # Lightning keeps the last one
        trainer = SimpleNamespace(
            global_step=epoch, current_epoch=epoch, callback_metrics=loss, loggers=[], check_val_every_n_epoch=2
        )
        measuring.on_train_epoch_end(trainer, None)
    assert ["val/loss" in entry["metrics"] for entry in history] == [False, True, False, True]


POINTS = [(0.1, 0.9), (0.1, 0.8), (0.5, 0.6), (0.5, 0.6), (0.5, 0.7), (0.9, 0.2)]


def fit_that_measures(points, *callbacks):
    """A real fit whose selection metrics are the given ones, epoch by epoch; the epochs that were done."""
    points, history = iter(points), []

    def measured(_):
        gained, kept = next(points)
        return {"val/right": gained, "val/known_right": kept, "val/score": gained}

    lm = language_model()
    module = FineTuning(
        lm.model, [NextToken()], lambda p: torch.optim.SGD(p, lr=0.1), Constant(0), Steps(1, len(POINTS)),
    )  # fmt: skip
    data = TokenizedData(rows(lm)[:2], [], pad=0, seed=0, loader=loader(2))
    options = {"max_epochs": len(POINTS), "accelerator": "cpu"}
    watching = [Measuring(frozenset(), measured, history), *callbacks]
    fit(make_trainer(options, watching), module, data, seed=0)
    return len(history)


@pytest.fixture
def fitted(tmp_path):
    callback = FrontierCheckpoint(str(tmp_path))
    fit_that_measures(POINTS, callback)
    return callback, tmp_path


def test_checkpoints_that_another_beats_are_removed(fitted):
    callback, folder = fitted
    left = {path.name for path in folder.glob("*.ckpt")}
    assert left == {
        "frontier-epoch=1-gained=0.100-kept=0.900.ckpt",
        "frontier-epoch=5-gained=0.500-kept=0.700.ckpt",
        "frontier-epoch=6-gained=0.900-kept=0.200.ckpt",
    }
    assert set(callback.points) == left
    again = FrontierCheckpoint("elsewhere")
    again.load_state_dict(callback.state_dict())
    assert again.points == callback.points
    stored = torch.load(folder / sorted(left)[0], weights_only=True)
    assert "optimizer_states" not in stored


def test_a_run_that_is_killed_and_resumed_knows_every_point(tmp_path):
    last, callback = ModelCheckpoint(tmp_path, "last", save_on_train_epoch_end=True), FrontierCheckpoint(str(tmp_path))
    fit_that_measures(POINTS, last, callback)
    stored = torch.load(tmp_path / "last.ckpt", weights_only=True)["callbacks"]["FrontierCheckpoint"]
    assert stored == callback.state_dict()
    assert len(stored["points"]) == 3


def sibling(sweep, number, scores, status="finished"):
    history = [{"epoch": 0, "metrics": {}}, {"epoch": 2, "metrics": {"train/loss": 9.0}}]
    history += [{"epoch": epoch, "metrics": {"val/score": score}} for epoch, score in enumerate(scores, start=1)]
    (sweep / str(number)).mkdir(parents=True)
    (sweep / str(number) / "run.json").write_text(json.dumps({"status": status, "history": history}))


@pytest.mark.parametrize(
    ("others", "sweep", "epochs"),
    [
        ([0.5, 0.6], True, 3),  # the best so far is 0.5 from the third epoch on, where the median is 0.55
        ([0.4, 0.6], True, 6),  # 0.5 is not below the median of 0.5
        ([0.6], True, 6),  # too few to be measured against
        ([0.5, 0.6], False, 6),
    ],
)
def test_a_run_of_a_sweep_ends_below_the_median_of_the_others(tmp_path, capsys, others, sweep, epochs):
    for number, score in enumerate(others):
        sibling(tmp_path, number, [0.1, 0.1, *[score] * 4])
    sibling(tmp_path, 7, [0.9] * 6, status="interrupted")
    sibling(tmp_path, 8, [0.9] * 6)  # its own folder, of an attempt before
    if sweep:
        (tmp_path / "multirun.yaml").touch()
    points = [*POINTS[:5], (0.5, 0.2)]
    assert fit_that_measures(points, MedianPruning(str(tmp_path / "8"), runs=2, epochs=2)) == epochs
    said = "pruned: the best balance of 3 epochs is 0.500, the median of 2 other runs 0.550\n"
    assert capsys.readouterr().err == (said if epochs == 3 else "")
