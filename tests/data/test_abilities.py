"""Instructions made by program: each can be met, none is asked twice, and a seed decides them all."""

import random
from collections import Counter

import pytest

from truetune.data.abilities import FAMILIES, abilities, answered, drawn
from truetune.scoring.rules import meets


@pytest.mark.parametrize("family", FAMILIES)
def test_every_instruction_has_an_answer_that_meets_its_rule_and_empty_ones_do_not(family):
    rng = random.Random(7)
    for _ in range(200):
        instruction, rule, answer = drawn(family, rng)
        assert meets(answer, rule), (instruction, rule, answer)
        assert not meets("", rule), rule
        assert not meets("I'm sorry, but I cannot help you with that.", rule), rule


def test_three_hundred_different_ones_in_equal_families_are_decided_by_the_seed():
    questions = abilities(0, 300)
    assert len({q.words for q in questions}) == len({q.id for q in questions}) == 300
    assert questions == abilities(0, 300) != abilities(1, 300)
    counts = Counter(q.population for q in questions)
    assert set(counts) == set(FAMILIES)
    assert min(counts.values()) >= 10
    assert all(q.rule and q.words in q.question and not q.answers for q in questions)


def test_the_first_part_holds_all_families():
    assert {q.population for q in abilities(0, 300)[: len(FAMILIES)]} == set(FAMILIES)


def test_what_is_shown_before_is_answered_rightly():
    shots = answered(0, 5)
    assert set(shots) == set(FAMILIES)
    assert all(len(rows) == 5 and all(row.completion.startswith(" ") for row in rows) for rows in shots.values())
