"""Answering only where sure, against definitions, limits and every order of ties."""

from itertools import pairwise, permutations

import numpy as np
import pytest

from truetune.scoring.thresholds import aurc, risk_coverage, target_scores, worth, worth_curve


def by_definition(confidence, wrong):
    """Mean over all orders of equal confidences of the mean risk of the k surest."""
    found = []
    for order in permutations(range(len(wrong))):
        if all(confidence[a] >= confidence[b] for a, b in pairwise(order)):
            errors = np.cumsum([wrong[k] for k in order])
            found.append(np.mean(errors / np.arange(1, len(wrong) + 1)))
    return np.mean(found)


def test_risk_and_coverage_by_hand():
    coverage, risk = risk_coverage([0.9, 0.1, 0.5, 0.7], [False, True, True, False])
    assert coverage == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert risk == pytest.approx([0, 0, 1 / 3, 1 / 2])
    assert aurc([0.9, 0.1, 0.5, 0.7], [False, True, True, False]) == pytest.approx((1 / 3 + 1 / 2) / 4)


@pytest.mark.parametrize("seed", range(6))
def test_ties_count_as_the_mean_over_their_orders(seed):
    rng = np.random.default_rng(seed)
    confidence, wrong = rng.integers(0, 3, 6) / 2, rng.random(6) < 0.5
    assert aurc(confidence, wrong) == pytest.approx(by_definition(confidence, wrong))


def test_the_limits_of_the_area():
    rng = np.random.default_rng(0)
    wrong = rng.random(200) < 0.3
    assert aurc(np.ones(200), wrong) == pytest.approx(wrong.mean()), "no information: the overall error"
    assert aurc([0.2, 0.4], [False, False]) == 0
    assert aurc([0.2, 0.4], [True, True]) == 1
    best, worst = aurc(~wrong, wrong), aurc(wrong, wrong)
    assert best < aurc(rng.random(200), wrong) < worst


def test_only_the_order_of_confidences_matters():
    rng = np.random.default_rng(1)
    sure, wrong = rng.random(50), rng.random(50) < 0.4
    assert aurc(sure, wrong) == pytest.approx(aurc(np.exp(3 * sure) - 7, wrong))


@pytest.mark.parametrize(("t", "cost"), [(0, 0), (0.5, 1), (0.75, 3), (0.9, 9)])
def test_scores_at_a_confidence_target(t, cost):
    outcomes = ["right", "wrong", "abstained", "right", "wrong"]
    found = target_scores([0.95, 0.95, 0.95, 0.0, 0.0], outcomes, t)
    unsure = [1, -cost] if t == 0 else [0, 0]
    assert found.tolist() == pytest.approx([1, -cost, 0, *unsure])


def test_at_its_target_a_calibrated_model_gains_nothing_and_loses_nothing():
    """Of answers with confidence t a share t is right: 1 * t - t / (1 - t) * (1 - t) = 0."""
    for right in (50, 75, 90):
        outcomes = ["right"] * right + ["wrong"] * (100 - right)
        assert target_scores([right / 100] * 100, outcomes, right / 100).mean() == pytest.approx(0)


def test_a_target_is_below_one():
    with pytest.raises(ValueError, match="got 1"):
        target_scores([1.0], ["right"], 1)


SURE = [0.9, 0.8, 0.6, 0.4, 0.2]
SAID = ["right", "right", "wrong", "abstained", "wrong"]


def test_worth_by_hand():
    thresholds, values = worth_curve(SURE, SAID, 3.0)
    assert thresholds.tolist() == SURE[::-1]
    assert values == pytest.approx([-80, -20, -20, 40, 20])
    found = worth(SURE, SAID, 3.0)
    assert (found.always, found.breaks_even, found.best, found.best_value) == pytest.approx((-80, 0.8, 0.8, 40))


@pytest.mark.parametrize("cost", [0.0, 0.5, 1.0, 9.0])
def test_the_curve_is_the_gain_at_each_threshold(cost):
    rng = np.random.default_rng(2)
    sure, said = np.round(rng.random(80), 1), rng.choice(["right", "wrong", "abstained"], 80)
    thresholds, values = worth_curve(sure, said, cost)
    each = np.select([said == "right", said == "wrong"], [1, -cost], 0)
    assert values == pytest.approx([100 * np.where(sure >= t, each, 0).mean() for t in thresholds])
    found = worth(sure, said, cost)
    assert found.best_value == pytest.approx(max(values.max(), 0))
    assert (values[thresholds < (1 if found.breaks_even is None else found.breaks_even)] <= 0).all()
    assert found.breaks_even is not None or values.max() <= 0


def test_an_assistant_that_is_never_right_is_best_silent():
    found = worth([0.9, 0.5], ["wrong", "wrong"], 1.0)
    assert (found.always, found.breaks_even, found.best, found.best_value) == (-100, None, None, 0)


def test_wrong_answers_that_cost_nothing_are_worth_giving():
    found = worth(SURE, SAID, 0.0)
    assert (found.always, found.breaks_even) == (40, 0.2)
    with pytest.raises(ValueError, match="must not be negative"):
        worth(SURE, SAID, -1.0)
