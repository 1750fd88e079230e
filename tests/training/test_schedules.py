"""Learning rates: the formulas, and what the optimizer was really given."""

import pytest
from training.small import language_model, recording, rows, train

from truetune.training import schedules as s


def test_linear_per_epoch_is_the_interpolation():
    assert [s.linear_per_epoch(e, 4, 1.0, 0.2) for e in range(4)] == pytest.approx([1.0, 0.8, 0.6, 0.4])


def test_step_decay():
    assert [s.step_decay(e, 1.0, 0.5, 2) for e in range(5)] == [1.0, 1.0, 0.5, 0.5, 0.25]


def test_cosine_starts_halves_and_ends():
    assert [s.cosine(t, 10, 1.0, 0.2) for t in (0, 5, 10, 12)] == pytest.approx([1.0, 0.6, 0.2, 0.2])


def test_warm_up_reaches_one_and_stays():
    assert [s.warmup(t, 4) for t in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert s.warmup(0, 0) == 1.0


def test_warm_up_plateau_and_decay():
    rates = [s.warmup_stable_decay(t, 10, 1.0, 0.0, 2, 4) for t in range(11)]
    assert rates == pytest.approx([0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0.0])


@pytest.mark.parametrize(
    "schedule",
    [
        s.Constant(warmup_steps=2),
        s.LinearPerEpoch(lr_end=0.01),
        s.StepDecay(rate=0.5, every=1),
        s.Cosine(lr_end=0.0, warmup_steps=1),
        s.WarmupStableDecay(lr_end=0.0, warmup_steps=1, decay_steps=3),
    ],
)
def test_the_optimizer_steps_at_the_rate_of_the_formula(schedule):
    lm, seen = language_model(), []
    train(lm, rows(lm), batch=3, epochs=3, optimizer=recording(seen, lr=0.1), schedule=schedule)
    expected = [schedule(s.Progress(step, 3, 3), 0.1) for step in range(9)]
    assert [rate for rate, _ in seen] == pytest.approx(expected)
