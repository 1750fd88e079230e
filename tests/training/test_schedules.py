"""Learning rates: the formulas, and what the optimizer was really given."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from training.small import language_model, recording, rows, train

from truetune.training import schedules as s

RATES = st.floats(1e-8, 1.0)


def rates(schedule, steps, per_epoch=1, epochs=1, lr=1.0):
    """The rate of each of `steps` steps of a run of `epochs` epochs."""
    return [schedule(s.Progress(t, t // per_epoch, per_epoch * epochs, epochs), lr) for t in steps]


def test_linear_per_epoch_is_the_interpolation():
    assert rates(s.LinearPerEpoch(0.2), range(4), epochs=4) == pytest.approx([1.0, 0.8, 0.6, 0.4])


@given(st.data(), RATES, RATES)
def test_linear_per_epoch_is_exactly_its_formula_and_constant_within_an_epoch(data, lr0, lr1):
    total = data.draw(st.integers(1, 1000))
    epoch, steps = data.draw(st.integers(0, total - 1)), data.draw(st.integers(1, 1000))
    expected = lr0 + (lr1 - lr0) * epoch / total
    first, last = epoch * steps, (epoch + 1) * steps - 1
    assert rates(s.LinearPerEpoch(lr1), (first, last), steps, total, lr0) == [expected] * 2
    assert rates(s.LinearPerEpoch(lr1), (0,), steps, total, lr0) == [lr0]


def test_step_decay():
    assert rates(s.StepDecay(0.5, 2), range(5), epochs=5) == [1.0, 1.0, 0.5, 0.5, 0.25]
    assert rates(s.StepDecay(0.0, 1), (9,), epochs=10, lr=0.3) == [0.3]


def test_cosine_starts_halves_and_ends():
    assert rates(s.Cosine(0.2), (0, 5, 10, 12), 10) == pytest.approx([1.0, 0.6, 0.2, 0.2])


def test_cosine_begins_after_the_warm_up_and_ends_at_the_end():
    each = rates(s.Cosine(lr_end=0.2, warmup_steps=2), range(11), 5, 2)
    assert each[:3] == [0.5, 1.0, 1.0]
    assert each[6] == pytest.approx(0.6)
    assert each[10] == pytest.approx(0.2)
    assert each[2:] == sorted(each[2:], reverse=True)


def test_warm_up_reaches_one_and_stays():
    assert [s.warmup(t, 4) for t in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert s.warmup(0, 0) == 1.0


def test_warm_up_plateau_and_decay():
    assert rates(s.WarmupStableDecay(0.0, 2, 4), range(11), 10) == pytest.approx(
        [0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0.0]
    )


def test_a_warm_up_and_a_decay_that_overlap_meet_without_a_jump():
    each = rates(s.WarmupStableDecay(0.0, 8, 5), range(11), 10)
    assert each == pytest.approx([0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.8, 0.6, 0.4, 0.2, 0.0])
    second = rates(s.WarmupStableDecay(0.0, 10, 10), (1,), 10)
    assert second == pytest.approx([0.2]), "not 0.9: it is still warming up"


@given(st.integers(1, 60), st.integers(0, 80), st.integers(0, 80), RATES, st.floats(0.0, 1.0))
def test_warm_up_plateau_and_decay_of_any_lengths_rise_then_fall(total, warmup, decay, lr0, share):
    lr1 = share * lr0
    each = rates(s.WarmupStableDecay(lr1, warmup, decay), range(total), total, lr=lr0)
    assert all(0 < rate <= lr0 for rate in each)
    top = each.index(max(each))
    assert each[:top] == sorted(each[:top])
    assert each[top:] == sorted(each[top:], reverse=True)
    largest = max((abs(b - a) for a, b in pairwise(each)), default=0.0)
    assert largest <= lr0 * max(1 / max(warmup, 1), 1 / max(decay, 1)) * (1 + 1e-9)


def test_no_schedule_divides_by_a_length_of_zero():
    for schedule in (s.Constant(), s.Cosine(0.0), s.Cosine(0.0, 3), s.WarmupStableDecay(0.0, 0, 1)):
        assert math.isfinite(rates(schedule, (0,))[0])


@pytest.mark.parametrize(
    "schedule",
    [
        s.Constant(warmup_steps=2),
        s.LinearPerEpoch(lr_end=0.01),
        s.StepDecay(rate=0.5, every=1),
        s.Cosine(lr_end=0.0, warmup_steps=1),
        s.WarmupStableDecay(lr_end=0.0, warmup_steps=1, decay_steps=3),
        s.WarmupStableDecay(lr_end=0.0, warmup_steps=7, decay_steps=7),
    ],
)
def test_the_optimizer_steps_at_the_rate_of_the_formula(schedule):
    lm, seen = language_model(), []
    train(lm, rows(lm), batch=3, epochs=3, optimizer=recording(seen, lr=0.1), schedule=schedule)
    expected = rates(schedule, range(9), 3, 3, lr=0.1)
    assert [rate for rate, _ in seen] == pytest.approx(expected)
    assert len(set(expected)) > 1


def test_a_window_of_micro_batches_is_one_step_of_the_schedule():
    lm, seen = language_model(), []
    schedule = s.LinearPerEpoch(lr_end=0.01)
    train(lm, rows(lm), batch=2, epochs=2, accumulate_grad_batches=2, optimizer=recording(seen), schedule=schedule)
    assert [rate for rate, _ in seen] == pytest.approx([0.1, 0.1, 0.1, 0.055, 0.055, 0.055])
