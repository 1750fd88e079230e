import csv
import json
import shutil
from pathlib import Path

import pytest
from fabricate import run_folder, sweep_folder

from truetune.commands.report import render
from truetune.errors import UserError
from truetune.report.drift import drift_chart, rank_correlation
from truetune.report.run import Run
from truetune.report.sweeps import over_seeds, read_sweep, settings


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
    assert mean.ends is None, "three seeds are shown one by one"
    shown = ", ".join(f"<b>{value:.3f}</b>" for value in values)
    assert shown in render(folder).read_text(encoding="utf-8")


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


def sweep_of(folder: Path, *words: str, keep: float = 0.7) -> Path:
    """A finished run for each line of overrides; a higher seed keeps less."""
    jobs = [{"number": number, "overrides": line.split()} for number, line in enumerate(words)]
    for number, line in enumerate(words):
        seed = int(line.partition("seed=")[2].split()[0]) if "seed=" in line else 0
        run_folder(folder / str(number), seed, keep=keep - 0.1 * seed + (0.2 if "method=replay" in line else 0))
    (folder / "sweep.json").write_text(json.dumps({"jobs": jobs}))
    return folder


def sentence(folder: Path) -> str:
    page = render(folder).read_text(encoding="utf-8")
    return page.split("<h1>")[1].split("</h1>")[0]


def test_a_repeated_seed_is_no_further_seed(tmp_path: Path) -> None:
    same = sweep_of(tmp_path / "same", "seed=1", "seed=1", "seed=1 paths.log_dir=elsewhere")
    assert settings(read_sweep(same)) == []
    assert "not counted, a setting and seed again: 1, 2" in render(same).read_text(encoding="utf-8")
    more = sweep_of(tmp_path / "more", "seed=1", "seed=2 paths.log_dir=here", "seed=1 paths.log_dir=elsewhere")
    (group,) = settings(read_sweep(more))
    assert [run.number for run in group.runs] == [0, 1]
    assert len(group.values("kept")) == 2


def test_of_a_repeat_the_measured_run_counts(tmp_path: Path) -> None:
    folder = sweep_of(tmp_path, "seed=1", "seed=1", "seed=2")
    (folder / "0" / "run.json").unlink()
    assert [run.number for run in settings(read_sweep(folder))[0].runs] == [1, 2]


def test_from_five_seeds_on_the_interval_is_within_what_a_share_can_be(tmp_path: Path) -> None:
    folder = sweep_of(tmp_path, *(f"seed={seed}" for seed in range(5)), keep=0.9)
    (group,) = settings(read_sweep(folder))
    kept = group.mean("kept")
    assert kept is not None
    assert kept.ends is not None
    assert 0 <= kept.ends[0] < kept.value < kept.ends[1] <= 1


@pytest.mark.parametrize(("values", "ends"), [([1, 1, 1, 1, 0], (0.0, 1.0)), ([0.9, 0.8], None), ([0.5], None)])
def test_no_interval_leaves_the_range_of_a_share(values: list[float], ends: tuple[float, float] | None) -> None:
    assert over_seeds(values, least=0.0).ends == pytest.approx(ends, abs=0.25)


def test_the_frontier_compares_means_over_the_seeds_that_all_settings_have(tmp_path: Path) -> None:
    words = ["method=plain seed=1", "method=plain seed=2", "method=replay seed=2", "method=replay seed=1"]
    both = sentence(sweep_of(tmp_path / "both", *words))
    assert "2 settings, by means over seeds 1, 2," in both
    assert "seed 1" not in both
    folder = sweep_of(tmp_path / "one", *words, "method=replay seed=3")
    assert "by means over seeds 1, 2," in sentence(folder)
    assert "of a seed that not all settings have: 4" in render(folder).read_text(encoding="utf-8")


def test_runs_of_different_seeds_are_not_compared(tmp_path: Path) -> None:
    apart = sentence(sweep_of(tmp_path / "apart", "method=plain seed=1", "method=replay seed=2"))
    assert "share no seed, so none is called better" in apart
    assert "gains most" not in apart
    alone = sentence(sweep_of(tmp_path / "alone", "seed=1", "seed=2"))
    assert "The 2 measured runs differ in the seed alone" in alone
    one = sentence(sweep_of(tmp_path / "one", "method=plain seed=1", "method=replay seed=1"))
    assert "run 0 (plain)" in one or "run 1 (replay)" in one


def test_tables_show_only_what_varies(tmp_path: Path) -> None:
    folder = sweep_of(tmp_path, *(f"seed={seed} trainer.max_epochs=3 paths.log_dir=d{seed}" for seed in (1, 2)))
    page = render(folder).read_text(encoding="utf-8")
    headings = page.split("<th")
    assert any(">seed</th>" in heading for heading in headings)
    assert not any("log_dir" in heading or "max_epochs" in heading for heading in headings[1:-1])
    assert "trainer.max_epochs=3 in all" in page


def test_drift_on_the_task_is_drawn_against_loss_with_its_rank_correlation(tmp_path: Path) -> None:
    for number in range(8):
        record = json.loads((run_folder(tmp_path / str(number)) / "run.json").read_text())
        for name, value in (
            ("task/kl_to_base_nats_per_token", number**2 / 10),
            ("hallucination/lost_rate", number / 20),
        ):
            record["final"][name] = {"value": value, "n": 40, "low": None, "high": None}
        record["config"]["seed"] = number
        (tmp_path / str(number) / "run.json").write_text(json.dumps(record))
    chart, correlation = drift_chart(read_sweep(tmp_path))
    assert correlation is not None
    assert (correlation.value, correlation.n) == (pytest.approx(1.0), 8)
    assert chart.count("<circle") == 8
    assert "Drift and loss" in render(tmp_path).read_text(encoding="utf-8")
    assert drift_chart(read_sweep(tmp_path)[:5]) == ("", None)
    reverse = rank_correlation([1, 2, 3, 4, 5, 6, 7], [7, 6, 5, 4, 3, 1, 2])
    assert reverse.value == pytest.approx(-0.964, abs=1e-3)
    assert reverse.high is not None
    assert -1 <= (reverse.low or 0) <= reverse.value <= reverse.high < 0
