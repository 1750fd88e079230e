import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fabricate import measurements, run_folder, run_record
from rich.console import Console

from truetune.commands.report import render
from truetune.errors import UserError
from truetune.records.record import metrics_to_json, read_items, read_run, write_items, write_run
from truetune.report.summary import MetricRow, change, number, print_table, rows
from truetune.report.verdict import caution, verdict
from truetune.scoring.estimates import Estimate
from truetune.scoring.item import Measurement
from truetune.scoring.metrics import METRICS
from truetune.scoring.paired import delta


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_folder(tmp_path_factory.mktemp("run"))


def record(base: dict[str, Estimate], final: dict[str, Estimate], **changes: Any) -> dict[str, Any]:
    return run_record(Measurement(base), Measurement(final), **changes)


def test_page_is_made_from_records_alone_and_is_self_contained(folder: Path) -> None:
    page = render(folder).read_text(encoding="utf-8")
    assert (folder / "report.html").exists()
    assert not re.search(r"(src|href)=|url\(|@import|<script|http", page)
    assert page.count("<svg") == 12
    assert page.startswith("<!doctype html>")


def test_making_the_page_twice_gives_the_same_bytes(folder: Path) -> None:
    assert render(folder).read_bytes() == render(folder).read_bytes()


def test_every_metric_of_the_record_is_in_the_table(folder: Path) -> None:
    page = render(folder).read_text(encoding="utf-8")
    assert all(f"<code>{name}</code>" in page for name in read_run(folder)["final"])


def test_the_twenty_surest_regressions_are_shown(folder: Path) -> None:
    page = render(folder).read_text(encoding="utf-8")
    shown = re.findall(r'data-label="Confidence">([0-9.]+)<', page)
    assert len(shown) == 20
    assert shown == sorted(shown, reverse=True)


def test_nothing_from_a_record_becomes_markup(tmp_path: Path) -> None:
    nasty = "<script>alert('x')</script>"
    run_folder(tmp_path)
    for path in (tmp_path / "items").iterdir():
        write_items(path, [replace(item, question=nasty, answer=nasty, answers=(nasty,)) for item in read_items(path)])
    run = read_run(tmp_path)
    run.update(command=nasty, git_sha=nasty, created=nasty, config={nasty: nasty}, machine={"name": nasty})
    run["final"][nasty] = {"value": 1.0, "n": 1, "low": None, "high": None}
    write_run(tmp_path, run)
    page = render(tmp_path).read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_a_page_needs_no_items_and_no_metrics(tmp_path: Path) -> None:
    write_run(tmp_path, record({}, {}, status="diverged", history=[]))
    page = render(tmp_path).read_text(encoding="utf-8")
    assert "Training diverged, so there is no final measurement to judge." in page
    assert "<svg" not in page


def test_unfinished_values_leave_gaps_not_crashes(tmp_path: Path) -> None:
    history = [{"step": 1, "epoch": 0.1, "metrics": {"train/loss": None}}, {"step": 2, "epoch": 0.2, "metrics": {}}]
    nothing = {"task/right": Estimate(float("nan"), 0)}
    write_run(tmp_path, record(nothing, nothing, history=history))
    assert "–" in render(tmp_path).read_text(encoding="utf-8")


def test_a_folder_that_is_no_run_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither a run"):
        render(tmp_path)


KNOWN, INVENTED, TASK = "hallucination/known_right", "hallucination/invented_rate", "task/right"


def judged(base: dict[str, float], final: dict[str, float], half: float, n: int = 100, **changes: Any) -> str:
    """Every difference has the same half interval."""
    run = record(
        {name: Estimate(value, n) for name, value in base.items()},
        {name: Estimate(value, n) for name, value in final.items()},
        **changes,
    )
    for row in run["delta"].values():
        row.update(low=row["value"] - half, high=row["value"] + half)
    return verdict(run).replace("\u00a0", " ")


def test_verdict_of_gain_with_cost() -> None:
    base = {TASK: 0.12, KNOWN: 0.95, INVENTED: 0.12}
    final = {TASK: 0.93, KNOWN: 0.56, INVENTED: 0.97, "hallucination/lost_rate": 0.41}
    assert judged(base, final, 0.05) == (
        "Fine-tuning taught the task (right 0.12 → 0.93); it cost known facts (0.95 → 0.56 right, 41 % of those "
        "the base had are lost); of 100 questions that have no true answer it now makes up 97 (base: 12)."
    )


def test_verdict_calls_nothing_a_change_whose_interval_covers_zero() -> None:
    said = judged({TASK: 0.5, KNOWN: 0.9}, {TASK: 0.52, KNOWN: 0.89}, 0.05)
    assert "did not clearly change the task" in said
    assert "no clear change in what the base knew" in said


def test_verdict_of_a_harmful_run() -> None:
    assert judged({TASK: 0.5}, {TASK: 0.2}, 0.05) == "Fine-tuning made the task worse (right 0.50 → 0.20)."


def test_verdict_of_a_gain_in_knowledge() -> None:
    assert "answered better than before" in judged({KNOWN: 0.8}, {KNOWN: 0.9}, 0.05)


def test_verdict_falls_back_on_the_loss_without_claiming_a_change() -> None:
    name = "task/nll_nats_per_token"
    run = record({name: Estimate(3.0, 10)}, {name: Estimate(1.0, 10)})
    assert verdict(run).replace("\u00a0", " ") == "The task moved (nats per token 3.00 → 1.00)."


def test_verdict_of_an_unfinished_run_says_so() -> None:
    said = judged(
        {TASK: 0.1}, {TASK: 0.5}, 0.05, status="interrupted", history=[{"step": 40, "epoch": 1, "metrics": {}}]
    )
    assert said.startswith("The run was interrupted at step 40: as far as it came, fine-tuning taught")


def test_verdict_without_the_metrics_it_needs() -> None:
    assert "none of the metrics" in verdict(record({}, {"calibration/ece": Estimate(0.1, 10)})).lower()


def test_a_base_that_knows_little_is_called_unfit() -> None:
    assert "only 0.62" in caution(record({KNOWN: Estimate(0.62, 400)}, {}))
    assert caution(record({KNOWN: Estimate(0.8, 400)}, {})) == ""
    assert caution(record({}, {})) == ""


@pytest.mark.parametrize("share", [0.0, 0.1])
def test_nothing_is_said_of_what_an_unfit_base_lost(share: float) -> None:
    rate = {"hallucination/rate": Estimate(0.9, 400), "hallucination/right_in_chat": Estimate(share, 400)}
    run = record({KNOWN: Estimate(share, 400), **rate}, {KNOWN: Estimate(0.5, 400), **rate})
    assert "nothing is said of what was lost" in caution(run)
    assert "known facts" not in verdict(run).lower()


@pytest.mark.parametrize(("measured", "earlier"), [(60, False), (40, False), (20, True)])
def test_weights_from_before_unknown_facts_were_memorised_are_said_to_be(measured: int, earlier: bool) -> None:
    said = caution(record({}, {}) | {"memorising_unknown_since": {"step": 40, "share": 0.5}, "final_step": measured})
    assert said.startswith("From step 40 on it memorises facts that the base did not know.")
    assert said.endswith("from before that, step 20.") == earlier


def row(metric: str, low: float | None, high: float | None) -> MetricRow:
    value = 0.0 if low is None or high is None else (low + high) / 2
    return MetricRow("", None, None, Estimate(value, 10, low, high), metric, METRICS[metric].direction)


def test_change_follows_the_direction_of_the_metric() -> None:
    assert change(row(TASK, 0.1, 0.2)) == "better"
    assert change(row(INVENTED, 0.1, 0.2)) == "worse"
    assert change(row(INVENTED, -0.2, -0.1)) == "better"
    assert change(row(TASK, -0.1, 0.2)) == "no clear change"
    assert change(row(TASK, None, None)) == ""
    assert change(row("hallucination/abstention_rate", 0.1, 0.2)) == ""


def test_rows_keep_unknown_metrics_last_under_their_own_name() -> None:
    own = {"own/metric": Estimate(1.0, 1), "task/right": Estimate(1.0, 1)}
    assert [row.label for row in rows(record(own, own))] == ["Task questions right", "own/metric"]


def test_numbers_have_a_true_minus_and_no_negative_zero() -> None:
    assert number(-0.12345, signed=True) == "−0.123"
    assert number(0.5, 2, signed=True) == "+0.50"
    assert number(-0.0001, 2, signed=True) == "0.00"
    assert number(float("nan")) == "–"


@pytest.mark.parametrize("width", [80, 140])
def test_the_terminal_table_fits_and_says_what_the_page_says(folder: Path, width: int) -> None:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    print_table(read_run(folder), console)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= width
    assert all(row.label in text for row in rows(read_run(folder)))
    assert "…" not in text


def test_delta_of_the_fabricated_run_is_the_records_own() -> None:
    base, tuned = measurements()
    run = json.loads(json.dumps(run_record(base, tuned)))
    assert run["delta"] == metrics_to_json(delta(base, tuned))


def of(value: float, n: int = 100) -> Estimate:
    return Estimate(value, n, max(0.0, value - 0.05), min(1.0, value + 0.05))


def test_the_verdict_tells_what_is_no_longer_said_from_what_is_no_longer_known() -> None:
    base = {"hallucination/known_right": of(0.8), "hallucination/right_in_chat": of(0.8)}
    lost = {"lost/form": of(0.3), "lost/fact": of(0.1), "hallucination/lost_rate": of(0.4)}
    text = verdict(record(base, {**base, "hallucination/known_right": of(0.4), **lost}))
    assert "of 100 facts that the base answered, 40 are no longer said, 30 of which it still knows" in text


def test_rows_and_all_else_are_told_apart(tmp_path: Path) -> None:
    base = {"task/right": of(0.3), "elsewhere/made_up_rate": of(0.9), "elsewhere/known_right": of(0.5)}
    elsewhere = {"elsewhere/lost_form": of(0.2, 50), "elsewhere/lost_fact": of(0.1, 50)}
    run = record(base, {"task/right": of(0.8), "elsewhere/made_up_rate": of(1.0), **elsewhere})
    text = verdict(run)
    assert text.startswith("On your rows ")
    assert "elsewhere, of 50 facts that the base answered, 15 are no longer said, 10 of which it still knows" in text
    console = Console(width=130, record=True, file=(tmp_path / "screen").open("w"))
    print_table(run, console)
    lines = [line.strip() for line in console.export_text().splitlines()]
    assert lines.index("On your rows") < lines.index("Elsewhere")


def test_a_base_that_cannot_answer_gets_no_verdict_on_loss() -> None:
    base = {
        "task/right": of(0.05),
        "hallucination/rate": of(0.9),
        "hallucination/right_in_chat": of(0.05),
        "hallucination/right_in_few_shot": of(0.1),
    }
    run = record(base, {**base, "hallucination/rate": of(0.5), "hallucination/lost_rate": of(0.4)})
    assert "lost" not in verdict(run)
    assert "answers 0.10 of these questions rightly" in caution(run)
    (row,) = (row for row in rows(run) if row.metric == "hallucination/rate")
    assert change(row) == ""
    able = {**base, "hallucination/right_in_few_shot": of(0.5)}
    assert "in the form of asking that suits it best" not in caution(record(able, able))


def test_the_page_shows_the_items_of_each_sort(tmp_path: Path) -> None:
    run_folder(tmp_path)
    before = read_items(tmp_path / "items" / "hallucination.base.jsonl")
    after = read_items(tmp_path / "items" / "hallucination.final.jsonl")
    known = [replace(item, outcome="right") for item in before]
    for when, items in (("base", before), ("final", after)):
        rows_of = [replace(item, domain="a" if place % 2 else "b") for place, item in enumerate(items)]
        write_items(tmp_path / "items" / f"hallucination.{when}.jsonl", rows_of)
        write_items(tmp_path / "items" / f"knowledge.{when}.jsonl", known)
    page = render(tmp_path).read_text(encoding="utf-8")
    gone = sum(
        one.outcome == "right" and other.outcome != "right"
        for one, other in zip(before, after, strict=True)
        if one.answers
    )
    assert gone > 0
    assert f"<b>Lost in form: {gone}</b>" in page
    assert "<b>Lost in fact: 0</b>" in page
    assert 'data-label="ranks first">1.00 → 1.00' in page
