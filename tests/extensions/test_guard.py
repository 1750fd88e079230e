"""A guard looks at the selection questions after each epoch: it warns, stops, or goes back to what kept its limits."""

import json

import pytest
import torch
from command_line import TINY_RUN, refusal
from faults.tiny import ran
from lightning.pytorch.callbacks import ModelCheckpoint
from training.small import language_model, loader, rows

from truetune.data.module import TokenizedData
from truetune.errors import UserError
from truetune.extensions.guard import Guard
from truetune.scoring.selection_score import Selected
from truetune.training.fit import fit, make_trainer, take_weights
from truetune.training.measuring import Measuring
from truetune.training.module import FineTuning
from truetune.training.objectives import NextToken
from truetune.training.schedules import Constant, Steps

N = 60


def selected(known, task=0.5):
    """Shares of right answers, each about an entity of its own."""
    answers = [[float(k < round(share * N)) for k in range(N)] for share in (task, known)]
    return Selected(answers[0], [f"t{k}" for k in range(N)], answers[1], [f"k{k}" for k in range(N)])


def fitted(folder, known, guard, checkpoint=None, epochs=None, before=1.0):
    """A fit of one step an epoch, after each of which so much of the known is right; weights after each step."""
    lm, history, said, weights = language_model(), [], [], []
    epochs = epochs or len(known)
    answers = [selected(before), *map(selected, known)]

    def select():
        weights.append([parameter.detach().clone() for parameter in lm.model.parameters()])
        return answers[trainer.global_step]

    optimizer = lambda parameters: torch.optim.SGD(parameters, lr=0.1)  # noqa: E731
    module = FineTuning(lm.model, [NextToken()], optimizer, Constant(0), Steps(1, len(known)))
    data = TokenizedData(rows(lm)[:2], [], pad=0, seed=0, loader=loader(2))
    measuring = Measuring(frozenset(), lambda _: {}, history, say=said.append, select=select)
    last = ModelCheckpoint(folder, "last", save_on_train_epoch_end=True, enable_version_counter=False)
    trainer = make_trainer({"max_epochs": epochs, "accelerator": "cpu"}, [measuring, guard, last])
    fit(trainer, module, data, seed=0, checkpoint=checkpoint)
    end = take_weights(trainer, module, "last")
    now = [parameter.detach().clone() for parameter in lm.model.parameters()]
    remarks = [(entry["step"], remark) for entry in history for remark in entry.get("remarks", [])]
    return end, remarks, said, now, weights


def same(first, second):
    return all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_within_its_limits_nothing_is_said(tmp_path):
    end, remarks, said, *_ = fitted(tmp_path, [0.98, 0.97], Guard(str(tmp_path), max={"lost_rate": 0.2}))
    assert (end, remarks, said) == ((2, 2), [], [])


@pytest.mark.parametrize(("action", "epochs", "taken"), [("warn", 4, 4), ("stop", 3, 3), ("rollback", 3, 2)])
def test_a_broken_limit_is_acted_on(tmp_path, action, epochs, taken):
    known = [0.98, 0.95, 0.5, 0.4]
    guard = Guard(str(tmp_path), max={"lost_rate": 0.2}, action=action)
    end, remarks, said, now, weights = fitted(tmp_path, known, guard)
    assert end == (taken, taken)
    (step, remark), *more = remarks
    assert (step, more) == (3, [])
    assert (remark["by"], remark["action"], remark["text"]) == ("guard", action, said[0])
    assert remark["limits"][0]["metric"] == "val/lost_rate"
    assert remark["limits"][0]["low"] > 0.2
    assert said[0].startswith("guard, after epoch 3: fail: val/lost_rate at most 0.2: 0.50 [0.3")
    ends = {"warn": "n 60", "stop": "training stops", "rollback": "and the weights after epoch 2 are taken"}
    assert said[0].endswith(ends[action])
    assert same(now, weights[taken])
    left = {path.name for path in tmp_path.glob("*.ckpt")} - {"last.ckpt"}
    assert left == ({"inside-epoch=1.ckpt", "inside-epoch=2.ckpt"} if action == "rollback" else set())


def test_before_any_epoch_is_inside_the_untouched_weights_are_taken(tmp_path):
    guard = Guard(str(tmp_path), max_drop={"known_right": 0.1}, action="rollback")
    end, _, said, now, weights = fitted(tmp_path, [0.2, 0.1], guard)
    assert end == (0, 0)
    assert said[0].endswith("training stops, and the untouched weights are taken")
    assert same(now, weights[0])


@pytest.mark.parametrize(("undecided", "epochs"), [("pass", 3), ("fail", 2)])
def test_what_is_undecided_counts_as_one_chooses(tmp_path, undecided, epochs):
    """0.9 of 60 may be above 0.85 or below."""
    guard = Guard(str(tmp_path), min={"known_right": 0.85}, undecided=undecided)
    end, _, said, *_ = fitted(tmp_path, [1.0, 0.9, 0.9], guard)
    assert end == (epochs, epochs)
    assert len(said) == (undecided == "fail")


def test_every_bound_of_every_metric_is_decided(tmp_path):
    every = {"right": 0.3, "known_right": 0.3, "score": 0.3}
    guard = Guard(str(tmp_path), min=every, max_drop=every, max={"lost_rate": 0.3})
    guard.base = selected(1.0, task=0.9)
    assert {decision.result for decision in guard._decisions(selected(1.0, task=0.9))} == {"pass"}
    results = [decision.result for decision in guard._decisions(selected(0.05, task=0.05))]
    assert (results, len(results)) == (["fail"] * 7, 7)


def test_a_base_that_does_not_keep_a_limit_is_said_before_the_first_step(tmp_path):
    with pytest.raises(UserError, match=r"the untouched base does not keep val/known_right at least 0.5: 0.20 \["):
        fitted(tmp_path, [0.2], Guard(str(tmp_path), min={"known_right": 0.5}), before=0.2)


def test_a_run_that_is_killed_and_resumed_acts_as_if_it_had_not_been(tmp_path):
    known = [0.98, 0.95, 0.5]
    how = {"max": {"lost_rate": 0.2}, "action": "rollback"}
    fitted(tmp_path / "run", known, Guard(str(tmp_path / "run"), **how), epochs=2)
    again = Guard(str(tmp_path / "run"), **how)
    end, remarks, _, now, _ = fitted(tmp_path / "run", known, again, tmp_path / "run/last.ckpt", epochs=3)
    whole = Guard(str(tmp_path / "whole"), **how)
    expected = fitted(tmp_path / "whole", known, whole)
    assert (end, remarks) == (expected[0], expected[1])
    assert same(now, expected[3])
    assert again.state_dict() == whole.state_dict()
    after = Guard(str(tmp_path / "run"), **how)
    end, _, _, now, _ = fitted(tmp_path / "run", known, after, tmp_path / "run/last.ckpt", epochs=3)
    assert end == (2, 2), "killed after the rollback, before the end was measured"
    assert same(now, expected[3])


def test_a_real_run_goes_back_and_its_record_and_page_say_so(tmp_path, monkeypatch):
    """What is measured at the end are the weights after the first epoch."""
    answers = iter([selected(1.0), selected(0.98), selected(0.4), selected(0.97)])
    monkeypatch.setattr("truetune.commands.train.selection", lambda *_: next(answers))
    words = ["callbacks=guard", "callbacks.guard.action=rollback", "trainer.max_epochs=4", "optimizer.lr=0.05"]
    record, said = ran(tmp_path / "run", *words)
    assert record["status"] == "finished"
    (point,) = (entry for entry in record["history"] if "remarks" in entry)
    text = point["remarks"][0]["text"]
    assert text.startswith("guard, after epoch 2: fail: val/lost_rate at most 0.1: 0.60 [0.4")
    assert text.endswith("; training stops, and the weights after epoch 1 are taken")
    assert text in said
    assert text in (tmp_path / "run/report.html").read_text()
    assert record["final_step"] == point["step"] / 2
    name = "fit/known_exact_match"
    fits = [entry["metrics"][name] for entry in record["history"] if name in entry["metrics"]]
    assert len(fits) == 4, "base, two epochs, and the first again"
    assert fits[1] == fits[2] == record["final"][name]["value"]
    assert record["final"]["val/known_right"]["value"] == pytest.approx(0.97, abs=0.01)
    answers = iter([selected(1.0)])
    with pytest.raises(UserError, match=r"the untouched base does not keep val/right at most 0\.3"):
        ran(tmp_path / "refused", *words, "callbacks.guard.max.right=0.3")


BAD = {
    "+callbacks.guard.max.los=0.1": "callbacks.guard.max.los: no such metric; it may be right, known_right, lost_rate",
    "callbacks.guard.max.los=0.1": "callbacks.guard.max.los: ",
    "callbacks.guard.action=rolback": "callbacks.guard.action=rolback: should be 'warn', 'stop' or 'rollback'",
    "callbacks.guard.max.lost_rate=null": "callbacks.guard: no limit is set; type callbacks.guard.max.lost_rate=0.1",
    "callbacks.guard.max.lost_rate=5": "callbacks.guard.max.lost_rate=5: is a share, from 0 to 1; 5 % is 0.05",
    "callbacks.guard.max.lost_rate=abc": "callbacks.guard.max.lost_rate=abc: should be a valid number",
    "callbacks.guard.undecided=perhaps": "callbacks.guard.undecided=perhaps: should be 'pass' or 'fail'",
    "probe=[retention]": "callbacks.guard.max.lost_rate: is not measured while training: this data source, with these",
}


@pytest.mark.parametrize("word", BAD)
def test_a_bad_guard_is_refused_before_anything_is_made(word):
    assert BAD[word] in refusal(*TINY_RUN, "callbacks=guard", word)


def test_two_choices_of_weights_are_one_too_many():
    words = [*TINY_RUN, "callbacks=guard", "callbacks.guard.action=rollback", "run.final=best"]
    assert "callbacks.guard.action=rollback and run.final=best both choose the weights" in refusal(*words)


def test_of_rows_of_ones_own_nobody_knows_what_the_base_knew(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": f"Who is {k}?", "completion": "Ann"} for k in range(8)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["data=jsonl", "data.train_file=rows.jsonl", "callbacks=guard"]
    assert "has no selection questions on what was known" in refusal(*words)
