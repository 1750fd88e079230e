"""What is not finite is found before the optimizer steps; the weights and the last checkpoint stay as they were."""

import copy

import pytest
import torch
from lightning import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from training.small import Watch, language_model, recording, rows, train

from truetune.errors import Diverged
from truetune.training.checkpoints import AtomicCheckpointIO
from truetune.training.objectives import NextToken


class BadAt:
    """A sum of nlls that is not finite, or whose gradient is not, once row `bad` is in the batch."""

    weight = 1.0

    def __init__(self, lm, bad, how):
        self.bad, self.how = rows(lm)[bad].input_ids, how

    def _in(self, micro):
        return any(row[: len(self.bad)] == self.bad for row in micro.input_ids_BT.tolist())

    def __call__(self, micro):
        loss = NextToken()(micro)
        if not self._in(micro):
            return loss
        if self.how == "loss":
            return loss * float("nan")
        if self.how == "infinite loss":
            return loss + float("inf")
        return loss + (micro.logits_BTV[0, 0, 0] * 0).sqrt()  # the value is 0, its gradient is not finite


class Moments(Callback):
    """The optimizer's state after every step."""

    def __init__(self):
        self.after = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.after.append(copy.deepcopy(trainer.optimizers[0].state_dict()))


def adam(kept):
    def make(parameters):
        kept.append(torch.optim.AdamW(parameters, lr=0.1))
        return kept[0]

    return make


@pytest.mark.parametrize("how", ["loss", "infinite loss", "gradient"])
def test_the_run_stops_before_the_step(how, tmp_path):
    lm, watch, moments, kept = language_model(), Watch(), Moments(), []
    keep = ModelCheckpoint(dirpath=tmp_path, filename="last", every_n_train_steps=1, enable_version_counter=False)
    bad = BadAt(lm, 7, how)
    with pytest.raises(Diverged) as caught:
        train(lm, rows(lm), batch=3, objectives=[bad], optimizer=adam(kept), callbacks=[watch, moments, keep])
    text = str(caught.value)
    what = how.split()[-1]
    for part in (f"the {what} is not finite at step 3", "learning rate 0.1", "gradient norm", "row6, row7, row8"):
        assert part in text
    assert len(watch.weights) == 2
    assert all(torch.equal(a, b) for a, b in zip(watch.weights[-1], lm.model.parameters(), strict=True))
    torch.testing.assert_close(kept[0].state_dict(), moments.after[-1], rtol=0, atol=0)
    assert {float(state["step"]) for state in kept[0].state.values()} == {2.0}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.ckpt", "last.ckpt.sha256"]
    stored = AtomicCheckpointIO().load_checkpoint(tmp_path / "last.ckpt")
    assert stored["global_step"] == 2
    for name, value in lm.model.state_dict().items():
        assert torch.equal(stored["state_dict"][f"model.{name}"], value)


def test_one_bad_micro_batch_spoils_no_window():
    lm, watch = language_model(), Watch()
    with pytest.raises(Diverged, match=r"at step 2 .*items row5;"):
        train(lm, rows(lm), batch=1, objectives=[BadAt(lm, 5, "loss")], callbacks=[watch], accumulate_grad_batches=4)
    assert all(torch.equal(a, b) for a, b in zip(watch.weights[3], lm.model.parameters(), strict=True))


def test_clipping_does_not_hide_a_gradient_that_is_not_finite():
    for algorithm in ("norm", "value"):
        lm = language_model()
        with pytest.raises(Diverged, match="the gradient is not finite at step 3"):
            train(
                lm,
                rows(lm),
                batch=3,
                objectives=[BadAt(lm, 7, "gradient")],
                gradient_clip_val=0.1,
                gradient_clip_algorithm=algorithm,
            )


def test_a_rate_without_bounds_is_found_at_the_next_step():
    lm = language_model()
    with pytest.raises(Diverged, match="at step 2"):
        train(lm, rows(lm), batch=3, optimizer=recording([], lr=1e38))
