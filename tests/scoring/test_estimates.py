import json
import math
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from truetune.scoring.estimates import (
    Estimate,
    bootstrap,
    items_needed,
    mean_t_interval,
    paired_difference,
    rate,
    ratio_difference,
    t_quantile,
    undefined,
    wilson,
)
from truetune.scoring.paired import holm, mcnemar_exact, t_test


@pytest.mark.parametrize(("hits", "n"), [(0, 1), (0, 40), (7, 10), (40, 40), (399, 400)])
def test_rate_is_wilsons_interval(hits: int, n: int) -> None:
    ours = rate([True] * hits + [False] * (n - hits))
    theirs = stats.binomtest(hits, n).proportion_ci(method="wilson")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert (ours.value, ours.n) == (hits / n, n)


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_rate_of_the_opposite_is_mirrored(hits: list[bool]) -> None:
    one, other = rate(hits), rate([not hit for hit in hits])
    assert one.low is not None
    assert other.high is not None
    assert one.low == pytest.approx(1 - other.high, abs=1e-12)
    assert 0 <= one.low <= one.value <= 1 - other.low <= 1 if other.low is not None else False


def test_rate_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        rate([])


def test_clusters_of_one_change_nothing_but_the_small_sample_factor() -> None:
    hits = [True] * 30 + [False] * 70
    alone, plain = rate(hits, [str(k) for k in range(100)]), rate(hits)
    assert alone.low == pytest.approx(plain.low, abs=2e-3)
    assert alone.high == pytest.approx(plain.high, abs=2e-3)


def test_four_copies_of_each_entity_count_as_one() -> None:
    once = [True] * 30 + [False] * 70
    copies = rate([hit for hit in once for _ in range(4)], [str(k) for k in range(100) for _ in range(4)])
    assert copies.n == 400
    few = (stats.t.ppf(0.975, 399) / stats.t.ppf(0.975, 99)) ** 2
    assert (copies.low, copies.high) == pytest.approx(wilson(0.3, 100 * 99 / 100 * few), abs=1e-9)


def test_clusters_never_narrow_the_interval() -> None:
    balanced = rate([True, False] * 50, [str(k // 2) for k in range(100)])  # each entity half right: deff would be 0
    few = (stats.t.ppf(0.975, 99) / stats.t.ppf(0.975, 49)) ** 2
    assert (balanced.low, balanced.high) == pytest.approx(wilson(0.5, 100 * few))


def test_of_few_clusters_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Five entities of twenty questions each, as alike as entities are: 0.89 without Student's quantiles."""
    rng, names = np.random.default_rng(0), [str(k // 20) for k in range(100)]
    shares = np.repeat(rng.beta(1.4, 0.93, (600, 5)), 20, axis=1)  # of mean 0.6, correlated by 0.3
    found = [rate(hits.tolist(), names) for hits in (rng.random(shares.shape) < shares).astype(float)]
    held = [e.low <= 1.4 / 2.33 <= e.high for e in found if e.low is not None and e.high is not None]
    assert 0.92 < np.mean(held) < 0.98
    two = rate([True, False, True, True], ["a", "a", "b", "b"])
    assert (two.low, two.high) == pytest.approx(wilson(0.75, 1)), "never less than one observation"


@pytest.mark.parametrize("hit", [True, False])
def test_all_alike_counts_entities(hit: bool) -> None:
    estimate = rate([hit] * 400, [str(k // 4) for k in range(400)])
    assert (estimate.low, estimate.high) == pytest.approx(wilson(float(hit), 100))


def test_clusters_must_name_every_item() -> None:
    with pytest.raises(ValueError, match="one cluster name per item"):
        rate([True, False, True], ["a", "b"])


class TestPairedDifference:
    before: ClassVar[list[float]] = [1, 1, 1, 0, 0, 1, 1, 1] * 25
    after: ClassVar[list[float]] = [1, 0, 1, 0, 1, 1, 0, 1] * 25

    def test_value_is_the_mean_difference_and_the_interval_holds_it(self) -> None:
        found = paired_difference(self.before, self.after, None, np.random.default_rng(0))
        assert found.value == pytest.approx(-1 / 8)
        assert found.low is not None
        assert found.high is not None
        assert found.low < -1 / 8 < found.high

    def test_interval_agrees_with_the_normal_one(self) -> None:
        found = paired_difference(self.before, self.after, None, np.random.default_rng(0))
        half = 1.96 * np.std(np.subtract(self.after, self.before)) / math.sqrt(200)
        assert (found.low, found.high) == pytest.approx((-1 / 8 - half, -1 / 8 + half), abs=0.015)

    def test_same_seed_same_interval(self) -> None:
        one, two = (paired_difference(self.before, self.after, None, np.random.default_rng(3)) for _ in range(2))
        assert one == two

    def test_copies_within_an_entity_add_no_certainty(self) -> None:
        clusters = [str(k) for k in range(200)]
        alone = paired_difference(self.before, self.after, clusters, np.random.default_rng(0))
        copies = paired_difference(self.before * 4, self.after * 4, clusters * 4, np.random.default_rng(0))
        assert (copies.low, copies.high) == pytest.approx((alone.low, alone.high))

    def test_no_change_is_zero_without_doubt(self) -> None:
        assert paired_difference([1, 0] * 3, [1, 0] * 3, None, np.random.default_rng(0)) == Estimate(0.0, 6, 0.0, 0.0)

    @pytest.mark.parametrize("entities", [1, 2, 5])
    def test_few_entities_have_no_interval(self, entities: int) -> None:
        names = [str(n % entities) for n in range(10)]
        found = paired_difference([0, 1] * 5, [1, 1] * 5, names, np.random.default_rng(0))
        assert found == Estimate(0.5, 10)

    def test_unequal_lengths_are_refused(self) -> None:
        with pytest.raises(ValueError, match="equal lengths, got 1 and 2"):
            paired_difference([1], [1, 2], None, np.random.default_rng(0))


def test_ratio_difference_by_hand() -> None:
    before = (np.array([1.0, 0, 0, 1] * 2), np.ones(8))  # 4 of 8
    after = (np.array([1.0, 0, 0, 0] * 2), np.array([1.0, 0, 0, 0] * 2))  # 2 of 2
    found = ratio_difference(before, after, None, np.random.default_rng(0))
    assert found.value == pytest.approx(0.5)
    assert found.high is not None
    assert found.high <= 1.0


def test_ratio_of_nothing_is_undefined_and_has_no_interval() -> None:
    zeros = np.zeros(3)
    found = ratio_difference((np.ones(3), np.ones(3)), (zeros, zeros), None, np.random.default_rng(0))
    assert math.isnan(found.value)
    assert found.low is None


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_binomial_test(b: int, c: int) -> None:
    theirs = stats.binomtest(b, b + c).pvalue if b + c else 1.0
    assert mcnemar_exact(b, c) == pytest.approx(theirs)
    assert mcnemar_exact(b, c) == mcnemar_exact(c, b)


@pytest.mark.parametrize("df", [*range(1, 12), 30, 101, 1000])
def test_t_quantile_is_students(df: int) -> None:
    assert t_quantile(df) == pytest.approx(stats.t.ppf(0.975, df), rel=1e-9)


@pytest.mark.parametrize("values", [[0.1, 0.3], [0.1, -0.3, 0.2], [1.0, 1.1, 0.9, 1.05], [1.0, 2.0]])
def test_the_t_test_is_scipys(values):
    assert t_test(values) == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=1e-12)


def test_seeds_that_all_say_the_same_leave_no_doubt():
    assert (t_test([0.5, 0.5]), t_test([0.0, 0.0])) == (0.0, 1.0)


def test_mean_over_seeds_is_scipys() -> None:
    values = [0.5, 0.62, 0.57]
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    found = mean_t_interval(values)
    assert (found.value, found.n, found.low, found.high) == pytest.approx((np.mean(values), 3, low, high))


def test_a_single_seed_has_no_interval() -> None:
    assert mean_t_interval([0.5]) == Estimate(0.5, 1)


def test_estimates_survive_json() -> None:
    for estimate in (Estimate(0.5, 10, 0.2, 0.8), Estimate(1.5, 3)):
        assert Estimate.from_json(json.loads(json.dumps(estimate.to_json()))) == estimate


def test_an_undefined_estimate_is_null_in_json() -> None:
    row = undefined().to_json()
    assert row == {"value": None, "n": 0, "low": None, "high": None}
    assert math.isnan(Estimate.from_json(row).value)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_rejects_what_the_step_down_rule_rejects(p_values: list[float]) -> None:
    """Smallest first, p <= 5 % / (hypotheses left), until one is not."""
    rejected, order = set(), sorted(range(len(p_values)), key=lambda index: p_values[index])
    for left, index in zip(range(len(order), 0, -1), order, strict=True):
        if p_values[index] * left > 0.05:
            break
        rejected.add(index)
    adjusted = holm(p_values)
    assert {index for index, p in enumerate(adjusted) if p <= 0.05} == rejected
    assert all(ours >= p for ours, p in zip(adjusted, p_values, strict=True))


def test_items_needed_for_three_points() -> None:
    few = rate([True, False] * 200)
    needed = items_needed(few)
    assert needed is not None
    assert 1000 < needed < 1100, "1067 at one half, by the normal interval"
    low, high = wilson(0.5, needed)
    assert high - low == pytest.approx(0.06, abs=3e-4)
    assert items_needed(rate([True, False] * 600)) is None
    assert items_needed(Estimate(0.5, 3)) is None


class TestBootstrap:
    values: ClassVar[npt.NDArray[np.float64]] = np.random.default_rng(5).normal(2, 1, 300)

    def test_of_a_mean_is_the_normal_interval(self) -> None:
        clusters = [str(k) for k in range(300)]
        found = bootstrap(lambda chosen: float(self.values[chosen].mean()), clusters, np.random.default_rng(0))
        half = 1.96 * self.values.std() / math.sqrt(300)
        assert found.value == pytest.approx(self.values.mean())
        assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half), abs=0.03)

    def test_whole_clusters_are_drawn(self) -> None:
        seen: list[list[int]] = []
        names = list("abcdef") * 2
        bootstrap(lambda chosen: float(seen.append(chosen.tolist()) or 0), names, np.random.default_rng(0))
        assert len(seen) > 1
        for chosen in seen[1:]:
            assert len(chosen) == 12
            assert all(chosen.count(n) == chosen.count(n + 6) for n in range(6))

    def test_what_is_undefined_has_no_value_and_what_often_is_no_interval(self) -> None:
        rng = np.random.default_rng(0)
        assert bootstrap(lambda _: None, ["a", "b"], rng).n == 0
        assert bootstrap(lambda _: 1.0, ["a", "a"], rng) == Estimate(1.0, 2)
        found = bootstrap(lambda chosen: 1.0 if 0 in chosen else None, list("abcdef"), rng)
        assert found == Estimate(1.0, 6)
