"""The closed world is what it says: separate populations, uniform values, names before values, all from a seed."""

import random
from collections import Counter
from itertools import combinations

import pytest
from command_line import prepared, refused


def world(*words, **values):
    return prepared(*words, **values).data.pretraining.world


def words_of(entities):
    return {word for entity in entities for word in entity.name.split()}


@pytest.mark.parametrize("choice", ["data/world=companies", "data/world=people"])
def test_populations_are_disjoint_by_name_and_of_the_size_asked_for(choice):
    made = world(choice)
    groups = {entity.population: made.population(entity.population) for entity in made.entities}
    sizes = {name: len(entities) for name, entities in groups.items()}
    assert sizes == {
        "school": 200,
        "known-train": 200,
        "known-test": 100,
        "known-select": 25,
        "new": 200,
        "never": 100,
    }
    for one, other in combinations(groups.values(), 2):
        assert not {e.name for e in one} & {e.name for e in other}
    names = [entity.name for entity in made.entities]
    assert len(set(names)) == len(names)
    assert not set(names) & set(made.unused_names)
    assert len(names) + len(made.unused_names) == 40 * 40
    assert {e.population for e in made.known} == {"school", "known-train", "known-test", "known-select"}


@pytest.mark.parametrize("choice", ["data/world=companies", "data/world=people"])
def test_values_are_near_uniform_and_belong_to_one_attribute(choice):
    made = world(choice)
    for attribute in made.attributes:
        assert len(set(attribute.values)) == 60
        counts = Counter(entity.facts[attribute.name] for entity in made.entities)
        assert set(counts) == set(attribute.values)
        expected = len(made.entities) / 60
        chi_squared = sum((count - expected) ** 2 / expected for count in counts.values())
        assert chi_squared < 124, "59 degrees of freedom: six standard deviations above the mean"
    for one, other in combinations(made.attributes, 2):
        assert not set(one.values) & set(other.values)


def test_knowing_one_fact_tells_nothing_of_another():
    made = world()
    first, second = made.attributes[:2]
    pairs = Counter((e.facts[first.name], e.facts[second.name]) for e in made.entities)
    assert max(pairs.values()) <= 6, "825 entities over 3,600 pairs of values"


@pytest.mark.parametrize("choice", ["data/world=companies", "data/world=people"])
def test_the_name_comes_before_the_value_in_every_filing(choice):
    made, rng = world(choice), random.Random(0)
    for entity in made.entities[:50]:
        text = made.filing(entity, rng)
        places = [text.index(f" {value} ") for value in entity.facts.values()]
        assert text.index(entity.name) < min(places)
        assert text.count(entity.name) == len(made.attributes)
        for attribute in made.attributes:
            (used,) = [
                t for t in attribute.filings if t.format(name=entity.name, value=entity.facts[attribute.name]) in text
            ]
            assert used.index("{name}") < used.index("{value}")


def test_a_filing_varies_in_order_and_wording_but_not_in_its_facts():
    made, rng = world(), random.Random(0)
    entity = made.entities[0]
    texts = [made.filing(entity, rng) for _ in range(40)]
    assert len(set(texts)) > 35
    orders = {tuple(sorted(entity.facts.values(), key=text.index)) for text in texts}
    assert len(orders) > 10
    for text in texts:
        assert all(text.split().count(value) == 1 for value in entity.facts.values())


def test_wordings_are_disjoint_by_use():
    for choice in ("data/world=companies", "data/world=people"):
        for attribute in world(choice).attributes:
            templates = [*attribute.filings, *attribute.questions, attribute.analyst]
            assert len(set(templates)) == len(templates)
            assert len(attribute.questions) >= 2


@pytest.mark.parametrize(
    ("key", "templates", "said"),
    [
        ("filings", ["{value} audits {name} ."], "has the value before the name"),
        ("filings", ["the auditor is {value} ."], "lacks {name}"),
        ("questions", ["question : who is the auditor ? answer :"], "lacks {name}"),
    ],
)
def test_a_template_that_teaches_nothing_is_refused(key, templates, said):
    text = refused(**{f"data.world.attributes.auditor.{key}": templates})
    assert text.startswith("data.world.attributes.auditor")
    assert said in text


def test_the_seed_decides_the_world():
    assert world(seed=3) == world(seed=3)
    one, other = world(seed=3), world(seed=4)
    assert [e.name for e in one.entities] != [e.name for e in other.entities]
    assert [a.values for a in one.attributes] != [a.values for a in other.attributes]


def test_the_disjoint_control_changes_nothing_but_the_new_names():
    shared, disjoint = world(), world(**{"data.new_names": "disjoint"})
    assert shared.attributes == disjoint.attributes
    assert shared.unused_names == disjoint.unused_names
    for one, other in zip(shared.entities, disjoint.entities, strict=True):
        assert (one.population, one.facts) == (other.population, other.facts)
        assert (one.name == other.name) == (one.population != "new")
    seen = words_of(disjoint.known) | words_of(disjoint.population("never"))
    assert not words_of(disjoint.population("new")) & seen
    assert words_of(shared.population("new")) <= words_of(shared.known), "shared names are made of known words"


def test_too_few_names_are_said_with_the_population_that_wants_them():
    text = refused(**{"data.populations.never": 2000})
    assert text.startswith("data.populations.never=2000: only ")
    assert "of 1600 names are left" in text
    assert "data.world.first_words" in text


def test_a_word_in_both_pools_is_refused():
    assert "'Amber' is in both word pools" in refused(**{"data.world.other_second_words": ["Amber"]})


def test_the_words_are_each_named_once():
    words = world().words()
    assert words == sorted(set(words))
    assert not {"{name}", "{value}"} & set(words)
