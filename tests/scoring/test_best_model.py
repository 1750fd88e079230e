"""Which model is best, and which cannot be told from it: no more is claimed than chance allows."""

import numpy as np
import pytest

from truetune.scoring.balance import balance_score, gained_share_of_headroom
from truetune.scoring.best_model import Hits, is_apart, standings
from truetune.scoring.paired import swapped_p


def hits(shares, entities, seed=0, of_each=2):
    """What models with these shares of right answers had right, drawn independently."""
    rng = np.random.default_rng(seed)
    table = rng.uniform(size=(entities * of_each, len(shares))) < np.array(shares)
    return Hits(table.astype(float), [f"{seed}/{row // of_each}" for row in range(len(table))])


def test_a_score_is_the_balance_that_a_run_reports():
    task, known = hits([0.5, 0.9], 30), hits([0.8, 0.4], 40, seed=1)
    base = (np.random.default_rng(2).uniform(size=60) < 0.2).astype(float)
    table = standings(task, known, base.tolist())
    for model in (0, 1):
        gained = gained_share_of_headroom(base.mean(), task.table[:, model].mean())
        score = balance_score(gained, known.table[:, model].mean())
        assert table.scores[model].value == pytest.approx(score)
        assert table.scores[model].ends[0] < score < table.scores[model].ends[1]
    assert table.gap(0, 1).value == pytest.approx(table.scores[1].value - table.scores[0].value)
    assert table.gap(1, 0).ends == pytest.approx(tuple(-end for end in reversed(table.gap(0, 1).ends)))


def test_what_is_clearly_worse_is_told_apart_and_what_is_alike_is_not():
    table = standings(hits([0.6, 0.62, 0.6, 0.1], 80), hits([0.8, 0.78, 0.8, 0.8], 80, seed=1))
    best = table.best(range(4))
    assert table.tied(best, range(4)) == [0, 1, 2]
    assert is_apart(table.gap(3, best))
    assert table.tied(3, [3]) == [3]


def test_of_equal_models_the_earliest_is_best_and_nothing_tells_them_apart():
    once = hits([0.5], 20)
    same = Hits(np.repeat(once.table, 3, axis=1), once.clusters)
    table = standings(same, Hits.none(3))
    assert table.best([1, 2]) == 1
    assert {gap.p for gap in table.gaps.values()} == {1.0}
    assert table.tied(0, range(3)) == [0, 1, 2]


def test_of_a_single_share_p_is_that_of_swapping_and_holm_allows_for_all_pairs():
    task = hits([0.5, 0.65], 40, of_each=1)
    ones = np.ones(len(task.table))
    first, second = ((task.table[:, model], ones) for model in (0, 1))
    expected = swapped_p(first, second, task.clusters, np.random.default_rng(3))
    assert standings(task, Hits.none(2)).gap(0, 1).p == pytest.approx(expected, abs=0.02)
    three = Hits(np.column_stack([task.table, task.table[:, 0]]), task.clusters)
    assert standings(three, Hits.none(3)).gap(0, 1).p == pytest.approx(min(1.0, 3 * expected), abs=0.06)


def test_few_entities_tell_nothing_apart():
    table = standings(hits([0.0, 1.0], 5, of_each=20), Hits.none(2))
    assert table.gap(0, 1).ends is None
    assert table.tied(1, [0, 1]) == [0, 1]


def test_with_many_models_a_difference_can_still_be_found():
    table = standings(hits([0.9, *[0.1] * 14], 60), Hits.none(15))
    assert table.tied(0, range(15)) == [0]


def test_equal_models_are_told_apart_no_more_often_than_said():
    """Of three models with the same skill, whichever comes out best."""
    alarms = 0
    for seed in range(150):
        table = standings(hits([0.5] * 3, 40, seed=seed), hits([0.7] * 3, 40, seed=1000 + seed))
        alarms += len(table.tied(table.best(range(3)), range(3))) < 3
    assert alarms / 150 <= 0.05 + 2 * (0.05 * 0.95 / 150) ** 0.5
