"""`run.final=earliest_best`: the earliest weights that cannot be told from the best, and no others."""

import sys

import numpy as np
import pytest
import torch
from command_line import TINY_RUN, refusal
from faults.tiny import ran
from lightning.pytorch.callbacks import ModelCheckpoint
from training.small import language_model, loader, rows

from truetune.data.module import TokenizedData
from truetune.scoring.selection_score import Selected
from truetune.training.earliest_best import EarliestBest
from truetune.training.fit import fit, make_trainer, take_weights
from truetune.training.measuring import Measuring
from truetune.training.module import FineTuning
from truetune.training.objectives import NextToken
from truetune.training.schedules import Constant, Steps

N = 80


def selected(share, seed):
    """Answers about as many entities, drawn anew."""
    right = (np.random.default_rng(seed).permutation(N) < round(share * N)).astype(float).tolist()
    return Selected(right, [f"t{k}" for k in range(N)], [], [])


def fitted(folder, shares, checkpoint=None, epochs=None, history=()):
    lm, history, said, weights = language_model(), [*history], [], []

    def select():
        weights.append([parameter.detach().clone() for parameter in lm.model.parameters()])
        return selected(shares[trainer.global_step - 1], trainer.global_step)

    optimizer = lambda parameters: torch.optim.SGD(parameters, lr=0.1)  # noqa: E731
    module = FineTuning(lm.model, [NextToken()], optimizer, Constant(0), Steps(1, len(shares)))
    data = TokenizedData(rows(lm)[:2], [], pad=0, seed=0, loader=loader(2))
    measuring = Measuring(frozenset(), lambda _: {}, history, say=said.append, select=select)
    earliest = EarliestBest(folder, measuring, said.append)
    last = ModelCheckpoint(folder, "last", save_on_train_epoch_end=True, enable_version_counter=False)
    options = {"max_epochs": epochs or len(shares), "accelerator": "cpu"}
    trainer = make_trainer(options, [measuring, earliest, last])
    fit(trainer, module, data, seed=0, checkpoint=checkpoint)
    end = take_weights(trainer, module, "earliest_best")
    now = [parameter.detach().clone() for parameter in lm.model.parameters()]
    return end, earliest, said, now, weights, history


def same(first, second):
    return all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_the_earliest_that_cannot_be_told_from_the_best_is_taken(tmp_path):
    """The second epoch's 0.80 is within noise of the fourth's 0.85; the others are not."""
    end, earliest, said, now, weights, history = fitted(tmp_path, [0.2, 0.8, 0.3, 0.85, 0.4])
    assert end == (2, 2)
    assert same(now, weights[1])
    assert list(earliest.answers) == [2, 4]
    assert said == [
        "the weights after epoch 2 are taken, val/score 0.800: it cannot be told from the best, 0.850 after epoch 4"
    ]
    remarks = {entry["step"]: entry["remarks"] for entry in history if "remarks" in entry}
    assert remarks == {2: [{"by": "run.final=earliest_best", "text": said[0]}]}


def test_one_that_is_clearly_best_is_taken_and_the_others_are_not_kept(tmp_path):
    end, _, said, *_ = fitted(tmp_path, [0.2, 0.9, 0.3, 0.3])
    assert end == (2, 2)
    assert said == ["the weights after epoch 2 are taken, val/score 0.900: the best"]
    assert {path.name for path in tmp_path.glob("candidate*.ckpt")} == {"candidate-epoch=2.ckpt"}


def test_few_entities_tell_nothing_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "N", 5)
    assert fitted(tmp_path, [0.2, 0.6, 1.0])[0] == (1, 1)


@pytest.mark.parametrize("killed", [1, 3, 4])
def test_a_run_that_is_killed_and_resumed_takes_the_same(tmp_path, killed):
    shares = [0.2, 0.8, 0.3, 0.85, 0.4]
    expected = fitted(tmp_path / "whole", shares)
    *_, history = fitted(tmp_path / "run", shares, epochs=killed)
    resumed = {"checkpoint": tmp_path / "run/last.ckpt", "history": history}
    end, earliest, said, now, *_ = fitted(tmp_path / "run", shares, **resumed)
    assert (end, said) == (expected[0], expected[2])
    assert same(now, expected[3])
    assert earliest.state_dict() == expected[1].state_dict()
    names = [{path.name for path in (tmp_path / run).glob("*.ckpt")} for run in ("run", "whole")]
    assert names[0] == names[1]


def test_a_real_run_ends_with_those_weights(tmp_path):
    """A base that knows nothing scores 0 after every epoch: the first cannot be told from any."""
    record, _ = ran(tmp_path / "run", "run.final=earliest_best", "trainer.max_epochs=3")
    firsts = [entry for entry in record["history"] if "remarks" in entry]
    assert record["final_step"] == firsts[0]["step"]
    assert firsts[0]["epoch"] == 1
    assert "the weights after epoch 1 are taken" in (tmp_path / "run/report.html").read_text()


def test_without_selection_questions_it_is_refused():
    words = [*TINY_RUN, "probe=[retention]", "run.final=earliest_best"]
    assert "has no selection questions; type run.final=best" in refusal(*words)
    assert "run.final=earliest: should be 'last', 'best' or 'earliest_best'" in refusal(*TINY_RUN, "run.final=earliest")
