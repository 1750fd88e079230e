import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from truetune.errors import UserError
from truetune.records.record import KEYS, SCHEMA, read_items, read_run, write_atomic, write_items, write_run
from truetune.report.summary import MetricRow, change
from truetune.scoring.estimates import Estimate
from truetune.scoring.item import Item, Measurement
from truetune.scoring.paired import delta

ITEM = Item("a", "Où?", ("Oslo", "Riga"), "line\u2028break\n", "wrong", ("lost",), 0.5, "known-test", "Acme")


def run(**changes: Any) -> dict[str, Any]:
    return {**dict.fromkeys(KEYS, ""), "schema": SCHEMA, "base": {}, "final": {}, "delta": {}, "history": [], **changes}


def test_items_come_back_as_they_were(tmp_path: Path) -> None:
    items = [ITEM, replace(ITEM, id="b", answers=(), kind=(), confidence=None)]
    write_items(tmp_path / "deep" / "items.jsonl", items)
    assert read_items(tmp_path / "deep" / "items.jsonl") == items


def test_a_row_holds_the_documented_fields(tmp_path: Path) -> None:
    write_items(tmp_path / "x.jsonl", [ITEM])
    row = json.loads((tmp_path / "x.jsonl").read_text(encoding="utf-8"))
    assert {"id", "question", "answers", "answer", "outcome", "kind", "confidence"} <= row.keys()


def test_unknown_fields_of_a_newer_writer_are_ignored(tmp_path: Path) -> None:
    row = {"id": "a", "question": "?", "answers": [], "answer": "", "outcome": "wrong", "mood": "good"}
    (tmp_path / "x.jsonl").write_text(json.dumps(row))
    assert read_items(tmp_path / "x.jsonl") == [Item("a", "?", (), "", "wrong")]


@pytest.mark.parametrize("line", ["{", '{"id": "a"}', "[1]", "3"])
def test_a_broken_row_is_named_by_its_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "x.jsonl").write_text(f"\n{line}\n")
    with pytest.raises(UserError, match=r"x\.jsonl, line 2"):
        read_items(tmp_path / "x.jsonl")


def test_nan_is_never_written(tmp_path: Path) -> None:
    history = [{"step": 1, "epoch": 0.5, "metrics": {"train/loss": math.inf, "val/loss": np.float32("nan")}}]
    write_run(tmp_path, run(history=history, base={"task/exact_match": Estimate(math.nan, 0)}, seconds=np.float64(2.5)))
    read = json.loads((tmp_path / "run.json").read_text(), parse_constant=pytest.fail)
    assert read["history"][0]["metrics"] == {"train/loss": None, "val/loss": None}
    assert read["base"]["task/exact_match"]["value"] is None
    assert read["seconds"] == 2.5


def test_a_lone_surrogate_does_not_cost_the_record(tmp_path: Path) -> None:
    write_items(tmp_path / "x.jsonl", [replace(ITEM, answer="\ud800")])
    assert read_items(tmp_path / "x.jsonl")[0].answer == "\ud800"


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    write_run(tmp_path, run())
    old = (tmp_path / "run.json").read_text()
    with pytest.raises(TypeError):
        write_run(tmp_path, run(config=object()))
    with pytest.raises(AttributeError):
        write_atomic(tmp_path / "run.json", 3)  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    assert (tmp_path / "run.json").read_text() == old


def test_a_record_without_all_keys_is_refused(tmp_path: Path) -> None:
    whole = run()
    del whole["machine"]
    with pytest.raises(ValueError, match="machine"):
        write_run(tmp_path, whole)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is not a finished truetune run"),
        ("{", "is not JSON"),
        ("[]", "it has no schema number"),
        ("{}", "it has no schema number"),
        ('{"schema": 99, "truetune_version": "7.0"}', "made by a newer truetune"),
        ('{"schema": 1}', "lacks truetune_version"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        read_run(tmp_path)
    assert "\n" not in str(caught.value)


def asked(outcomes: str, prefix: str = "k") -> list[Item]:
    names = {"r": "right", "w": "wrong", "a": "abstained"}
    return [
        Item(f"{prefix}{k}", "?", ("Riga",), "", names[letter], population="known-test", cluster=str(k // 4))
        for k, letter in enumerate(outcomes)
    ]


def measured(outcomes: str, **metrics: Estimate) -> Measurement:
    value = outcomes.count("r") / len(outcomes)
    name = "hallucination/known_right"
    return Measurement({name: Estimate(value, len(outcomes)), **metrics}, {"hallucination": asked(outcomes)})


def test_delta_is_final_minus_base_with_a_paired_interval() -> None:
    found = delta(measured("r" * 80), measured("rrrw" * 20))["hallucination/known_right"]
    assert replace(found, p=None) == Estimate(-0.25, 80, -0.25, -0.25)  # each entity lost exactly one of its four
    assert found.p == pytest.approx(2 / 2**20)  # of 20 entities all fell


def test_an_interval_over_two_entities_is_no_verdict() -> None:
    name = "hallucination/known_right"
    few, many = (
        MetricRow("", None, None, delta(measured("w" * n), measured("r" * n))[name], name, "higher") for n in (8, 80)
    )
    assert few.difference
    assert few.difference.ends is None
    assert few.difference.p == 0.5
    assert (change(few), change(many)) == ("no clear change", "better")


def test_answers_that_each_model_chose_to_give_are_no_verdict_if_they_are_few() -> None:
    """Three wrong answers that became right, and an abstention that did: by chance in 8 of 2^4 swaps, 1/8."""
    name = "hallucination/correct_given_attempted"

    def judged(before: str, after: str) -> tuple[float | None, str]:
        one, two = (
            Measurement({name: Estimate(right, 4)}, {"hallucination": [replace(i, cluster=i.id) for i in asked(said)]})
            for said, right in ((before, 0.0), (after, 1.0))
        )
        found = delta(one, two)[name]
        assert found.ends == ((1.0, 1.0) if len(before) > 5 else None)
        return found.p, change(MetricRow("", None, None, found, name, "higher"))

    p, word = judged("wwwa", "rrrr")
    assert p == pytest.approx(1 / 8, abs=0.03)
    assert word == "no clear change"
    assert judged("wwwa" * 5, "rrrr" * 5)[1] == "better"


def test_delta_of_a_mean_without_items_has_no_interval() -> None:
    loss = {"retention/nll_nats_per_token": Estimate(1.5, 10), "only/here": Estimate(1.0, 1)}
    found = delta(measured("r" * 8, **loss), measured("r" * 8, **{"retention/nll_nats_per_token": Estimate(2.0, 10)}))
    assert found["retention/nll_nats_per_token"] == Estimate(0.5, 10)
    assert "only/here" not in found


def test_items_that_disagree_with_the_reported_value_lend_no_interval() -> None:
    claimed = replace(measured("r" * 8), metrics={"hallucination/known_right": Estimate(0.3, 8)})
    assert delta(claimed, measured("w" * 8))["hallucination/known_right"].low is None


def test_delta_refuses_different_questions() -> None:
    other = replace(measured("r" * 8), items={"hallucination": asked("r" * 8, "other")})
    with pytest.raises(UserError, match="different questions"):
        delta(measured("r" * 8), other)


def test_delta_repeats_exactly() -> None:
    before, after = measured("rrwa" * 30), measured("wrwr" * 15 + "rrrr" * 15)
    assert delta(before, after) == delta(before, after)


def test_an_earlier_record_is_read_under_the_names_of_today(tmp_path):
    block = {"task/exact_match": Estimate(0.5, 8), "hallucination/known_exact_match": Estimate(0.25, 8)}
    history = [{"step": 1, "epoch": 1, "metrics": {"val/exact_match": 0.5, "val/known_exact_match": 0.75}}]
    write_run(tmp_path, run(base=block, history=history))
    read = read_run(tmp_path)
    assert {name: row["value"] for name, row in read["base"].items()} == {
        "task/right": 0.5,
        "task/exact_match": 0.5,
        "hallucination/known_right": 0.25,
    }
    assert read["history"][0]["metrics"] == {"val/right": 0.5, "val/known_right": 0.75}
