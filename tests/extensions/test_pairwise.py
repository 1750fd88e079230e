"""A served judge of pairs of answers: what it prefers, whether the order decides, and when it is unfit."""

import json
import re

import pytest
from command_line import TINY_RUN, typed
from rich.console import Console
from stand_in import Raw, question, stand_in
from test_endpoint import ASKING, ROWS, audited, endpoint, forgetful, go_to_rows, knowing, refused

from truetune.commands import launch
from truetune.extensions.pairwise import letter, outcome, score
from truetune.records.record import read_run
from truetune.report.run_page import render
from truetune.report.summary import print_table


@pytest.fixture(autouse=True)
def _rows(tmp_path, monkeypatch):
    go_to_rows(tmp_path, monkeypatch)


def answers(body):
    """What stands at both places; nothing of the first word."""
    parts = re.search(r"\[Answer A\]\n(.*)\n\n\[Answer B\]\n(.*)$", question(body), re.DOTALL)
    return parts.groups() if parts else ("", "")


def judged(tmp_path, judge, *words):
    """The tuned model says six of twelve answers in longer words, and six otherwise; one answer is the base's."""
    with stand_in(forgetful) as tuned, stand_in(knowing) as base, stand_in(judge) as server:
        judging = ["judging=pairwise", f"judging.url={server.url}", "judging.model=stand-in", "judging.attempts=2"]
        models = [*endpoint(tuned), *endpoint(base, "baseline")]
        try:
            return audited(tmp_path, "audit", *models, *judging, "probe=task", *words), server
        finally:
            server.requests = [body for body in server.requests if question(body) != "Hello"]


def verdicts(tmp_path):
    return [json.loads(line) for line in (tmp_path / "audit/items/verdicts.jsonl").read_text().splitlines()]


def prefers_longer(body):
    first, second = answers(body)
    return f"The longer one. [[{'A' if len(first) > len(second) else 'B'}]]"


def test_a_judge_that_prefers_longer_answers(tmp_path, capsys):
    record, server = judged(tmp_path, prefers_longer)
    assert len(server.requests) == 2 * 13
    by_id = {row["question"]: row for row in verdicts(tmp_path)}
    # "The capital is Town6." is longer than "Town6", and "Nowhere" than "Town0".
    assert {row["outcome"] for row in by_id.values()} == {"tuned"}
    rate = record["final"]["pairwise/win_rate"]
    assert (rate["value"], rate["n"]) == (1, 13)
    assert 0.7 < rate["low"] < rate["high"] == 1
    assert record["final"]["pairwise/decided_by_order"]["value"] == 0
    row = by_id[ROWS[6]["question"]]
    assert (row["base"], row["tuned"]) == ("Town6", "The capital is Town6.")
    assert [(verdict["first"], verdict["winner"], verdict["text"]) for verdict in row["verdicts"]] == [
        ("base", "tuned", "The longer one. [[B]]"),
        ("tuned", "tuned", "The longer one. [[A]]"),
    ]
    assert "Preferred to the base, by a judge" in capsys.readouterr().out
    page = (tmp_path / "audit/report.html").read_text()
    assert "Preferred to the base, by a judge" in page
    assert "unfit" not in page
    assert "items/verdicts.jsonl" in record["files"]


def test_a_judge_that_always_takes_the_first_is_unfit(tmp_path):
    record, _ = judged(tmp_path, lambda body: "[[A]]")
    assert record["final"]["pairwise/decided_by_order"]["value"] == 1
    assert "pairwise/win_rate" not in record["final"]
    note = "judging: stand-in is unfit: it contradicts itself in 13 of 13 pairs, so there is no win rate"
    assert note in record["notes"]
    assert {row["outcome"] for row in verdicts(tmp_path)} == {"order"}
    assert "The judge is unfit" in render(tmp_path / "audit").read_text()


def test_ties_are_worth_a_half_and_a_few_contradictions_too(tmp_path):
    def judge(body):
        return "[[A]]" if "land 7" in question(body) else "Neither. [[C]]"

    record, _ = judged(tmp_path, judge)
    assert record["final"]["pairwise/win_rate"]["value"] == 0.5
    assert record["final"]["pairwise/decided_by_order"]["value"] == pytest.approx(1 / 13)
    assert sorted(row["outcome"] for row in verdicts(tmp_path)) == ["order", *["tie"] * 12]
    assert record["final"]["pairwise/win_rate"]["low"] < 0.3


def test_the_same_answers_are_a_tie_that_nobody_is_asked_about(tmp_path):
    with stand_in(knowing) as model, stand_in(prefers_longer) as judge:
        words = ["judging=pairwise", f"judging.url={judge.url}", "judging.model=j", "judging.prompts=5", "probe=task"]
        record = audited(tmp_path, "audit", *endpoint(model), *endpoint(model, "baseline"), *words)
    assert [question(body) for body in judge.requests] == ["Hello"]
    assert (record["final"]["pairwise/win_rate"]["value"], record["final"]["pairwise/win_rate"]["n"]) == (0.5, 5)


def test_verdicts_that_cannot_be_read_are_left_out_and_many_make_the_judge_unfit(tmp_path):
    record, _ = judged(tmp_path, lambda body: "Both are fine." if "land 7" in question(body) else prefers_longer(body))
    assert record["final"]["pairwise/win_rate"]["n"] == 12
    assert "judging: 1 of 13 pairs have a verdict that cannot be read and are left out" in record["notes"]


def test_a_judge_that_fails_costs_nothing_but_its_verdicts(tmp_path):
    def judge(body):
        return "Hi" if question(body) == "Hello" else Raw('{"error": "out of memory"}', 500)

    with pytest.raises(Exception, match=r"^judging.url=\S+: HTTP 500: out of memory$"):
        judged(tmp_path, judge)
    record = read_run(tmp_path / "audit")
    assert record["status"] == "failed"
    assert record["final"]["task/right"]["value"] == pytest.approx(7 / 13)
    print_table(record, Console(quiet=True))


@pytest.mark.slow
def test_a_run_is_judged_as_an_audit_is(tmp_path):
    with stand_in(prefers_longer) as judge:
        judging = ["judging=pairwise", f"judging.url={judge.url}", "judging.model=j", "judging.prompts=6"]
        words = ["trainer.max_epochs=3", "optimizer.lr=0.02", "hydra.run.dir=run", *judging]
        done = typed(*TINY_RUN, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    final = read_run(tmp_path / "run")["final"]
    rows = [json.loads(line) for line in (tmp_path / "run/items/verdicts.jsonl").read_text().splitlines()]
    assert final["pairwise/win_rate"]["n"] == len(rows) == 6
    assert len(judge.requests) == 1 + 2 * sum(row["base"] != row["tuned"] for row in rows) > 1


def test_it_is_never_on_by_default_and_bad_settings_are_one_line():
    with stand_in(knowing) as server:
        model, url = endpoint(server), f"judging.url={server.url}"
        judging = ["judging=pairwise", url, "judging.model=x"]
        line = refused(*model, *judging)
        assert line == "judging: compares answers with those of a base; type baseline.name_or_path=..."
        both = [*model, *endpoint(server, "baseline")]
        assert refused(*both, *judging, "probe=calibration").startswith("judging: there is no probe=task")
        assert refused(*both, *judging, "judging.instructions='{question} {first}'") == (
            "judging.instructions: lacks {second}, where the text is put in"
        )
        assert refused(*both, "judging=pairwise", url) == "judging.model has no value; type judging.model=..."
        gone = ["judging=pairwise", "judging.url=http://127.0.0.1:9/v1", "judging.model=x"]
        assert refused(*both, *gone).startswith("judging.url=http://127.0.0.1:9/v1: cannot be reached (")
        assert launch.checked([*ASKING, *both], "measure")
        assert len([body for body in server.requests if body["model"] == "x"]) == 0


def test_how_verdicts_are_read():
    assert letter("A is shorter, but B says why. [[B]]") == "B"
    assert letter("<think>[[A]]</think>[[C]]") == "C"
    assert [letter(text) for text in ("B", "**A**.", "Tie", "Answer: B")] == ["B", "A", "TIE", "B"]
    assert letter("A good answer would name the town.") == ""
    assert outcome(["tuned", "tie"]) == "tuned"
    assert (outcome(["tuned", "base"]), outcome(["tie", "tie"]), outcome([])) == ("order", "tie", "tie")
    assert outcome(["tuned", "unreadable"]) == "unreadable"
    assert [score(pair) for pair in (["tuned", "tuned"], ["tuned", "tie"], ["base", "tuned"], [])] == [
        1,
        0.75,
        0.5,
        0.5,
    ]
