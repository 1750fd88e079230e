"""The section on confidence, from the items that a run left behind."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from fabricate import run_folder

from truetune.commands.report import render
from truetune.records.record import read_items, read_run, write_items
from truetune.report.confidence import confidence_of
from truetune.report.page import PAGES
from truetune.report.summary import number, rows, too_few
from truetune.scoring.estimates import Estimate, rate, wilson
from truetune.scoring.rates import clusters
from truetune.scoring.thresholds import worth

Recorded = dict[str, dict[str, Estimate]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return run_folder(tmp_path / "run")


def shown(folder: Path, wrong_cost: float = 1.0, recorded: Recorded | None = None) -> str:
    """The section as the page has it."""
    return PAGES.get_template("parts.html").module.confidence(confidence_of(folder, wrong_cost, recorded or {}))


def test_the_rows_are_those_of_the_items(folder: Path) -> None:
    items = read_items(folder / "items" / "hallucination.final.jsonl")
    sure, said = [item.confidence or 0.0 for item in items], [item.outcome for item in items]
    page = render(folder).read_text(encoding="utf-8")
    made_up = 100 * said.count("wrong") / len(said)
    assert f"<b>{number(made_up, 2)}</b>" in page
    for cost in (1.0, 0.1):
        found = worth(sure, said, cost)
        html = shown(folder, cost)
        assert f"<b>{number(found.always, 2)}</b>" in html
        if found.breaks_even is not None:
            assert f"<b>{number(found.breaks_even, 2)}</b>" in html
    for title in (
        "Reliability of the answers given",
        "Risk if only the surest are answered",
        "Worth per 100 questions",
    ):
        assert title in page


def test_answers_about_one_entity_are_no_more_certain_than_one(folder: Path) -> None:
    """Eight answers of one confidence about two companies, all right: Wilson's interval of two."""
    path = folder / "items" / "hallucination.final.jsonl"
    items = [
        replace(item, outcome="right", confidence=0.55, cluster=f"{n % 2}") for n, item in enumerate(read_items(path))
    ]
    write_items(path, items[:8])
    low, high = (number(end, 2) for end in wilson(1, 2))
    cells = re.sub(r"<[^>]+>", " ", shown(folder))
    assert re.search(rf"tuned\s+0.55\s+1.00\s+{low} to {high}\s+8\b", cells)


def test_what_the_selective_probe_measured_has_one_interval_on_the_page(folder: Path) -> None:
    recorded = {"tuned": {"selective/best_worth_per_100": Estimate(12.34, 40, 5.67, 23.45)}}
    assert "<b>12.34</b><small>5.67 to 23.45 n 40</small>" in shown(folder, recorded=recorded)
    items = read_items(folder / "items" / "hallucination.final.jsonl")
    wrong = rate([item.outcome == "wrong" for item in items], clusters(items))
    assert f"{number(100 * wrong.ends[0], 2)} to {number(100 * wrong.ends[1], 2)}" in shown(folder)


def test_an_assistant_that_never_pays_says_never(folder: Path) -> None:
    path = folder / "items" / "hallucination.final.jsonl"
    write_items(path, [replace(item, outcome="wrong") for item in read_items(path)])
    assert "never" in shown(folder)


def test_without_confidences_the_section_is_left_out(folder: Path) -> None:
    for path in (folder / "items").glob("hallucination.*"):
        write_items(path, [replace(item, confidence=None) for item in read_items(path)])
    assert confidence_of(folder, 1.0, {}) is None
    assert "When it should rather say nothing" not in render(folder).read_text(encoding="utf-8")


def test_a_probe_too_small_for_three_points_says_so(folder: Path) -> None:
    said = too_few(rows(read_run(folder)))
    assert said.startswith(" Too few questions for ± 3 points: ")
    assert re.search(r"hallucination \d+ \(about [\d,]+ would do\)", said)
    assert "task" in said, "200 companies"
    assert "fit" not in said
    assert said.strip() in render(folder).read_text(encoding="utf-8")
