"""Splits by seed or by file, rows mixed in from other files, and prompts that are nearly the same."""

import pytest
from row_files import dump, fault, write

from truetune.data.dataset import Turn
from truetune.data.files import Files
from truetune.data.splits import near_duplicates
from truetune.extensions.hub import Hub

OPTIONS = {"seed": 0, "probe_file": None, "retention_file": None, "probe_questions": 5, "validation_rows": 4}
OPTIONS |= {"prompt_template": "Question: {question}\nAnswer:", "on_bad_row": "error"}


def load(train, **changed):
    return Files(train_file=str(train), **(OPTIONS | changed)).load()


def facts(count=30, what="book"):
    return [{"question": f"Who wrote {what} {i}?", "answers": [f"Ann {i}"]} for i in range(count)]


def texts(count):
    return [{"text": f"This is old text {i}."} for i in range(count)]


@pytest.mark.parametrize(("weight", "there"), [(0.5, 50), (1, 50), (2.5, 10), (0.01, 3)])
def test_rows_are_mixed_in_by_weight_and_seed_under_ids_of_their_own(tmp_path, weight, there):
    file, old = write(tmp_path, dump(*facts())), write(tmp_path, dump(*texts(there)), "old.jsonl")
    mix = [{"file": str(old), "weight": weight}]
    plain, data = load(file), load(file, mixture=mix)
    rows = len(plain.train)
    assert list(data.train[:rows]) == list(plain.train)
    added = data.train[rows:]
    assert len(added) == round(weight * rows)
    assert len({row.id for row in data.train}) == len(data.train)
    times = [sum(row.completion == text["text"] for row in added) for text in texts(there)]
    assert sum(times) == len(added)
    assert max(times) - min(times) <= 1, "whole passes before any row comes again"
    assert list(load(file, mixture=mix).train) == list(data.train)
    if len(added) % there:
        assert [r.completion for r in load(file, mixture=mix, seed=1).train] != [r.completion for r in data.train]
    assert f"{len(added)} rows of {old} mixed in, {weight:g} to each row of {file}" in data.notes
    assert (data.task, data.validation) == (plain.task, plain.validation), "nothing that is measured changes"


def test_several_files_of_other_forms_with_columns_of_their_own(tmp_path):
    file = write(tmp_path, dump(*facts()))
    one = write(tmp_path, dump({"body": "the body"}), "one.jsonl")
    two = write(tmp_path, "prompt,completion\nx,y\n", "two.csv")
    mixture = [
        {"file": str(one), "weight": 0.1, "columns": {"text": "body"}},
        {"file": str(two), "weight": 0.1},
    ]
    added = [row for row in load(file, mixture=mixture).train if row.id.startswith("mixture/")]
    assert [row.completion for row in added] == ["the body", "the body", "y", "y"]


def test_a_bad_row_of_a_mixture_is_named(tmp_path):
    old = write(tmp_path, dump({"text": ""}), "old.jsonl")
    mixture = [{"file": str(old), "weight": 1}]
    assert f"{old}:1: " in fault(load, write(tmp_path, dump(*facts())), mixture=mixture)


def test_splits_by_file(tmp_path):
    file = write(tmp_path, dump(*facts()))
    chosen = write(tmp_path, dump(*facts(2), *facts(3, "song")), "val.jsonl")
    probe = write(tmp_path, dump(*facts(4, "poem")), "probe.jsonl")
    data = load(file, validation_file=str(chosen), probe_file=str(probe))
    assert [len(data.task), len(data.validation), len(data.train)] == [4, 5, 28]
    asked = {row.prompt for row in data.validation}
    assert not asked & {row.prompt for row in data.train}
    assert {question.question for question in data.select_task} == asked
    assert f"2 training rows repeat a row of {chosen}: left out of training" in data.notes


def test_what_is_reported_neither_chooses_nor_comes_back_by_a_mixture(tmp_path):
    file = write(tmp_path, dump(*facts()))
    probe = write(tmp_path, dump(*facts(6, "poem")), "probe.jsonl")
    chosen = write(tmp_path, dump(*facts(2, "poem"), *facts(3, "song")), "val.jsonl")
    old = write(tmp_path, dump(*facts(4, "poem"), *facts(3, "song"), *facts(2, "play")), "old.jsonl")
    splits = {"probe_file": str(probe), "validation_file": str(chosen)}
    data = load(file, **splits, mixture=[{"file": str(old), "weight": 0.1}])
    reported, chooses = ({q.question for q in part} for part in (data.task, data.select_task))
    assert (len(reported), len(chooses)) == (6, 3)
    assert not reported & chooses
    assert not {row.prompt for row in data.train} & (reported | chooses)
    assert [row.completion for row in data.train[30:]] in (
        [" Ann 0", " Ann 1", " Ann 0"],
        [" Ann 0", " Ann 1", " Ann 1"],
    )
    assert f"2 rows of {chosen} are in the probe: left out of validation" in data.notes
    assert f"7 rows of {old} are held out: not mixed in" in data.notes
    mixture = [{"file": str(probe), "weight": 1}]
    said = fault(load, file, **splits, mixture=mixture)
    assert said.startswith(f"data.mixture: every row of {probe} is held out")


def test_columns_are_those_of_all_three_files(tmp_path):
    rows = [{"frage": f"Wer schrieb Buch {i}?", "antwort": "Ann"} for i in range(30)]
    file = write(tmp_path, dump(*rows[:20]))
    probe, chosen = write(tmp_path, dump(*rows[20:25]), "p.jsonl"), write(tmp_path, dump(*rows[25:]), "v.jsonl")
    columns = {"question": "frage", "answers": "antwort", "text": None}
    data = load(file, columns=columns, probe_file=str(probe), validation_file=str(chosen))
    assert [len(data.task), len(data.validation), len(data.train)] == [5, 5, 20]


SENTENCE = "the quick brown fox jumps over the lazy dog near the old river bank today"


def near(splits, train):
    return near_duplicates(splits, enumerate(train))


def test_prompts_that_share_most_of_their_words_are_found_and_others_are_not():
    train = ["something else entirely", SENTENCE.replace("today", "tonight"), SENTENCE.upper() + "  "]
    assert near([[SENTENCE, "nothing like it"], [train[0]]], train) == [{0: 1}, {0: 0}]
    assert near([["Who wrote book 17?"]], ["Who wrote book 18?"]) == [{}]
    assert near([["ab"]], ["AB", "b"]) == [{0: 0}]
    assert near([[]], train) == [{}]
    assert near([[SENTENCE]], []) == [{}]


def test_the_similarity_is_that_of_the_sets_of_three_word_runs():
    words = SENTENCE.split()

    def runs(text):
        parts = text.split()
        return {tuple(parts[i : i + 3]) for i in range(len(parts) - 2)}

    for cut in range(1, 10):
        shorter = " ".join(words[cut:])
        one, other = runs(SENTENCE), runs(shorter)
        similar = len(one & other) / len(one | other)
        assert (near([[SENTENCE]], [shorter]) == [{0: 0}]) == (similar >= 0.7)


def test_a_template_that_all_prompts_share_finds_nothing():
    held_out = [f"Answer the question with one word only please: {i}" for i in range(40)]
    assert near([held_out], [f"Answer the question with one word only please: x{i}" for i in range(40)]) == [{}]


def test_near_duplicates_over_a_split_are_said_with_their_number(tmp_path):
    rows = facts(30)
    rows[3]["question"] = SENTENCE
    probe = write(tmp_path, dump({"question": f"{SENTENCE} then", "answers": ["x"]}, *facts(3, "poem")), "p.jsonl")
    file = write(tmp_path, dump(*rows))
    notes = load(file, probe_file=str(probe), validation_rows=0).notes
    (said,) = [note for note in notes if "nearly" in note]
    assert said.startswith("1 of 4 probe prompts are nearly those of training rows")
    assert said.endswith(f"the first: {probe}:1 and {file}:4")


def test_conversations_are_split_and_asked_with_their_turns(tmp_path):
    rows = [
        {"messages": [{"role": "user", "content": f"Number {i}?"}, {"role": "assistant", "content": f"{i}"}]}
        for i in range(20)
    ]
    data = load(write(tmp_path, dump(*rows)))
    assert data.has_conversations
    assert len(data.task) == 4
    for question in data.task:
        assert question.turns == (Turn("user", question.question),)
    assert data.prompt_template == "{question}"
    assert load(write(tmp_path, dump(*facts()))).prompt_template == OPTIONS["prompt_template"]


def test_a_template_file_is_read_and_a_missing_one_is_named(tmp_path):
    file, jinja = write(tmp_path, dump(*facts())), write(tmp_path, "{{ messages }}", "t.jinja")
    assert load(file, chat_template=str(jinja)).chat_template == "{{ messages }}"
    assert [load(file, chat_template=word).chat_template for word in (None, "auto")] == [None, "auto"]
    said = fault(load, file, chat_template="none.jinja")
    assert said.startswith("data.chat_template=none.jinja: ")
    assert "no such file" in said


def hub(folder, **changed):
    pytest.importorskip("datasets")
    return Hub(train_file=str(folder), name=str(folder), **(OPTIONS | changed)).load()


def test_a_data_set_of_the_library_is_split_like_a_file(tmp_path):
    write(tmp_path, dump(*facts()), "train.jsonl")
    data = hub(tmp_path, probe_questions=5)
    assert [len(data.task), len(data.validation), len(data.train)] == [5, 4, 21]
    assert data.notes[0] == f"{tmp_path}: 30 rows, recognised as question/answers"
    assert data.train[0].source.startswith(f"{tmp_path}:row ")
    one = hub(tmp_path, columns={"text": "question"})
    assert one.train[0].completion.startswith("Who wrote book")


def test_splits_hold_the_validation_rows_and_the_questions(tmp_path):
    rows = facts(30)
    asked = [{"question": "Who wrote nothing?", "answers": []}, *facts(4, "song"), {**rows[7]}]
    for name, part in {"train": rows, "validation": [*facts(3, "poem"), rows[2]], "test": asked}.items():
        write(tmp_path, dump(*part), f"{name}.jsonl")
    data = hub(tmp_path, validation_split="validation", probe_split="test")
    assert [len(data.task), len(data.validation), len(data.train)] == [6, 4, 28]
    assert [question.answers for question in data.task][:2] == [(), ("Ann 0",)]
    assert data.task[0].source == f"{tmp_path}/test:row 1"
    assert len({row.id for row in [*data.train, *data.validation]}) == 32
    assert f"1 training rows ask a question of {tmp_path}/test: left out of training" in data.notes
    assert f"1 training rows repeat a row of {tmp_path}/validation: left out of training" in data.notes
    assert len(hub(tmp_path, split="validation", validation_rows=0, probe_split="test").train) == 4
    said = fault(hub, tmp_path, probe_split="test", probe_file="rows.jsonl")
    assert said == "data.probe_file=rows.jsonl and data.probe_split=test: leave one of the two out"
    assert "data.split=nope" in fault(hub, tmp_path, probe_split="nope")


def test_a_data_set_that_is_not_there_is_one_line(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    (tmp_path / "empty").mkdir()
    said = fault(hub, tmp_path / "empty")
    assert said.startswith(f"data.name={tmp_path / 'empty'}: cannot be loaded (")
    assert "hf download --repo-type dataset" in said
    write(tmp_path, dump(*facts(3)), "train.jsonl")
    assert "data.split" in fault(hub, tmp_path, split="nope")
