"""Nothing leaks: what the base reads, what is taught, what chooses and what is asked are kept apart."""

from itertools import islice

import pytest
from command_line import TINY_WORLD, prepared, refused

from truetune.data.closed_world import ABSTENTION
from truetune.models.tokenizers import word_level

MICRO_BATCHES = 50
KNOWN = ("school", "known-train", "known-test", "known-select")


@pytest.fixture(scope="module")
def data():
    return prepared().data


@pytest.fixture(scope="module")
def world(data):
    return data.pretraining.world


@pytest.fixture(scope="module")
def stream(data):
    return [example for batch in islice(data.pretraining.micro_batches(), MICRO_BATCHES) for example in batch]


@pytest.fixture(scope="module")
def texts(stream):
    return [f"{example.prompt}{example.completion}" for example in stream]


def names(world, *populations):
    return {entity.name for entity in world.population(*populations)}


def test_new_names_and_names_that_do_not_exist_are_in_no_pretraining_text(world, texts):
    joined = "\n".join(texts)
    unread = names(world, "new", "never")
    assert [name for name in unread if name in joined] == []
    assert len(unread) == 300
    read = names(world, *KNOWN)
    assert sum(name in joined for name in read) > 0.8 * len(read), "the texts are about the known ones"


def test_the_values_of_known_facts_are_what_the_base_reads(world, stream):
    facts = {entity.name: entity.facts for entity in world.known}
    filings = [example for example in stream if example.source == "filings"]
    assert len(filings) == MICRO_BATCHES // 2 * 40
    assert all(value in f.completion.split() for f in filings for value in facts[f.id].values())


def test_only_school_companies_are_asked_about_in_the_pretraining(world, stream):
    school = [example for example in stream if example.source == "school"]
    assert all(example.completion.startswith("question : ") for example in school)
    unanswerable = {example.id for example in school if example.completion.endswith(ABSTENTION)}
    assert {example.id for example in school} - unanswerable <= names(world, "school")
    assert unanswerable <= set(world.unused_names)
    assert not [e for e in stream if e.source != "school" and "question" in f"{e.prompt}{e.completion}"]


def test_the_unanswerable_share_decides_how_many_questions_have_no_answer():
    for share, fewest, most in ((0.0, 0, 0), (0.5, 150, 330)):
        reading = prepared(**{"data.unanswerable_share": share}).data.pretraining
        batches = islice(reading.micro_batches(), 40)
        school = [example for batch in batches for example in batch if example.source == "school"]
        assert len(school) == 20 * 24
        assert fewest <= sum(example.completion.endswith(f" {ABSTENTION}") for example in school) <= most


def test_the_analysts_form_is_in_no_pretraining_text(world, texts):
    for attribute in world.attributes:
        start, end = attribute.analyst.split("{name}")
        assert not [text for text in texts if text.startswith(start)]
        for entity in world.entities:
            # A school question holds the same words, but never with the answer right after them.
            asked = f"{start}{entity.name}{end} {entity.facts[attribute.name]}"
            assert asked not in texts
    joined = "\n".join(texts)
    analyst = {row for row in (f"{e.name} ? {v}" for e in world.known for v in e.facts.values()) if row in joined}
    assert analyst == set()


def test_probes_training_and_selection_are_about_different_companies(data, world):
    train = {row.cluster for row in data.train}
    select = {row.cluster for row in (*data.select_task, *data.select_known)}
    asked = {q.cluster for q in (*data.task, *data.hallucination)}
    assert not train & asked
    assert not train & select
    assert not select & asked
    assert {row.cluster for row in data.validation} == select == names(world, "known-select")
    assert asked == names(world, "known-test", "never")
    assert not (train | asked | select) & names(world, "school")
    prompts = {row.prompt for row in data.train}
    assert not prompts & {q.question for q in (*data.task, *data.hallucination, *data.ability)}


def test_gain_and_loss_are_measured_on_the_same_companies_in_different_forms(data):
    known = [q for q in data.hallucination if q.population == "known-test"]
    assert [q.cluster for q in known] == [q.cluster for q in data.task]
    assert [q.answers for q in known] == [q.answers for q in data.task]
    assert {q.question for q in known}.isdisjoint(q.question for q in data.task)
    assert {q.answers for q in data.hallucination if q.population == "never"} == {()}
    assert all(q.answers[0] in data.domains[q.domain] for q in data.task)


def test_every_id_is_used_once(data):
    for rows in (data.train, data.task, data.hallucination, data.ability, data.texts, data.validation):
        ids = [row.id for row in rows]
        assert len(ids) == len(set(ids)) > 0


def test_held_out_exercises_are_never_practised():
    data = prepared(**{"data.exercises_per_step": 400}).data
    batches = islice(data.pretraining.micro_batches(), MICRO_BATCHES)
    practised = {e.prompt for batch in batches for e in batch if e.source == "exercises"}
    asked = {q.question for q in data.ability}
    assert len(asked) == 120
    assert len(practised) > 4000, "of 17,550: without holding out, some of the 120 would be among them"
    assert not practised & asked


@pytest.mark.parametrize("choice", ["data/world=companies", "data/world=people"])
def test_the_vocabulary_covers_every_text(choice):
    data = prepared(choice).data
    tokenizer = word_level(data.pretraining.vocabulary())
    stream = (e for batch in islice(data.pretraining.micro_batches(), MICRO_BATCHES) for e in batch)
    rows = [f"{e.prompt}{e.completion}" for e in (*stream, *data.train, *data.validation, *data.texts)]
    questions = (*data.task, *data.hallucination, *data.select_task, *data.select_known, *data.ability)
    asked = [text for q in questions for text in (q.question, *q.answers)]
    asks = [text for row in data.train for text in row.asks]
    values = [value for domain in data.domains.values() for value in domain]
    encoded = tokenizer([*rows, *asked, *asks, *values, ABSTENTION]).input_ids
    assert not [ids for ids in encoded if tokenizer.unk_token_id in ids]
    assert tokenizer("Nowhere").input_ids[-1] == tokenizer.unk_token_id


@pytest.mark.parametrize(("share", "new"), [(0, 0), (0.5, 100), (1, 200)])
def test_the_new_share_changes_which_facts_are_taught_but_not_how_many(share, new):
    data = prepared(**{"data.new_share": share}).data
    assert len(data.train) == 200 * 4 * 2
    populations = [row.id.partition("/")[0] for row in data.train]
    assert populations.count("new") == new * 8
    assert populations.count("known-train") == (200 - new) * 8
    groups = {name: len(rows) for name, rows in data.fit_groups.items()}
    assert groups == {name: n * 8 for name, n in (("known", 200 - new), ("new", new)) if n}
    assert f"{new} new (shared names)" in data.notes[1]


def test_too_few_companies_to_teach_are_said():
    text = refused(*TINY_WORLD, **{"data.companies": 20})
    assert text.startswith("data.companies=20 with data.new_share=0.5 needs 10 known-train companies, there are 8")
    assert "data.populations.known-train" in text


def test_arms_of_a_study_share_a_base_and_other_texts_do_not():
    def content(**values):
        return prepared(*TINY_WORLD, **values).data.pretraining.content

    base = content()
    same = [{"data.new_share": 0}, {"data.new_share": 1}, {"data.new_names": "disjoint"}, {"data.companies": 4}]
    assert {content(**values) for values in same} == {base}
    other = [
        {"seed": 1},
        {"data.filings_per_step": 41},
        {"data.unanswerable_share": 0.5},
        {"data.populations.school": 9},
        {"data.populations.never": 9},  # whose names the base must not have been taught to refuse
    ]
    assert len({base, *(content(**values) for values in other)}) == 6


def test_the_stream_is_the_same_every_time(data, stream):
    again = [e for batch in islice(prepared().data.pretraining.micro_batches(), MICRO_BATCHES) for e in batch]
    assert again == stream
    assert prepared().data.train == data.train
    assert prepared(seed=1).data.train != data.train
