import pytest
from hypothesis import given
from hypothesis import strategies as st

from truetune.scoring.balance import balance_score, gained_share_of_headroom, non_dominated


def test_the_front_by_hand() -> None:
    assert non_dominated([(0, 1), (1, 0), (0.5, 0.5), (0.4, 0.5), (0.5, 0.5)]) == [True, True, True, False, True]


def test_no_points_no_front() -> None:
    assert non_dominated([]) == []


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=20))
def test_some_point_is_always_on_the_front_and_swapping_axes_keeps_it(points: list[tuple[float, float]]) -> None:
    front = non_dominated(points)
    assert any(front)
    assert front == non_dominated([(y, x) for x, y in points])


def test_gained_share_by_hand() -> None:
    assert gained_share_of_headroom(0.2, 0.6) == pytest.approx(0.5)
    assert gained_share_of_headroom(0.5, 0.25) == pytest.approx(-0.5)


def test_a_perfect_base_leaves_nothing_to_gain() -> None:
    assert gained_share_of_headroom(1.0, 1.0) is None
    assert balance_score(None, 1.0) is None


def test_score_is_the_harmonic_mean() -> None:
    assert balance_score(0.5, 1.0) == pytest.approx(2 / 3)
    assert balance_score(1.0, 1.0) == 1.0


@pytest.mark.parametrize(("gain", "kept"), [(0.0, 1.0), (-0.5, 1.0), (1.0, 0.0)])
def test_no_gain_or_nothing_kept_scores_zero(gain: float, kept: float) -> None:
    assert balance_score(gain, kept) == 0.0
