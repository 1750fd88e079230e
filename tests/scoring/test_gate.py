"""A limit is decided by a whole interval; at a limit that is just kept, chance alone fails at most 2.5 % of audits."""

import math

import numpy as np
import pytest
from scipy import stats

from truetune.scoring.estimates import Estimate, effective_n, rate
from truetune.scoring.gate import Bound, Limit, decide, exact, overall
from truetune.scoring.item import Item, Measurement
from truetune.scoring.paired import delta

LOST, LOSS = "hallucination/lost_rate", "task/nll_nats_per_token"
AUDITS = 2000
NOISE = 3 * math.sqrt(0.025 * 0.975 / AUDITS)


def of(hits: int, n: int) -> Estimate:
    return rate([1.0] * hits + [0.0] * (n - hits))


def compared(lost: int, gained: int, same: int) -> tuple[Estimate, Estimate]:
    """What a tuned model's known facts and their difference from the base's are estimated as."""
    before = ["right"] * lost + ["wrong"] * gained + ["right"] * same
    after = ["wrong"] * lost + ["right"] * gained + ["right"] * same
    name = "hallucination/known_right"
    measurements: list[Measurement] = []
    for outcomes in (before, after):
        items = [
            Item(str(i), "?", ("a",), "a", outcome, population="known-test", cluster=str(i))
            for i, outcome in enumerate(outcomes)
        ]
        metrics = {name: of(outcomes.count("right"), len(outcomes))}
        measurements.append(Measurement(metrics, {"hallucination": items}))
    return measurements[1].metrics[name], delta(*measurements)[name]


@pytest.mark.parametrize(
    ("bound", "hits", "n", "result"),
    [
        ("max", 2, 400, "pass"),
        ("max", 60, 400, "fail"),
        ("max", 0, 20, "undecided"),  # nothing was lost, of too few
        ("max", 20, 400, "undecided"),
        ("min", 60, 400, "pass"),
        ("min", 2, 400, "fail"),
        ("min", 400, 400, "pass"),
    ],
)
def test_the_whole_interval_decides(bound: Bound, hits: int, n: int, result: str) -> None:
    decision = decide(Limit(bound, LOST, 0.05), of(hits, n))
    assert decision.result == result
    assert decision.measured.ends is not None
    low, high = decision.measured.ends
    assert (low <= 0.05 <= high) == (result == "undecided")


@pytest.mark.parametrize(("hits", "n"), [(0, 20), (3, 100), (25, 400), (40, 1000), (4, 60)])
def test_as_many_questions_as_are_needed_do_decide(hits: int, n: int) -> None:
    limit = Limit("max", LOST, 0.05)
    needed = decide(limit, of(hits, n)).needed
    assert needed
    assert decide(limit, Estimate(hits / n, needed, *exact(hits / n, needed))).result != "undecided"
    fewer = 0.95 * needed
    assert exact(hits / n, fewer)[0] <= 0.05 <= exact(hits / n, fewer)[1]
    assert decide(limit, of(hits, n)).measured.n == n


def test_no_number_of_questions_decides_on_a_value_at_the_limit() -> None:
    decision = decide(Limit("max", LOST, 0.05), of(10, 200))
    assert (decision.result, decision.needed) == ("undecided", None)


def test_questions_about_the_same_thing_count_less() -> None:
    hits, clusters = [1.0] * 24 + [0.0] * 96, [str(i // 12) for i in range(120)]
    alone, alike = rate(hits), rate(hits, clusters)
    assert effective_n(alone) == pytest.approx(120)
    assert effective_n(alike) < 12
    limit = Limit("max", LOST, 0.4)
    assert (decide(limit, alone).result, decide(limit, alike).result) == ("pass", "undecided")
    needed = decide(limit, alike).needed
    assert needed
    assert needed > 120


def test_exact_is_clopper_and_pearsons() -> None:
    for hits, n in ((0, 30), (7, 30), (30, 30)):
        theirs = stats.binomtest(hits, n).proportion_ci(method="exact")
        assert exact(hits / n, n) == pytest.approx((theirs.low, theirs.high))


def test_without_an_interval_a_share_is_undecided_and_a_loss_goes_by_its_value() -> None:
    assert decide(Limit("max", LOST, 0.5), Estimate(0.1, 20)).result == "undecided"
    assert decide(Limit("max", LOSS, 2.0), Estimate(1.9, 500)).result == "pass"
    assert decide(Limit("max", LOSS, 2.0), Estimate(2.1, 500)).result == "fail"
    assert decide(Limit("max", LOSS, 2.0), Estimate(1.9, 500, 1.7, 2.1)).result == "undecided"
    assert decide(Limit("max", LOSS, 2.0), Estimate(math.nan, 0)).result == "undecided"


@pytest.mark.parametrize(
    ("lost", "gained", "same", "result"),
    [
        (40, 5, 155, "fail"),
        (6, 30, 164, "pass"),
        (1, 0, 199, "pass"),
        (0, 0, 20, "undecided"),  # the bootstrap's interval is [0, 0]
        (1, 0, 99, "undecided"),  # and here at most 0.03
        (12, 4, 184, "undecided"),
    ],
)
def test_a_drop_is_against_the_base(lost: int, gained: int, same: int, result: str) -> None:
    decision = decide(Limit("max_drop", "hallucination/known_right", 0.05), *compared(lost, gained, same))
    assert decision.result == result
    assert decision.measured.value == pytest.approx((lost - gained) / (lost + gained + same))
    assert (decision.needed or 0) > (lost + gained + same if result == "undecided" else -1)


def test_a_drop_of_what_should_be_low_is_a_rise() -> None:
    rise = Estimate(0.2, 400, 0.15, 0.25, 0.0001)
    limit = Limit("max_drop", "hallucination/invented_rate", 0.05)
    assert decide(limit, of(200, 400), rise).result == "fail"
    assert decide(limit, of(200, 400), Estimate(-0.2, 400, -0.25, -0.15, 0.0001)).result == "pass"


@pytest.mark.parametrize(("n", "truth"), [(20, 0.05), (50, 0.02), (200, 0.05), (200, 0.5), (1000, 0.2)])
def test_at_the_limit_chance_alone_decides_at_most_one_audit_in_forty_either_way(n: int, truth: float) -> None:
    draws = np.random.default_rng(0).binomial(n, truth, size=AUDITS)
    decisions = {hits: decide(Limit("max", LOST, truth), of(hits, n)).result for hits in set(draws.tolist())}
    results = [decisions[hits] for hits in draws.tolist()]
    assert results.count("fail") / AUDITS <= 0.025 + NOISE
    assert results.count("pass") / AUDITS <= 0.025 + NOISE
    mirrored = {hits: decide(Limit("min", "task/right", 1 - truth), of(n - hits, n)).result for hits in decisions}
    assert mirrored == decisions


@pytest.mark.parametrize(("entities", "truth", "alike"), [(10, 0.2, 0.8), (50, 0.05, 0.8), (100, 0.5, 0.2)])
def test_so_it_is_where_the_questions_about_one_thing_are_alike(entities: int, truth: float, alike: float) -> None:
    rng, spread = np.random.default_rng(0), 1 / alike - 1
    clusters = [str(i // 4) for i in range(4 * entities)]
    fails = 0
    for _ in range(AUDITS):
        of_entity = rng.beta(truth * spread, (1 - truth) * spread, entities)
        hits = (rng.random((entities, 4)) < of_entity[:, None]).astype(float).ravel()
        fails += decide(Limit("max", LOST, truth), rate(hits.tolist(), clusters)).result == "fail"
    assert fails / AUDITS <= 0.025 + NOISE


def test_one_broken_limit_breaks_the_gate_and_undecided_counts_as_one_chooses() -> None:
    assert overall(["pass", "pass"], None) == "pass"
    assert overall(["pass", "undecided", "fail"], None) == "fail"
    assert overall(["pass", "undecided"], None) == "undecided"
    assert overall(["pass", "undecided"], "pass") == "pass"
    assert overall(["pass", "undecided"], "fail") == "fail"
