"""The plan of steps is the Trainer's own: the schedule ends where training ends, and the screen says how many."""

import re

import pytest
from command_line import refused
from faults.tiny import TINY_RUN, ran

from truetune.training.schedules import ENDLESS, Cosine, LinearPerEpoch, Steps, WarmupStableDecay

WORDS = ("schedule=cosine", "loader.batch_size=4", "trainer.log_every_n_steps=1", "probe=task", "trainer.max_epochs=3")
IN_ALL = 36  # steps of three epochs


def curve(record):
    return [
        point["metrics"]["train/learning_rate"]
        for point in record["history"]
        if "train/learning_rate" in point["metrics"]
    ]


@pytest.mark.parametrize(
    ("words", "steps"),
    [
        ([], IN_ALL),
        (["+trainer.max_steps=10"], 10),
        (["+trainer.max_steps=100"], IN_ALL),
        (["+trainer.max_steps=10", "trainer.max_epochs=-1"], 10),
        (["+trainer.max_steps=20", "trainer.max_epochs=-1"], 20),
        (["+trainer.overfit_batches=2"], 6),
        (["+trainer.overfit_batches=0.5"], 18),
        (["+trainer.limit_train_batches=3", "trainer.accumulate_grad_batches=2"], 6),
    ],
)
def test_the_rate_has_come_down_where_training_ends(tmp_path, words, steps):
    record, screen = ran(tmp_path / "run", *WORDS, *words)
    assert record["final_step"] == steps
    assert re.search(rf"fine-tuning on \d+ rows, \d epochs?: {steps} steps\n", screen)
    peak, rates = record["config"]["optimizer"]["lr"], curve(record)
    expected = [Cosine(0.0)(Steps(1, steps).progress(step), peak) for step in range(1, steps + 1)]
    assert rates == pytest.approx(expected, abs=1e-12)
    assert rates[-1] == pytest.approx(0, abs=1e-12)


def test_a_fast_dev_run_says_one_step(tmp_path):
    record, screen = ran(tmp_path / "run", *WORDS, "+trainer.fast_dev_run=true")
    assert record["final_step"] == 1
    assert "1 epoch: 1 steps\n" in screen


@pytest.mark.parametrize("epochs", [-1, 100000])
def test_a_run_by_the_clock_ends_at_the_lowest_rate(tmp_path, epochs):
    words = [f"trainer.max_epochs={epochs}", "+trainer.max_time={seconds: 2}"]
    record, screen = ran(tmp_path / "run", *WORDS, *words)
    assert "at most" in screen
    peak, rates = record["config"]["optimizer"]["lr"], curve(record)
    assert rates[0] > 0.9 * peak
    assert rates[-1] < 0.02 * peak
    assert record["seconds"]["fine_tune"] < 30
    between = sum(0.1 * peak < rate < 0.9 * peak for rate in rates)
    assert between > 0.2 * len(rates)


@pytest.mark.parametrize("schedule", [Cosine(0.0), LinearPerEpoch(0.0), WarmupStableDecay(0.0, 2, 5)])
def test_a_schedule_without_a_known_end_goes_by_the_share_of_time(schedule):
    steps = Steps(5, -1)
    assert steps.total == ENDLESS
    assert schedule(steps.progress(0), 1.0) == schedule(Steps(5, 1000).progress(0), 1.0)
    half, known = steps.progress(50, 0.5), Steps(5, 20).progress(50)
    assert schedule(half, 1.0) == schedule(known, 1.0)
    assert Steps(5, 4).progress(10, 0.1) == Steps(5, 4).progress(10), "the epochs end first"


def test_what_never_ends_is_refused():
    assert "trainer.max_epochs=-1 never ends" in refused(*TINY_RUN, **{"trainer.max_epochs": -1})


def test_epochs_that_are_not_validated_cannot_be_scored(tmp_path):
    text = "\n\n".join(f"Stanza {n} tells of the sea and of ships." * 20 for n in range(30))
    (tmp_path / "poem.txt").write_text(text)
    words = ("data=text", f"data.train_file={tmp_path / 'poem.txt'}", "data.held_out_share=0.4")
    assert "every epoch is scored by its loss" in refused(*words, "trainer.check_val_every_n_epoch=2")
