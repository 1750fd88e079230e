"""Learning rates: the formulas, and what the optimizer was really given."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from training.small import language_model, recording, rows, train

from truetune.training import schedules as s

RATES = st.floats(1e-8, 1.0)


def test_linear_per_epoch_is_the_interpolation():
    assert [s.linear_per_epoch(e, 4, 1.0, 0.2) for e in range(4)] == pytest.approx([1.0, 0.8, 0.6, 0.4])


@given(st.data(), RATES, RATES)
def test_linear_per_epoch_is_exactly_its_formula_and_constant_within_an_epoch(data, lr0, lr1):
    total = data.draw(st.integers(1, 1000))
    epoch, steps = data.draw(st.integers(0, total - 1)), data.draw(st.integers(1, 1000))
    expected = lr0 + (lr1 - lr0) * epoch / total
    first, last = epoch * steps, (epoch + 1) * steps - 1
    assert [s.LinearPerEpoch(lr1)(s.Progress(step, steps, total), lr0) for step in (first, last)] == [expected] * 2
    assert s.linear_per_epoch(0, total, lr0, lr1) == lr0


def test_step_decay():
    assert [s.step_decay(e, 1.0, 0.5, 2) for e in range(5)] == [1.0, 1.0, 0.5, 0.5, 0.25]
    assert s.step_decay(9, 0.3, 0.0, 1) == 0.3


def test_cosine_starts_halves_and_ends():
    assert [s.cosine(t, 10, 1.0, 0.2) for t in (0, 5, 10, 12)] == pytest.approx([1.0, 0.6, 0.2, 0.2])


def test_cosine_begins_after_the_warm_up_and_ends_at_the_end():
    rates = [s.Cosine(lr_end=0.2, warmup_steps=2)(s.Progress(t, 5, 2), 1.0) for t in range(11)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[6] == pytest.approx(0.6)
    assert rates[10] == pytest.approx(0.2)
    assert rates[2:] == sorted(rates[2:], reverse=True)


def test_warm_up_reaches_one_and_stays():
    assert [s.warmup(t, 4) for t in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert s.warmup(0, 0) == 1.0


def test_warm_up_plateau_and_decay():
    rates = [s.warmup_stable_decay(t, 10, 1.0, 0.0, 2, 4) for t in range(11)]
    assert rates == pytest.approx([0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0.0])


def test_a_warm_up_and_a_decay_that_overlap_meet_without_a_jump():
    rates = [s.warmup_stable_decay(t, 10, 1.0, 0.0, 8, 5) for t in range(11)]
    assert rates == pytest.approx([0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.8, 0.6, 0.4, 0.2, 0.0])
    assert s.warmup_stable_decay(1, 10, 1.0, 0.0, 10, 10) == pytest.approx(0.2), "not 0.9: it is still warming up"


@given(st.integers(1, 60), st.integers(0, 80), st.integers(0, 80), RATES, st.floats(0.0, 1.0))
def test_warm_up_plateau_and_decay_of_any_lengths_rise_then_fall(total, warmup, decay, lr0, share):
    lr1 = share * lr0
    rates = [s.warmup_stable_decay(t, total, lr0, lr1, warmup, decay) for t in range(total)]
    assert all(0 < rate <= lr0 for rate in rates)
    top = rates.index(max(rates))
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    largest = max((abs(b - a) for a, b in pairwise(rates)), default=0.0)
    assert largest <= lr0 * max(1 / max(warmup, 1), 1 / max(decay, 1)) * (1 + 1e-9)


def test_no_schedule_divides_by_a_length_of_zero():
    for schedule in (s.Constant(), s.Cosine(0.0), s.Cosine(0.0, 3), s.WarmupStableDecay(0.0, 0, 1)):
        assert math.isfinite(schedule(s.Progress(0, 1, 1), 1.0))


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
    expected = [schedule(s.Progress(step, 3, 3), 0.1) for step in range(9)]
    assert [rate for rate, _ in seen] == pytest.approx(expected)
    assert len(set(expected)) > 1


def test_a_window_of_micro_batches_is_one_step_of_the_schedule():
    lm, seen = language_model(), []
    schedule = s.LinearPerEpoch(lr_end=0.01)
    train(lm, rows(lm), batch=2, epochs=2, accumulate_grad_batches=2, optimizer=recording(seen), schedule=schedule)
    assert [rate for rate, _ in seen] == pytest.approx([0.1, 0.1, 0.1, 0.055, 0.055, 0.055])
