import csv
import json
import shutil
from pathlib import Path

import pytest
from fabricate import run_folder, sweep_folder

from truetune.commands.report import render
from truetune.errors import UserError
from truetune.report.run import Run
from truetune.report.sweeps import read_sweep, settings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sweep_folder(tmp_path_factory.mktemp("sweep"))


def sheet(folder: Path) -> list[dict[str, str]]:
    with (folder / "sweep.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_sheet_has_a_line_per_job_with_overrides_and_exact_numbers(folder: Path) -> None:
    assert render(folder) == folder / "frontier.html"
    lines = sheet(folder)
    assert [line["job"] for line in lines] == [str(k) for k in range(10)]
    assert (lines[4]["method"], lines[4]["seed"]) == ("kl_to_base", "1")
    recorded = json.loads((folder / "4" / "run.json").read_text())
    for block, name, part in (("final", "task/right", "low"), ("delta", "hallucination/rate", "high")):
        assert float(lines[4][f"{block}/{name}/{part}"]) == recorded[block][name][part]
    assert float(lines[4]["base/task/right"]) == recorded["base"]["task/right"]["value"]


def test_a_failed_job_is_listed_with_its_error(folder: Path) -> None:
    page = render(folder).read_text(encoding="utf-8")
    assert "the loss is not finite at step 4" in page
    last = sheet(folder)[-1]
    assert (last["status"], last["final/task/right"]) == ("failed", "")
    assert "not finite" in last["error"]


def test_only_a_run_with_a_page_is_linked_to_it(tmp_path: Path) -> None:
    for number in (0, 1):
        run_folder(tmp_path / str(number))
    (tmp_path / "0" / "report.html").touch()
    page = render(tmp_path).read_text(encoding="utf-8")
    assert 'href="0/report.html"' in page
    assert "1/report.html" not in page, "a run that failed has a record and no page"


def test_runs_that_differ_in_seed_alone_are_averaged(folder: Path) -> None:
    groups = settings(read_sweep(folder))
    assert [(group.overrides["method"], len(group.runs)) for group in groups] == [
        ("plain", 3),
        ("kl_to_base", 3),
        ("replay", 3),
    ]
    mean = groups[0].mean("kept")
    values = [kept.value for job in groups[0].runs if (kept := job.quantity("kept"))]
    assert mean is not None
    assert mean.value == pytest.approx(sum(values) / 3)
    assert "Mean over seeds" in render(folder).read_text(encoding="utf-8")


def test_kept_is_one_minus_lost_with_its_interval_turned_round(folder: Path) -> None:
    job = read_sweep(folder)[0]
    lost, kept = Run(job.folder).final["hallucination/lost_rate"], job.quantity("kept")
    assert lost is not None
    assert kept is not None
    assert (kept.value, kept.low, kept.high) == pytest.approx((1 - lost.value, 1 - lost.high, 1 - lost.low))  # type: ignore[operator]


def test_without_an_index_the_numbered_folders_and_hydras_overrides_speak(tmp_path: Path) -> None:
    for number in (10, 2):
        run_folder(tmp_path / str(number))
        (tmp_path / str(number) / ".hydra").mkdir()
        (tmp_path / str(number) / ".hydra" / "overrides.yaml").write_text(f"- clip=norm\n- '+seed={number}'\n")
    jobs = read_sweep(tmp_path)
    assert [(job.number, job.overrides) for job in jobs] == [
        (2, {"clip": "norm", "seed": "2"}),
        (10, {"clip": "norm", "seed": "10"}),
    ]


def test_a_finished_job_without_a_record_is_unreadable(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "sweep")
    (copy / "0" / "run.json").write_text("{")
    job = read_sweep(copy)[0]
    assert job.status == "unreadable"
    assert "is not JSON" in job.error
    assert settings(read_sweep(copy))[0].mean("gain") is None


def test_a_sweep_of_failures_still_has_a_page(tmp_path: Path) -> None:
    jobs = [{"number": 0, "overrides": ["a=<b>"], "status": "failed", "error": "<script>"}]
    (tmp_path / "sweep.json").write_text(json.dumps({"jobs": jobs}))
    page = render(tmp_path).read_text(encoding="utf-8")
    assert "None of the 1 runs can be placed" in page
    assert "<script>" not in page
    assert "&lt;b&gt;" in page


@pytest.mark.parametrize("content", ["{", "[]", '{"jobs": [{}]}'])
def test_a_broken_index_is_a_user_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "sweep.json").write_text(content)
    with pytest.raises(UserError, match="not the index"):
        read_sweep(tmp_path)
