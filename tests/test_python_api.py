"""What `import truetune` offers a notebook or a script: the numbers of a run folder, by name."""

import io
import os
import re

import pytest
from report.fabricate import measurements, run_folder, run_record, sweep_folder
from rich.console import Console

import truetune
from truetune.errors import UserError
from truetune.records.record import read_run, write_run
from truetune.report.summary import print_table
from truetune.report.verdict import verdict
from truetune.scoring.lost_and_kept import lost


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return run_folder(tmp_path_factory.mktemp("run"))


@pytest.fixture
def run(folder):
    return truetune.Run(folder)


def test_it_offers_this_and_no_more():
    assert sorted(dir(truetune)) == ["Run", "__version__", "runs"]
    with pytest.raises(AttributeError, match="module 'truetune' has no attribute 'Runs'"):
        truetune.Runs  # noqa: B018


def test_a_run_knows_what_was_recorded(run, folder):
    record = read_run(folder)
    assert (run.folder, run.status, run.report) == (folder, "finished", folder / "report.html")
    assert run.config["optimizer"]["lr"] == 1e-4
    assert run.history == record["history"]
    assert run.record == record
    assert run.verdict == verdict(record)
    assert repr(run) == f"Run({str(folder)!r}), finished"


def test_metrics_have_their_values_and_intervals(run):
    before, after, change = (block["hallucination/known_right"] for block in (run.base, run.final, run.delta))
    assert change.value == pytest.approx(after.value - before.value)
    assert before.n == after.n == 400
    assert after.low < after.value < after.high
    assert run.final["hallucination/lost_rate"].value > 0


def test_a_curve_is_what_was_recorded_on_the_way(run):
    steps, losses = run.curve("train/loss")
    assert steps == list(range(1, 521))
    assert losses == [entry["metrics"]["train/loss"] for entry in run.history[1:]]
    epochs, shares = run.curve("fit/new_exact_match", "epoch")
    assert epochs == [2.0 * point for point in range(21)]
    assert shares[-1] == pytest.approx(run.final["fit/new_exact_match"].value, abs=0.06)
    assert run.curve("train/no_such_metric") == ([], [])


def test_of_several_values_at_one_place_the_last_counts_and_an_undefined_one_is_left_out(tmp_path):
    values = [(0, 0, 1.0), (1, 0, 2.0), (2, 1, 3.0), (3, 2, None)]
    history = [{"step": step, "epoch": epoch, "metrics": {"val/loss": value}} for step, epoch, value in values]
    write_run(tmp_path, run_record(*measurements(), history=history))
    assert truetune.Run(tmp_path).curve("val/loss") == ([0, 1, 2], [1.0, 2.0, 3.0])
    assert truetune.Run(tmp_path).curve("val/loss", "epoch") == ([0, 1], [2.0, 3.0])


def test_items_are_the_same_question_answered_by_both(run):
    assert run.probes == ["hallucination", "retention", "task"]
    pairs = run.items("hallucination")
    assert all(base.id == tuned.id and base.question == tuned.question for base, tuned in pairs)
    assert lost(*zip(*pairs, strict=True)) == run.final["hallucination/lost_rate"]


def test_a_probe_that_was_not_used_is_named_with_those_that_were(run, folder, tmp_path):
    with pytest.raises(UserError) as caught:
        run.items("halucination")
    said = f"{folder}: no answers of both models to the questions of 'halucination'; there are "
    assert str(caught.value) == f"{said}hallucination, retention, task"
    write_run(tmp_path, run_record(*measurements()))
    with pytest.raises(UserError, match="'task'; there are none of any probe"):
        truetune.Run(tmp_path).items("task")


def test_the_table_has_a_row_for_each_metric(run):
    rows = {row.label: row for row in run.table()}
    row = rows["Lost, of what the base knew"]
    assert (row.base, row.tuned, row.difference) == (None, run.final["hallucination/lost_rate"], None)
    assert (row.n, row.change) == (row.tuned.n, "")
    assert rows["Task questions right"].change == "better"
    assert rows["Known facts right"].change == "worse"
    assert rows["Known facts right"].difference == run.delta["hallucination/known_right"]


def test_the_table_reads_as_the_terminal_prints_it(run):
    console = Console(file=io.StringIO(), width=125)
    print_table(run.record, console)
    assert str(run.table()) == repr(run.table()) == console.file.getvalue()
    html = run.table()._repr_html_()
    assert html.startswith("<pre")
    assert "Known facts right" in html
    assert re.search(r'<span style="color: [^"]*">worse *</span>', html)


def test_a_table_fits_a_data_frame(run):
    assert run.table()[0]._fields == ("label", "base", "tuned", "difference", "n", "change")


def test_runs_are_listed_with_the_newest_last(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sweep_folder(tmp_path / "logs" / "sweep")
    later = run_record(*measurements(), created="2026-11-25T04:12:07+00:00")
    write_run(tmp_path / "logs" / "later", later)
    for age, number in enumerate((3, 1, 2)):
        os.utime(tmp_path / "logs" / "sweep" / str(number) / "run.json", (2e9 + age, 2e9 + age))
    found = truetune.runs()
    assert len(found) == 10
    assert [run.folder.name for run in found[-4:]] == ["3", "1", "2", "later"]


def test_where_there_is_no_run_one_line_says_so(tmp_path):
    with pytest.raises(UserError) as caught:
        truetune.Run(tmp_path / "gone")
    assert str(caught.value).startswith(f"{tmp_path / 'gone' / 'run.json'} does not exist")
    with pytest.raises(UserError) as caught:
        truetune.runs(tmp_path)
    assert str(caught.value) == f"no run.json below {tmp_path}: run `truetune` first, or name the folder of your runs"
