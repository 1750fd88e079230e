"""Calibration measures satisfy their definitions."""

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from truetune.scoring.calibration import auroc, bins_of, brier, ece


def test_ece_by_hand():
    # Two of the fifteen bins: .25 twice, with one right of two; .95 wrong.
    assert ece([0.25, 0.25, 0.95], [True, False, False]) == pytest.approx((2 * 0.25 + 0.95) / 3)


def test_perfect_and_worst_calibration():
    assert ece([1.0, 1.0], [True, True]) == 0
    assert ece([1.0, 1.0], [False, False]) == 1
    assert ece([0.5] * 4, [True, False, True, False]) == 0


def test_brier_by_hand():
    assert brier([0.8, 0.4], [True, False]) == pytest.approx((0.04 + 0.16) / 2)


def test_auroc_is_the_share_of_ordered_pairs():
    rng = np.random.default_rng(0)
    sure, right = np.round(rng.random(60), 1), rng.random(60) < 0.5
    expected = mannwhitneyu(sure[right], sure[~right]).statistic / (right.sum() * (~right).sum())
    assert auroc(sure, right) == pytest.approx(expected)


def test_auroc_of_order_ties_and_one_kind():
    assert auroc([0.9, 0.8, 0.1], [True, True, False]) == 1
    assert auroc([0.1, 0.9], [True, False]) == 0
    assert auroc([0.5, 0.5], [True, False]) == 0.5
    assert auroc([0.5, 0.5], [True, True]) is None


def test_bins_hold_every_answer_once():
    rng = np.random.default_rng(3)
    sure, right = rng.random(200), rng.random(200) < 0.5
    found = bins_of(sure, right, bins=10)
    assert sum(len(hits) for _, hits in found) == 200
    assert sum(sum(hits) for _, hits in found) == right.sum()
    assert [int(mean * 10) for mean, _ in found] == list(range(10))
    assert bins_of([1.0, 0.0], [True, False], bins=4) == [(0.0, [False]), (1.0, [True])]
