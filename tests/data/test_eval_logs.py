"""The logs of other tools: what is read of them, and which samples of two are the same document."""

import json
import math

import pytest
from log_files import answer_row, choice_row, inspect_log, inspect_sample, lm_eval_log

from truetune.data.eval_logs.pair import tasks
from truetune.data.eval_logs.read import read_logs
from truetune.errors import UserError


def lm(path, *rows):
    return read_logs(lm_eval_log(path, rows))


def paired(first, second):
    (task,), notes = tasks(first, second)
    return task.pairs, notes


def names(pairs):
    return [(pair.first.name, pair.second.name) for pair in pairs]


def test_a_multiple_choice_says_the_text_of_its_choices(tmp_path):
    log = lm(tmp_path / "samples_t_2026-01-02T03-04-05.678.jsonl", choice_row(0, True), choice_row(1, False))["t"]
    assert [(s.question, s.target, s.answer) for s in log.samples] == [
        ("Is 0 a number?", "yes", "yes"),
        ("Is 1 a number?", "yes", "no"),
    ]
    assert [s.values for s in log.samples] == [{"acc": 1.0}, {"acc": 0.0}]


def test_acc_norm_judges_the_choice_that_is_likeliest_per_character(tmp_path):
    row = choice_row(0, True, metrics=["acc", "acc_norm"], acc_norm=0.0)
    row["arguments"]["gen_args_0"]["arg_1"] = " not at all"  # -2 over 10 characters against -1 over 3
    (sample,) = lm(tmp_path / "samples_t.jsonl", row)["t"].samples
    assert (sample.answer, sample.judged["acc_norm"]) == ("yes", "not at all")


def test_choices_that_stand_before_what_is_rated_and_those_of_mutual_information(tmp_path):
    before = choice_row(0, True)
    before["arguments"] = {f"gen_args_{at}": {"arg_0": f"{who} fell", "arg_1": "."} for at, who in enumerate("AB")}
    twice = choice_row(1, True)
    twice["arguments"] |= {
        f"gen_args_{2 + at}": {"arg_0": "", "arg_1": word} for at, word in enumerate((" no", " yes"))
    }
    twice["filtered_resps"] = twice["filtered_resps"] * 2
    first, second = lm(tmp_path / "samples_t.jsonl", before, twice)["t"].samples
    assert (first.answer, first.target) == ("B fell", "B fell")
    assert (second.question, second.answer, second.target) == ("Is 1 a number?", "yes", "yes")


def test_a_question_is_shown_without_the_examples_before_it_and_the_chat_template(tmp_path):
    asked = "Context: a b c d e f\nQuestion: Who fell off the wall?"
    row = answer_row(0, "x", doc={"passage": "a b c d e f", "question": "Who fell off the wall?", "answer": "Answer"})
    row["arguments"]["gen_args_0"]["arg_0"] = (
        f"<user>Question: Who fell off the wall?\nAnswer: B\n\n{asked}\nAnswer:<end>"
    )
    (sample,) = lm(tmp_path / "samples_t.jsonl", row)["t"].samples
    assert sample.question == "a b c d e f\nQuestion: Who fell off the wall?"


def test_each_filter_is_a_metric_of_its_own(tmp_path):
    rows = [answer_row(n, str(n), its_filter=f) for f in ("strict", "none") for n in range(3)]
    pairs, notes = paired(lm(tmp_path / "a.jsonl", *rows), lm(tmp_path / "b.jsonl", *rows))
    assert [pair.first.filter for pair in pairs] == ["strict"] * 3 + ["none"] * 3
    assert [list(pair.first.values) for pair in pairs[::3]] == [["exact_match,strict"], ["exact_match"]]
    assert (pairs[0].first.answer, pairs[0].first.response) == ("0", "It is 0")
    assert notes == ["the task is called a in A and b in B"]


def test_what_is_no_number_for_a_document_is_named_and_left_out(tmp_path):
    odd = {"metrics": ["acc", "word_perplexity", "bypass", "f1"], "word_perplexity": [-3.2, 4], "bypass": None}
    a = lm(tmp_path / "a" / "samples_t.jsonl", choice_row(0, True, **odd, f1=math.nan))
    assert a["t"].samples[0].values == {"acc": 1.0}
    _, notes = paired(a, a)
    assert notes == ["t: word_perplexity is no number for each document; left out"]


def test_older_logs_have_lists_of_arguments_and_no_list_of_metrics(tmp_path):
    row = choice_row(0, False, arguments=[["Is 0 a number?", " no"], ["Is 0 a number?", " yes"]])
    del row["metrics"], row["doc_hash"], row["filter"]
    (sample,) = lm(tmp_path / "samples_t.jsonl", row)["t"].samples
    assert (sample.values, sample.answer, sample.doc_hash) == ({"acc": 0.0}, "no", "")


def test_pairs_are_found_whatever_the_order_and_the_doc_ids(tmp_path):
    rows = [choice_row(n, True) for n in range(5)]
    renumbered = [{**row, "doc_id": 90 + row["doc_id"]} for row in reversed(rows[1:])]
    a, b = lm(tmp_path / "a" / "samples_t.jsonl", *rows), lm(tmp_path / "b" / "samples_t.jsonl", *renumbered)
    pairs, notes = paired(a, b)
    assert names(pairs) == [(str(n), str(90 + n)) for n in range(1, 5)]
    assert notes == ["t: 1 of 5 samples are in A alone; left out"]


def test_a_doc_id_that_comes_twice_is_no_key(tmp_path):
    twice = [choice_row(0, True, question=q) for q in ("One?", "Two?")]
    a, b = lm(tmp_path / "a" / "samples_t.jsonl", *twice), lm(tmp_path / "b" / "samples_t.jsonl", *reversed(twice))
    assert [(pair.first.question, pair.second.question) for pair in paired(a, b)[0]] == [("One?",) * 2, ("Two?",) * 2]


def test_a_document_that_comes_several_times_is_paired_as_often_as_both_have_it(tmp_path):
    rows = [choice_row(n, True, question="Same?") for n in range(3)]
    a, b = lm(tmp_path / "a" / "samples_t.jsonl", *rows), lm(tmp_path / "b" / "samples_t.jsonl", *rows[:2])
    pairs, _ = paired(a, b)
    assert names(pairs) == [("0", "0"), ("1", "1")]
    assert len({pair.document for pair in pairs}) == 1


@pytest.mark.parametrize("change", ["one without", "all others"])
def test_documents_are_paired_by_their_text_where_hashes_cannot(tmp_path, change):
    rows = [choice_row(n, True) for n in range(4)]
    others = [{**row, "doc_hash": "" if change == "one without" else f"new {row['doc_hash']}"} for row in rows]
    pairs, notes = paired(
        lm(tmp_path / "a" / "samples_t.jsonl", *rows), lm(tmp_path / "b" / "samples_t.jsonl", *others)
    )
    assert len(pairs) == 4
    assert "paired by the documents' text" in notes[0]


def test_other_prompts_settings_and_targets_are_reported(tmp_path):
    rows = [answer_row(n, "x") for n in range(3)]
    others = json.loads(json.dumps(rows))
    others[0]["arguments"]["gen_args_0"]["arg_0"] = "Please say 0."
    others[1]["arguments"]["gen_args_0"]["arg_1"]["max_gen_toks"] = 9
    others[2]["target"] = "two"
    a, b = lm(tmp_path / "a" / "samples_t.jsonl", *rows), lm(tmp_path / "b" / "samples_t.jsonl", *others)
    assert paired(a, b)[1] == [
        "t: the prompts differ between A and B in 1 of 3 samples",
        "t: the generation settings differ between A and B in 1 of 3 samples",
        "t: the targets differ between A and B in 1 of 3 samples",
    ]


def test_versions_and_directions_come_from_the_results_beside_the_samples(tmp_path):
    logs = []
    for name, version in (("a", 1.0), ("b", 2.0)):
        results = {"model_name": f"org/{name}", "versions": {"t": version}, "higher_is_better": {"t": {"acc": False}}}
        (tmp_path / name).mkdir()
        (tmp_path / name / "results_2026-01-02T03-04-05.6.json").write_text(json.dumps(results))
        logs.append(lm(tmp_path / name / "samples_t_2026-01-02T03-04-05.6.jsonl", choice_row(0, True)))
    assert [log["t"].model for log in logs] == ["org/a", "org/b"]
    assert logs[0]["t"].higher_is_better == {"acc": False}
    assert paired(*logs)[1] == ["t: version is 1.0 in A and 2.0 in B"]


def test_the_newest_log_of_a_task_is_read_from_a_folder(tmp_path):
    lm(tmp_path / "m" / "samples_t_2026-01-09T00-00-00.1.jsonl", choice_row(0, False))
    lm(tmp_path / "m" / "samples_t_2026-01-10T00-00-00.1.jsonl", choice_row(0, True))
    lm(tmp_path / "m" / "samples_t.jsonl", choice_row(0, False))
    lm(tmp_path / "m" / "samples_other_t_2026-01-01T00-00-00.1.jsonl", choice_row(0, True))
    (tmp_path / "m" / "results_2026-01-10T00-00-00.1.json").write_text("{}")
    logs = read_logs(tmp_path)
    assert list(logs) == ["t", "other_t"]
    assert logs["t"].samples[0].values == {"acc": 1.0}
    assert "the newest is read, samples_t_2026-01-10" in logs["t"].notes[0]


def test_a_folder_of_several_models_is_refused(tmp_path):
    for model in ("m", "n"):
        lm(tmp_path / model / "samples_t_2026-01-09T00-00-00.1.jsonl", choice_row(0, False))
    with pytest.raises(UserError, match=r'several models \("m", "n"\) for t; name one of them'):
        read_logs(tmp_path)


@pytest.mark.parametrize("form", [".json", ".eval", "zstandard"])
def test_an_eval_log_of_inspect(tmp_path, form):
    samples = [inspect_sample(n, value) for n, value in enumerate(["C", "I", "P", "N", True, "0.25", math.nan])]
    path = tmp_path / f"m{'.eval' if form == 'zstandard' else form}"
    log = read_logs(inspect_log(path, samples, zstandard=form == "zstandard"))["capitals"]
    assert [s.values.get("match") for s in log.samples] == [1.0, 0.0, 0.5, 0.0, 1.0, 0.25, None]
    first = log.samples[0]
    assert (log.model, first.question, first.target) == ("m", "Capital of 0?", "Paris")
    assert (first.judged, first.response) == ({"match": "Paris"}, "It is Paris.")


def test_samples_of_inspect_are_paired_by_what_is_asked_and_by_epoch(tmp_path):
    ours = [inspect_sample(n, "C", epoch=e) for e in (1, 2) for n in range(3)]
    theirs = [inspect_sample(n, "I", epoch=e, said="Rome") | {"id": f"other {n}"} for n in range(3) for e in (1, 2)]
    pairs, notes = paired(*(read_logs(inspect_log(tmp_path / f"{n}.json", s)) for n, s in (("a", ours), ("b", theirs))))
    assert names(pairs) == [(str(n), f"other {n}") for n in (0, 1, 2)] * 2
    assert len({pair.document for pair in pairs}) == 3
    assert notes == []


def test_scores_that_hold_several_values_and_texts_that_are_stored_apart(tmp_path):
    score = {"a": {"value": {"x": "C", "y": 3}}, "b": {"value": ["C"]}}
    sample = inspect_sample(0, "C", scores=score, input="attachment://1", attachments={"1": "a long text"})
    log = read_logs(inspect_log(tmp_path / "m.json", [sample]))["capitals"]
    assert log.samples[0].values == {"a/x": 1.0, "a/y": 3.0}
    assert log.samples[0].question == "a long text"
    assert list(log.no_numbers) == ["b"]


def test_an_eval_that_did_not_end_and_samples_without_a_score_are_reported(tmp_path):
    samples = [inspect_sample(0, "C"), inspect_sample(1, "C", scores=None, error={"message": "x"})]
    log = read_logs(inspect_log(tmp_path / "m.json", samples, status="error"))["capitals"]
    assert log.notes == [
        "m.json: its status is error; what it holds is compared",
        "m.json: 1 samples ended in an error and have no score; they are left out",
    ]


def test_an_eval_of_which_every_sample_failed(tmp_path):
    path = inspect_log(
        tmp_path / "m.json", [inspect_sample(0, "C", scores=None, error={"message": "x"})], status="error"
    )
    with pytest.raises(
        UserError, match=r"m\.json: no document has a metric that is a number \(m\.json: its status is error"
    ):
        read_logs(path)
