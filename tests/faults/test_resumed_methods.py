"""A run of any method, stopped in the middle of an epoch or at its end, goes on to the same end."""

import signal

import pytest
import torch
from faults.kills import differences, outcome
from faults.tiny import ran

from truetune.errors import UserError
from truetune.training.schedules import LinearPerEpoch, Progress
from truetune.training.stability import Stability

WORDS = ("trainer.max_epochs=3", "loader.batch_size=8", "trainer.log_every_n_steps=1")  # six batches an epoch
METHODS = {
    "lora": ("method=lora", "adaptation.lora.dropout=0.3", "schedule=cosine", "run.merge=true"),
    "interpolate": ("method=interpolate", "schedule=linear_per_epoch"),
    "early_stop": ("method=early_stop", "callbacks.early_stopping.patience=1"),
    "accumulate": ("trainer.accumulate_grad_batches=4", "loader.num_workers=2", "schedule=step_decay"),
    "replay": ("method=[replay,kl_to_base]",),
}


def stopped(step, folder, *words):
    """A run that is sent a signal while the step of that number ends."""
    real = Stability.on_train_batch_end

    def sending(self, trainer, *arguments):
        if trainer.global_step == step:
            signal.raise_signal(signal.SIGTERM)
        real(self, trainer, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stability, "on_train_batch_end", sending)
        ran(folder, *words)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("methods")


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_resumed_run_ends_as_if_never_stopped(cache, method):
    if method == "lora":
        pytest.importorskip("peft")
    words, per_epoch = (*WORDS, *METHODS[method]), 2 if method == "accumulate" else 6
    (cache / method).mkdir()
    (cache / method / "cache").symlink_to(cache)
    ran(cache / method / "run", *words)
    whole = outcome(cache / method)
    for step in (per_epoch + 1, 2 * per_epoch):
        folder = cache / f"{method}{step}"
        folder.mkdir()
        (folder / "cache").symlink_to(cache)
        with pytest.raises(SystemExit):
            stopped(step, folder / "run", *words)
        torch.rand(7)  # what the process that resumes has drawn does not matter
        record, _ = ran(folder / "run", *words, resume=folder / "run")
        assert differences(outcome(folder), whole) == []
        assert record["seconds"]["total"] > record["seconds"]["fine_tune"] > 0


def test_what_is_typed_on_resuming_takes_effect_and_is_recorded(cache):
    (cache / "typed").mkdir()
    (cache / "typed" / "cache").symlink_to(cache)
    folder, words = cache / "typed" / "run", (*WORDS, "optimizer.lr=1e-3", "schedule=cosine", "clip=none")
    with pytest.raises(SystemExit):
        stopped(7, folder, *words)
    anew = ("optimizer.lr=1e-4", "schedule=linear_per_epoch", "trainer.gradient_clip_val=1e-6", "trainer.max_epochs=4")
    record, said = ran(folder, *WORDS, *anew, resume=folder)
    (change,) = record["changes"]
    assert change["step"] == 7
    assert change["changed"]["optimizer.lr"] == (1e-3, 1e-4)
    assert change["changed"]["trainer.max_epochs"] == (3, 4)
    assert "from step 7 on: optimizer.lr=0.0001 (was 0.001)" in said
    steps = {entry["step"]: entry["metrics"] for entry in record["history"] if "train/loss" in entry["metrics"]}
    assert max(steps) == 24
    assert steps[7]["train/learning_rate"] > 5e-4
    assert steps[8]["train/learning_rate"] == pytest.approx(LinearPerEpoch(0.0)(Progress(0, 1, 0, 4), 1e-4))
    assert steps[19]["train/learning_rate"] == pytest.approx(LinearPerEpoch(0.0)(Progress(0, 3, 0, 4), 1e-4))
    assert (steps[7]["train/clipped_fraction"], steps[8]["train/clipped_fraction"]) == (0, 1)
    assert "(was 0.001)" in (folder / "report.html").read_text()
    record, _ = ran(folder, *WORDS, *anew[:3], "trainer.max_epochs=5", resume=folder)
    assert [change["step"] for change in record["changes"]] == [7, 24]  # a finished run may have more epochs
    assert record["history"][-1]["step"] == 30
    with pytest.raises(UserError, match="max_epochs"):
        ran(folder, *WORDS, *anew[:3], "trainer.max_epochs=2", resume=folder)


def test_a_run_does_not_go_on_with_another_base(cache):
    pytest.importorskip("peft")
    words = (*WORDS, "method=lora", "trainer.max_epochs=1")
    (cache / "based").mkdir()
    (cache / "based" / "cache").symlink_to(cache)
    folder = cache / "based" / "run"
    with pytest.raises(SystemExit):
        stopped(3, folder, *words)
    with pytest.raises(UserError, match="the training rows, what is held out or the base have changed"):
        ran(folder, *words, "model.pretraining.steps=2", resume=folder)
