"""Agreement and entropy of repeated answers: by hand, at their limits, against scipy."""

import math

import pytest
from scipy.stats import entropy

from truetune.extensions.sampling import meanings, same_answer, self_agreement, semantic_entropy


def test_answers_of_one_meaning_are_one():
    assert meanings(["Rome", "the Rome!", "Oslo", "rome", "Oslo."]) == [0, 0, 1, 0, 1]
    assert same_answer("A", "a")
    assert not same_answer("", "the ,") or same_answer("the ,", "")


def test_entropy_by_hand_and_by_scipy():
    assert semantic_entropy(["a b", "A b", "c", "d"]) == pytest.approx(entropy([2, 1, 1]))
    assert semantic_entropy(["x"] * 7) == 0
    assert semantic_entropy([f"w{n}" for n in range(10)]) == pytest.approx(math.log(10))


def test_the_order_of_answers_does_not_matter():
    answers = ["a1", "b", "a1", "c", "b", "a1"]
    assert semantic_entropy(answers) == pytest.approx(semantic_entropy(answers[::-1]))


def test_another_equivalence_can_be_plugged_in():
    first_letter = lambda one, other: one[:1] == other[:1]  # noqa: E731
    assert semantic_entropy(["Rome", "Riga", "Oslo", "Odessa"], first_letter) == pytest.approx(math.log(2))
    assert self_agreement("Rome", ["Riga", "Oslo"], first_letter) == 0.5


def test_agreement_is_a_share():
    assert self_agreement("Rome", ["rome", "Oslo", "Rome.", ""]) == 0.5
    assert self_agreement("Rome", ["rome"]) == 1
    with pytest.raises(ValueError, match="at least one"):
        self_agreement("Rome", [])
    with pytest.raises(ValueError, match="at least one"):
        semantic_entropy([])
