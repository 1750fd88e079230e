"""A run of any method, stopped in the middle of an epoch or at its end, goes on to the same end."""

import signal

import pytest
import torch
from faults.kills import differences, outcome
from faults.tiny import ran

from truetune.training.stability import Stability

WORDS = ("trainer.max_epochs=3", "data.batch_size=8", "trainer.log_every_n_steps=1")  # six batches an epoch
METHODS = {
    "lora": ("method=lora", "adaptation.lora.dropout=0.3", "schedule=cosine"),
    "interpolate": ("method=interpolate", "schedule=linear_per_epoch"),
    "early_stop": ("method=early_stop", "callbacks.early_stopping.patience=1"),
    "accumulate": ("trainer.accumulate_grad_batches=4", "data.num_workers=2", "schedule=step_decay"),
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
