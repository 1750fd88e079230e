"""Steps that are not finite are skipped without a trace in weights and moments; losses that jump are told."""

import copy
import os

import pytest
import torch
from lightning import Callback
from training.ranks import two_ranks
from training.small import language_model, rows, train
from training.test_divergence import BadAt, adam

from truetune.errors import Diverged
from truetune.training.objectives import NextToken
from truetune.training.schedules import Cosine
from truetune.training.stability import MOST_SKIPPED_IN_A_ROW, Stability
from truetune.training.step_log import StepLog


class States(Callback):
    """Weights and the optimizer's state before the first step, and after every one."""

    def __init__(self):
        self.after, self.rates = [], []

    def on_train_start(self, trainer, pl_module):
        self._keep(trainer, pl_module)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.rates.append(pl_module.learning_rate)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self._keep(trainer, pl_module)

    def _keep(self, trainer, pl_module):
        weights = [p.detach().clone() for p in pl_module.parameters()]
        self.after.append((weights, copy.deepcopy(trainer.optimizers[0].state_dict()["state"])))


def same(one, other):
    torch.testing.assert_close(one, other, rtol=0, atol=0)


def trained(policy, objective=None, **options):
    lm, said, states, history = language_model(), [], States(), []
    stability = Stability(policy, said.append)
    log = StepLog(history, stability.report)
    options = {"batch": 3, "optimizer": adam([]), "schedule": Cosine(0.0, 0), "log_every_n_steps": 1, **options}
    objectives = [objective(lm)] if objective else None
    train(lm, rows(lm), objectives=objectives, callbacks=[stability, states, log], **options)
    return stability, said, states, history


def bad(row, how):
    return lambda lm: BadAt(lm, row, how)


@pytest.mark.parametrize("how", ["loss", "infinite loss", "gradient"])
def test_a_skipped_step_changes_nothing_but_the_clock(how):
    stability, said, states, history = trained("skip_step", bad(4, how), epochs=2)
    same(states.after[2], states.after[1])
    same(states.after[5], states.after[4])
    with pytest.raises(AssertionError):
        same(states.after[3], states.after[2])
    assert [entry["step"] for entry in history] == [1, 3, 4, 6]
    rates = trained("skip_step", epochs=2)[2].rates
    assert states.rates == rates
    assert len(said) == 2
    assert said[0].endswith("the weights were not touched; items row3, row4, row5; step skipped")
    assert "(most often: row3, row4, row5)" in said[1]  # the batches are the same in both epochs
    assert stability.report.counts == {"nonfinite_steps": 2, "loss_spikes": 0}
    assert stability.report.most_common() == ["row3", "row4", "row5"]
    assert [entry["metrics"]["train/nonfinite_steps"] for entry in history] == [0, 1, 1, 2]


def test_the_row_at_fault_is_named_among_its_window():
    stability = trained("skip_step", bad(4, "loss"), batch=1, accumulate_grad_batches=3, epochs=2)[0]
    assert stability.report.most_common() == ["row4"]


class Spoiling(torch.optim.SGD):
    """Its sixth step ends in a weight without bounds."""

    steps = 0

    def step(self, closure=None):
        super().step(closure)
        self.steps += 1
        if self.steps == 6:
            self.param_groups[0]["params"][0].data[0, 0] = float("inf")


@pytest.mark.parametrize("policy", ["stop", "skip_step"])
def test_weights_that_are_not_finite_end_the_run(policy):
    def spoil(parameters):
        return Spoiling(parameters, lr=0.1)

    with pytest.raises(Diverged, match="the weights are not finite after step 6"):
        trained(policy, optimizer=spoil, epochs=3)


def test_skipping_has_an_end():
    class Bad(NextToken):
        def __call__(self, micro):
            return super().__call__(micro) * float("nan")

    with pytest.raises(Diverged, match=f"{MOST_SKIPPED_IN_A_ROW} steps before it were skipped already"):
        trained("skip_step", lambda lm: Bad(), epochs=10)


def losses_told(losses):
    """The alarms of a fit with these losses."""
    said = []
    stability = Stability("stop", said.append)
    for step, loss in enumerate(losses, 1):
        stability._compare(loss, step)
    return said, stability.report.loss_spikes


def wave(n):
    return [2.0 + 0.1 * (-1) ** step for step in range(n)]  # mean 2, standard deviation 0.1


def test_a_loss_beyond_six_sigma_is_told_once_an_episode_and_counted():
    assert losses_told(wave(200)) == ([], 0)
    assert losses_told([*wave(200), 2.59]) == ([], 0)
    said, count = losses_told([*wave(200), 2.61, 9.0, *wave(10), 99.0])
    assert count == 3
    assert said[0] == "loss spike at step 201: 2.61; the last 128: 2 ± 0.1"
    assert [line.split(":")[0] for line in said] == ["loss spike at step 201", "loss spike at step 213"]
    assert losses_told([*wave(63), 9.0]) == ([], 0), "too few to compare with"


def test_the_state_survives_a_checkpoint():
    one, other = Stability("skip_step", lambda _: None), Stability("skip_step", print)
    for step, loss in enumerate(wave(100)):
        one._compare(loss, step)
    one.not_finite("bad", ["a", "b"])
    one.not_finite("bad", ["b"])
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    assert other.state_dict() == one.state_dict()
    assert other.report.most_common() == ["b"]


class BadOnRankOne(NextToken):
    """The loss of the second step is not a number on one of the ranks."""

    steps = 0

    def __call__(self, micro):
        self.steps += 1
        bad = self.steps == 2 and torch.distributed.get_rank() == 1
        return super().__call__(micro) * (float("nan") if bad else 1.0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("policy", ["stop", "skip_step"])
def test_what_happens_on_one_rank_is_answered_by_all(tmp_path, policy):
    def work():
        options = {"strategy": "ddp", "devices": 2, "optimizer": adam([]), "batch": 3}
        stability, said, states, _ = trained(policy, lambda lm: BadOnRankOne(), **options)
        return stability.report, said, states.after

    one, two = two_ranks(tmp_path, work)
    if policy == "stop":
        assert one == two
        assert one.startswith("Diverged: the loss is not finite at step 2")
        assert "items row3, row4, row5" in one
        return
    assert one[:2] == two[:2]
    assert one[0].nonfinite_steps == 1
    same(one[2][2], one[2][1])
    same(two[2], one[2])
    with pytest.raises(AssertionError):
        same(one[2][3], one[2][2])
