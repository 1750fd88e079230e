import math

import numpy as np
import pytest

from truetune.errors import UserError
from truetune.scoring.item import Item
from truetune.scoring.lost_and_kept import backward_transfer, join, kept, lost, refused


def item(key: str, outcome: str, answer: str = "Oslo", answers: tuple[str, ...] = ("Riga",), **more: str) -> Item:
    return Item(key, f"Where is {key}?", answers, answer, outcome, **more)


BEFORE = [item("a", "right"), item("b", "right"), item("c", "wrong"), item("d", "wrong"), item("e", "abstained")]
AFTER = [item("e", "right"), item("d", "wrong"), item("c", "right"), item("b", "abstained"), item("a", "right")]


def test_join_pairs_by_id_whatever_the_order() -> None:
    assert [(one.id, two.id) for one, two in join(BEFORE, AFTER)] == [(key, key) for key in "abcde"]


def test_join_names_what_only_one_measurement_asked() -> None:
    with pytest.raises(UserError, match=r"5 and 3 items, 4 of them in one only \(such as c, d, e\)"):
        join(BEFORE, [item("a", "right"), item("b", "right"), item("x", "right")])


def test_join_refuses_an_id_used_twice() -> None:
    with pytest.raises(UserError, match="such as a"):
        join([item("a", "right"), item("a", "wrong")], [item("a", "right")])


def test_lost_and_kept_by_hand() -> None:
    assert (lost(BEFORE, AFTER).value, lost(BEFORE, AFTER).n) == (0.5, 2)
    assert (kept(BEFORE, AFTER).value, kept(BEFORE, AFTER).n) == (0.5, 2)


def test_a_refusal_of_what_was_known_is_counted_apart() -> None:
    assert (refused(BEFORE, AFTER).value, refused(BEFORE, AFTER).n) == (0.5, 2)  # b, but not a
    assert refused(BEFORE, BEFORE).value == 0, "e was refused before: nothing says that it was known"


def test_lost_and_kept_add_to_one() -> None:
    assert lost(BEFORE, AFTER).value + kept(BEFORE, AFTER).value == 1


def test_nothing_changes_between_equal_measurements() -> None:
    assert lost(BEFORE, BEFORE).value == 0


def test_who_knew_nothing_can_lose_nothing() -> None:
    ignorant = [item("a", "wrong")]
    assert lost(ignorant, ignorant).n == 0
    assert math.isnan(lost(ignorant, ignorant).value)


def test_backward_transfer_is_the_mean_over_tasks_not_over_items() -> None:
    def rows(outcomes: dict[str, str]) -> list[Item]:
        return [
            Item(f"{task}{k}", "?", ("a",), "b", "right" if letter == "r" else "wrong", population=task)
            for task, letters in outcomes.items()
            for k, letter in enumerate(letters * 9)
        ]

    before, after = rows({"copy": "rrrr", "sort": "rw"}), rows({"copy": "wwrr", "sort": "rr"})
    found = backward_transfer(before, after, np.random.default_rng(0))
    assert found.value == pytest.approx((-1 / 2 + 1 / 2) / 2)
    assert found.n == 54
    same = backward_transfer(before, before, np.random.default_rng(0))
    assert (same.value, same.low, same.high) == (0, 0, 0)
    assert backward_transfer(after, before, np.random.default_rng(0)).value == pytest.approx(-found.value)
