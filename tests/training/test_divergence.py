"""What is not finite is found before the optimizer steps; the weights and the last checkpoint stay as they were."""

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from training.small import Watch, language_model, rows, train

from truetune.errors import Diverged
from truetune.training.checkpoint_io import AtomicCheckpointIO
from truetune.training.objectives import NextToken


class BadAt:
    """A sum of nlls that is not finite, or whose gradient is not, once row `bad` is in the batch."""

    weight = 1.0

    def __init__(self, lm, bad, how):
        self.bad, self.how = rows(lm)[bad].input_ids, how

    def __call__(self, micro):
        loss = NextToken()(micro)
        length = len(self.bad)
        if not (micro.input_ids_BT[:, :length] == torch.tensor(self.bad)).all(1).any():
            return loss
        if self.how == "loss":
            return loss * float("nan")
        return loss + (micro.logits_BTV[0, 0, 0] * 0).sqrt()  # the value is 0, its gradient is not finite


@pytest.mark.parametrize("how", ["loss", "gradient"])
def test_the_run_stops_before_the_step(how, tmp_path):
    lm, watch = language_model(), Watch()
    keep = ModelCheckpoint(dirpath=tmp_path, filename="last", every_n_train_steps=1, enable_version_counter=False)
    with pytest.raises(Diverged) as caught:
        train(lm, rows(lm), batch=3, objectives=[BadAt(lm, 7, how)], callbacks=[watch, keep])
    text = str(caught.value)
    for part in (f"the {how} is not finite at step 3", "learning rate 0.1", "gradient norm", "row6, row7, row8"):
        assert part in text
    assert len(watch.weights) == 2
    assert all(torch.equal(a, b) for a, b in zip(watch.weights[-1], lm.model.parameters(), strict=True))
    kept = AtomicCheckpointIO().load_checkpoint(tmp_path / "last.ckpt")
    assert kept["global_step"] == 2
    assert all(torch.isfinite(value).all() for value in kept["state_dict"].values())


def test_a_rate_without_bounds_is_found_at_the_next_step():
    from training.small import recording

    lm = language_model()
    with pytest.raises(Diverged, match="at step 2"):
        train(lm, rows(lm), batch=3, optimizer=recording([], lr=1e38))
