"""Several models against one base: which to keep, on the page, in the sheet and on the screen."""

import csv
import io
import json
from pathlib import Path

from fabricate import run_folder
from rich.console import Console

from truetune.commands.report import render
from truetune.report.models_page import print_models
from truetune.report.several import compare
from truetune.report.sweeps import read_sweep


def models_of(folder: Path, *models: dict, gates: tuple[str, ...] = (), seeds: tuple[int, ...] = ()) -> Path:
    """Audits of so many models against one base; each of `models` goes to `fabricate.measurements`."""
    jobs = []
    for number, how in enumerate(models):
        run = run_folder(folder / str(number), seeds[number] if seeds else 0, **how)
        record = json.loads((run / "run.json").read_text())
        record["config"] |= {"model": {"name_or_path": f"out/step-{number}"}, "baseline": {"name_or_path": "base"}}
        if gates:
            record["gate"] = {"result": gates[number], "undecided": None, "limits": []}
        (run / "run.json").write_text(json.dumps(record))
        jobs.append({"number": number, "overrides": [f"model.name_or_path='out/step-{number}'"], "status": "finished"})
    (folder / "sweep.json").write_text(json.dumps({"command": "measure", "jobs": jobs}))
    return folder


def verdict_of(folder: Path) -> str:
    return compare(read_sweep(folder)).verdict


def test_the_first_of_those_that_cannot_be_told_from_the_best_is_kept(tmp_path: Path) -> None:
    models = [{"keep": 0.3}, {"keep": 0.79}, {"keep": 0.8}, {"keep": 0.81}]
    folder = models_of(tmp_path, *models)
    several = compare(read_sweep(folder))
    assert [several.word(model) for model in several.models] == [
        "below the best", "keep", "within noise", "within noise",
    ]  # fmt: skip
    assert several.best is several.models[3]
    names = "step-1, step-2 and step-3"
    assert several.verdict.startswith(
        f"Keep step-1: it is the first of three that cannot be told apart, {names} (balance 0."
    )
    assert render(folder) == folder / "frontier.html"
    page = (folder / "frontier.html").read_text()
    assert several.verdict in page
    for heading in ("The frontier", "The models", "Each against each"):
        assert f"<h2>{heading}</h2>" in page
    with (folder / "sweep.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["choice"] for line in lines] == [several.word(model) for model in several.models]
    best, worst = several.models[3], several.models[0]
    assert lines[3]["below_best"] == ""
    assert float(lines[0]["balance"]) == several.score_of(worst).value  # type: ignore[union-attr]
    assert float(lines[0]["below_best"]) == several.gap(worst, best).value  # type: ignore[union-attr]
    screen = io.StringIO()
    print_models(folder, Console(file=screen, width=160))
    assert several.verdict in " ".join(screen.getvalue().split())


def test_one_that_is_clearly_best_is_kept_for_that(tmp_path: Path) -> None:
    folder = models_of(tmp_path, {"keep": 0.3}, {"keep": 0.9}, {"keep": 0.5})
    text = verdict_of(folder)
    assert text.startswith("Keep step-1: its balance is the highest (0.")
    assert text.endswith("and each of the others can be told from it.")


def test_a_model_that_breaks_a_limit_is_not_kept(tmp_path: Path) -> None:
    models = [{"keep": 0.3}, {"keep": 0.9}]
    text = verdict_of(models_of(tmp_path / "one", *models, gates=("undecided", "fail")))
    assert text.startswith("Keep step-0: its balance is the highest")
    assert text.endswith("). step-1 breaks a limit of the gate.")
    text = verdict_of(models_of(tmp_path / "all", *models, gates=("fail", "fail")))
    assert text == "Keep none of the 2 models. step-0 and step-1 break a limit of the gate."


def test_where_none_gained_what_is_kept_decides(tmp_path: Path) -> None:
    text = verdict_of(models_of(tmp_path, {"keep": 0.3, "task": 0.02}, {"keep": 0.9, "task": 0.01}))
    assert text.startswith("Keep step-1: its kept share is the highest (0.9")
    assert text.endswith("None gained on the task, so what is kept decides.")


def test_a_model_that_was_asked_otherwise_or_not_at_all_is_not_compared(tmp_path: Path) -> None:
    folder = models_of(tmp_path, {"keep": 0.3}, {"keep": 0.9}, {"keep": 0.95}, {"keep": 0.95})
    (folder / "2" / "run.json").unlink()
    items = folder / "3" / "items" / "task.final.jsonl"
    for when in ("base", "final"):
        items = folder / "3" / "items" / f"task.{when}.jsonl"
        items.write_text("\n".join(items.read_text().splitlines()[1:]))
    several = compare(read_sweep(folder))
    assert [several.word(model) for model in several.models][1:] == ["keep", "not compared", "not compared"]
    assert "not compared" in render(folder).read_text()


def test_without_answers_nothing_is_kept_and_there_is_a_page(tmp_path: Path) -> None:
    folder = models_of(tmp_path, {}, {})
    for number in (0, 1):
        for path in (folder / str(number) / "items").iterdir():
            path.unlink()
    assert "Keep none of the 2 models. None was measured on questions" in verdict_of(folder)
    assert "Keep none" in render(folder).read_text()


def test_a_sweep_of_trainings_has_its_own_page(tmp_path: Path) -> None:
    for number in (0, 1):
        run_folder(tmp_path / str(number))
    page = render(tmp_path).read_text()
    assert "The models" not in page
    assert "choice" not in (tmp_path / "sweep.csv").read_text().splitlines()[0].split(",")
    screen = io.StringIO()
    print_models(tmp_path, Console(file=screen))
    assert screen.getvalue() == ""


def test_names_are_escaped(tmp_path: Path) -> None:
    folder = models_of(tmp_path, {}, {"keep": 0.3})
    record = json.loads((folder / "0" / "run.json").read_text())
    record["config"]["model"]["name_or_path"] = "<script>x"
    (folder / "0" / "run.json").write_text(json.dumps(record))
    page = render(folder).read_text()
    assert "<script>x" not in page
    assert "&lt;script&gt;x" in page
