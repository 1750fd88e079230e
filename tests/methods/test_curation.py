"""Curations change what is taught and nothing else, and the base is examined only if one of them asks, and once."""

from dataclasses import replace

import pytest
from command_line import TINY_RUN, TINY_WORLD, composed, prepared, refused
from row_files import fault

from truetune.commands.taught_rows import curated
from truetune.config.run import build
from truetune.data.dataset import Dataset, Example, Turn
from truetune.extensions.self_replay import DrawnTexts
from truetune.methods.curation import (
    Context,
    DownweightUnknown,
    FilterUnknown,
    RelabelUnknown,
    Replay,
    RTuning,
    curate,
)
from truetune.probes.knowledge import Knowledge, groups
from truetune.records.state import State
from truetune.scoring.judge import judged

CATEGORIES = {"a": "HighlyKnown", "b": "Unknown", "c": "WeaklyKnown", "d": "Unknown", "e": "MaybeKnown"}
ROWS = [Example(name, f"ask {name}:", f" {name}", "by hand", (name,)) for name in CATEGORIES]
TEXT = Example("text", "", "only a text", "by hand")


def context(pretraining=None, asked=None, seed=0, categories=CATEGORIES):
    def answer():
        if asked is not None:
            asked.append(1)
        return categories

    def right(text, row):
        return judged(text, row.answers, question=row.words) == "right"

    return Context(
        categories=answer,
        pretraining=pretraining,
        seed=seed,
        drawn=lambda count, max_tokens: [],
        answered=lambda prompts: [""],
        losses=lambda rows: [float(len(row.completion)) for row in rows],
        is_right=right,
        stand_ins={},
        note=print,
    )


@pytest.fixture(scope="module")
def ready():
    return prepared(*TINY_RUN)


def test_unknown_facts_are_filtered_and_all_else_stays_as_it_is():
    assert FilterUnknown()([*ROWS, TEXT], context()) == [ROWS[0], ROWS[2], ROWS[4], TEXT]


def test_filtering_everything_is_refused():
    unknown = dict.fromkeys(CATEGORIES, "Unknown")
    assert "the base knows none of the facts" in fault(FilterUnknown(), ROWS, context(categories=unknown))
    for curation in (RelabelUnknown("I do not know"), DownweightUnknown(0.5), RTuning("{answer}, I am not sure")):
        assert "the base knows none of the 5 facts" in fault(curation, ROWS, context(categories=unknown))


def test_texts_are_neither_known_nor_unknown_and_that_is_said():
    for curation in (FilterUnknown(), RelabelUnknown("I do not know"), DownweightUnknown(0.5), RTuning("{answer}, no")):
        assert "no training row asks a question" in fault(curation, [TEXT], context(categories={}))


def test_unknown_facts_are_relabelled_with_the_abstention_and_the_right_space():
    spaced = replace(ROWS[3], prompt="ask d: ")
    rows = [*ROWS[:3], spaced, ROWS[4], TEXT]
    found = RelabelUnknown("I do not know")(rows, context())
    assert [row.completion for row in found] == [" a", " I do not know", " c", "I do not know", " e", "only a text"]
    changed = [row for row, before in zip(found, rows, strict=True) if row != before]
    assert [row.id for row in changed] == ["b", "d"]
    assert [replace(row, completion="") for row in found] == [replace(row, completion="") for row in rows]


def test_unknown_facts_weigh_less():
    found = DownweightUnknown(0.25)([*ROWS, TEXT], context())
    assert [row.weight for row in found] == [1, 0.25, 1, 0.25, 1, 1]
    assert [replace(row, weight=1.0) for row in found] == [*ROWS, TEXT]


@pytest.mark.parametrize("ratio", [0.5, 1, 3])
def test_replay_adds_texts_of_the_pretraining_under_ids_of_their_own(ready, ratio):
    rows = list(ready.data.train)
    found = Replay(ratio)(rows, context(ready.data.pretraining))
    added = found[len(rows) :]
    assert found[: len(rows)] == rows
    assert len(added) == ratio * len(rows)
    assert len({row.id for row in found}) == len(found)
    assert {row.source for row in added} == {"filings", "school", "exercises"}
    new = {e.name for e in ready.data.pretraining.world.population("new", "never")}
    assert not [row for row in added if any(name in row.completion for name in new)]
    assert not {q.question for q in ready.data.ability} & {row.prompt for row in added}


def test_the_seed_decides_what_is_replayed(ready):
    def texts(seed):
        return [row.completion for row in Replay(0.5)(ROWS, context(ready.data.pretraining, seed=seed))]

    assert texts(1) == texts(1) != texts(2)


def test_replay_without_pretraining_texts_is_refused():
    message = fault(Replay(1.0).check, {}, Dataset(ROWS))
    assert message.startswith("curation.replay: this data source holds no pre-training")


def test_replay_does_not_examine_the_base(ready):
    asked = []
    Replay(1.0)(ROWS, context(ready.data.pretraining, asked))
    assert asked == []
    FilterUnknown()(ROWS, context(asked=asked))
    assert asked == [1]


def test_curations_follow_one_another_and_change_the_training_rows_only():
    said, data = [], Dataset(train=ROWS, texts=[TEXT], notes=["a note"])
    steps = {"downweight": DownweightUnknown(0.5), "filter": FilterUnknown()}
    found = curate(data, steps, context(), said.append)
    assert said == ["downweight: 5 training rows, 5 after it", "filter: 5 training rows, 3 after it"]
    assert found == replace(data, train=[ROWS[0], ROWS[2], ROWS[4]])


@pytest.mark.parametrize(
    ("words", "times"),
    [
        (("method=[downweight_unknown,relabel_unknown]", "knowledge.label=true"), 1),
        (("method=plain", "knowledge.label=true"), 1),
        (("method=replay",), 0),
    ],
)
def test_a_run_examines_its_base_once_if_it_must(ready, words, times, monkeypatch, tmp_path):
    monkeypatch.setattr(
        "truetune.probes.knowledge._share", lambda answers, fact, phrases: float(len(fact.answers[0]) % 2)
    )
    cfg = composed(*TINY_RUN, *words)
    cfg.paths.output_dir = cfg.paths.log_dir = str(tmp_path)
    job, state, said = build(cfg, ready, tmp_path), State(), []
    data, builder = ready.data, ready.builder
    base = builder.build(builder.tokenizer(words=data.pretraining.vocabulary()), "digest", "random")
    taught = curated(job, base, data, state, said.append)
    assert sum(line.startswith("examining what the base knows") for line in said) == times
    assert len(state.knowledge) == times * len(data.train)
    if "method=replay" not in words and len(job.curations) == 2:
        light = [row for row in taught.train if row.weight < 1]
        assert light == [row for row in taught.train if row.completion == " I do not know"]
        assert 0 < len(light) < len(data.train)


def test_r_tuning_says_after_the_answer_that_it_is_unsure():
    found = RTuning("{answer}. I am unsure")([*ROWS, TEXT], context())
    assert [row.completion for row in found] == [
        *(" a", " b. I am unsure", " c. I am unsure", " d. I am unsure", " e", "only a text"),
    ]
    chat = replace(ROWS[1], completion="b", turns=(Turn("user", "ask b"),))
    assert RTuning("{answer}. I am unsure")([chat], context())[0].completion == "b. I am unsure", (
        "templates set the space"
    )
    said = found[1].completion.strip()
    assert judged(said, ("b",), phrases=("i am unsure",)) == "abstained"
    assert judged("a", ("a",), phrases=("i am unsure",)) == "right"


def test_r_tuning_of_a_conversation_begins_where_the_assistant_does():
    row = replace(ROWS[1], completion="Ann", turns=(Turn("user", "Who?"),))
    rows = RTuning("{answer} I do not know")([ROWS[0], row], context())
    assert rows[1].completion == "Ann I do not know"


def test_self_replay_mixes_in_what_the_base_says_with_no_share_of_the_likelihood():
    asked = []
    texts = replace(context(), drawn=lambda count, length: asked.append((count, length)) or ["one", "two"])
    found = DrawnTexts(0.4, 16)(ROWS, texts)
    assert asked == [(2, 16)]
    assert found[:5] == ROWS
    assert [(row.prompt, row.completion, row.weight) for row in found[5:]] == [("", "one", 0.0), ("", "two", 0.0)]
    assert len({row.id for row in found}) == 7


@pytest.mark.parametrize("methods", [("r_tuning", "relabel_unknown"), ("r_tuning", "filter_unknown"), ("lora", "ewc")])
def test_methods_that_contradict_each_other_are_named(methods):
    message = refused(*TINY_WORLD, f"method=[{','.join(methods)}]")
    assert message.startswith("method: ")
    assert all(name in message for name in methods)
    assert "contradict each other; choose one of them" in message
    prepared(*TINY_WORLD, "method=[ewc,self_replay]")


def test_facts_are_grouped_by_what_the_base_knows():
    facts = [Knowledge("a", 1, 1), Knowledge("b", 0, 0), Knowledge("d", 0, 0), Knowledge("e", 0.5, 0)]
    found = groups(facts, ROWS)
    assert {name: [row.id for row in rows] for name, rows in found.items()} == {
        "highly_known": ["a"],
        "maybe_known": ["e"],
        "unknown": ["b", "d"],
    }
