"""A sweep's jobs are processes of their own: one that fails costs the others nothing, and all of them are listed."""

import csv
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from commands import TINY_RUN, typed
from omegaconf import OmegaConf

from truetune.sweep import LOG, Jobs


def read(folder):
    return json.loads((folder / "sweep.json").read_text())["jobs"]


def refused(value):
    """A job that ends at once, with exit code 2."""
    return [f"clip={value}"]


PRINTS = ["--cfg", "hydra", "--package", "hydra.run"]  # a job that ends within a second, with exit code 0


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRUETUNE_LOGS", raising=False)
    return tmp_path


def test_a_failing_job_stops_no_other_and_says_why(folder):
    said = []
    jobs = Jobs(folder / "sweep")
    jobs.run([refused("abc"), PRINTS], 0, said.append)
    listed = read(folder / "sweep")
    assert [(job["number"], job["status"]) for job in listed] == [(0, "failed"), (1, "finished")]
    assert [job["overrides"] for job in listed] == [refused("abc"), PRINTS]
    assert listed[0]["error"] == "exit code 2: clip=abc: no such choice; clip may be none, norm, value"
    assert listed[1]["error"] == ""
    assert any(line.startswith("job 0 failed: exit code 2: clip=abc") for line in said)
    assert (folder / "sweep" / "0" / LOG).read_text().startswith("error: clip=abc")


def test_each_job_gets_a_folder_of_its_own_whatever_the_path(folder):
    sweep = folder / "it's a sweep, of two"
    Jobs(sweep).run([PRINTS], 3, lambda _: None)
    assert [job["status"] for job in read(sweep)] == ["finished"]
    assert OmegaConf.load(sweep / "3" / LOG).dir == str(sweep / "3")


def test_at_most_so_many_jobs_run_at_once(folder):
    running, most = set(), []

    def say(line):
        number = line.split()[1].rstrip(":")
        (running.discard if " done " in line or " failed" in line else running.add)(number)
        most.append(len(running))

    Jobs(folder / "sweep", n_jobs=2).run([refused(text) for text in "abc"], 0, say)
    assert max(most) == 2
    assert running == set()


def test_jobs_launched_in_two_goes_are_all_listed(folder):
    jobs = Jobs(folder / "sweep", n_jobs=2)
    jobs.run([refused("a")], 0, lambda _: None)
    jobs.run([refused("b")], 1, lambda _: None)
    assert [job["overrides"] for job in read(folder / "sweep")] == [refused("a"), refused("b")]


def test_an_interrupted_sweep_stops_its_jobs_and_lists_them(folder, monkeypatch):
    class Interrupted(BaseException):
        pass

    started = []

    def say(line):
        started.append(line)
        if line.startswith("job 1:"):
            raise Interrupted

    jobs = Jobs(folder / "sweep", n_jobs=2)
    with pytest.raises(Interrupted):
        jobs.run([list(TINY_RUN), refused("b"), refused("c")], 0, say)
    assert [job["status"] for job in read(folder / "sweep")] == ["interrupted", "waiting", "waiting"]
    assert not any(str(folder) in command for command in processes())
    assert not (folder / "sweep" / "0" / "run.json").exists()  # stopped, not waited for


def processes():
    """Command lines of what still runs on this machine, where the system tells."""
    if not os.path.isdir("/proc/self"):
        return []
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                found.append(file.read().decode(errors="replace"))
        except OSError:
            continue
    return found


# --- the real command -------------------------------------------------------------------------------------------------

RATES = ("0.01", "1e+30", "0.0001")  # the second diverges


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep of three of which the second diverges, and beside it the first job's run alone; 20 seconds or so."""
    folder = tmp_path_factory.mktemp("swept")
    words = ("-m", *TINY_RUN, f"optimizer.lr={','.join(RATES)}", "hydra.launcher.n_jobs=3")
    with ThreadPoolExecutor() as both:
        sweep = both.submit(typed, *words, cwd=folder)
        alone = typed(*TINY_RUN, f"optimizer.lr={RATES[0]}", "hydra.run.dir=alone", cwd=folder)
    assert alone.returncode == 0, alone.stderr
    return folder, sweep.result()


def sweep_folder(folder):
    (found,) = (folder / "logs" / "train" / "multiruns").iterdir()
    return found


def test_a_sweep_with_a_failed_job_exits_with_1_and_names_it(swept):
    _, result = swept
    assert result.returncode == 1, result.stderr
    (said,) = [line for line in result.stderr.splitlines() if line.startswith("failed: ")]
    assert said.startswith("failed: job 1 (optimizer.lr=1e+30): exit code 3: the ")
    assert "is not finite at step" in said
    assert "2 of 3 jobs finished" in result.stderr.splitlines()
    assert "Traceback" not in result.stderr


def test_every_job_is_listed_with_its_end(swept):
    folder, _ = swept
    listed = read(sweep_folder(folder))
    assert [job["status"] for job in listed] == ["finished", "failed", "finished"]
    assert [f"optimizer.lr={rate}" in job["overrides"] for job, rate in zip(listed, RATES, strict=True)] == [True] * 3
    assert all(job["seconds"] > 0 for job in listed)


def test_jobs_are_numbered_folders_below_the_time(swept):
    folder, _ = swept
    sweep = sweep_folder(folder)
    assert sorted(path.name for path in sweep.iterdir() if path.is_dir()) == ["0", "1", "2"]
    for number, status in enumerate(["finished", "diverged", "finished"]):
        assert json.loads((sweep / str(number) / "run.json").read_text())["status"] == status
    assert {path.name for path in (folder / "logs" / "train").iterdir()} == {"multiruns"}


def test_a_job_of_a_sweep_measures_what_the_same_run_measures_alone(swept):
    folder, _ = swept
    alone = json.loads((folder / "alone" / "run.json").read_text())
    jobs = [json.loads((sweep_folder(folder) / number / "run.json").read_text()) for number in ("0", "2")]
    name = "task/nll_nats_per_token"
    assert alone["final"][name]["value"] != alone["base"][name]["value"]
    assert jobs[0]["final"] == alone["final"]
    assert jobs[0]["history"] == alone["history"]
    assert jobs[1]["base"] == alone["base"]
    assert jobs[1]["final"] != alone["final"]


def test_all_jobs_share_one_cached_base(swept):
    folder, _ = swept
    bases = [path for path in (folder / "logs" / "cache" / "bases").iterdir() if path.is_dir()]
    assert len(bases) == 1
    assert len(list((folder / "logs" / "cache" / "baselines").iterdir())) == 1


def test_the_sweep_ends_with_a_table_and_a_frontier(swept):
    folder, result = swept
    sweep = sweep_folder(folder)
    with (sweep / "sweep.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["status"] for row in table] == ["finished", "failed", "finished"]
    assert "exit code 3" in (sweep / "frontier.html").read_text()
    assert f"table: {sweep / 'sweep.csv'}" in result.stderr
    assert f"frontier: {sweep / 'frontier.html'}" in result.stderr


def test_a_sweep_of_failures_alone_exits_with_1_and_says_so(folder):
    script = "import truetune.sweep as s; j = s.Jobs(s.Path('sweep')); "
    script += "j.run([['clip=a'], ['clip=b']], 0, print); print(s.finish(j, print))"
    result = typed("-c", script, cwd=folder, command=os.path.basename(sys.executable))
    assert result.stdout.splitlines()[-2:] == ["0 of 2 jobs finished", "False"]
    assert [line.split(": exit")[0] for line in result.stdout.splitlines() if line.startswith("failed")] == [
        "failed: job 0 (clip=a)",
        "failed: job 1 (clip=b)",
    ]


def test_a_search_is_told_the_metrics_of_each_run(folder):
    """Optuna draws two trials; the sweep's own record and page are there as after any sweep."""
    words = ["-m", "hparams_search=optuna", "hydra.sweeper.n_trials=2", "hydra.launcher.n_jobs=2"]
    metrics = "optimized_metric=[task/exact_match,task/nll_nats_per_token]"
    result = typed(*words, metrics, "hydra.sweep.dir=found", *TINY_RUN, cwd=folder)
    assert result.returncode == 0, result.stderr
    listed = read(folder / "found")
    assert [job["status"] for job in listed] == ["finished", "finished"]
    best = OmegaConf.to_container(OmegaConf.load(folder / "found" / "optimization_results.yaml"))
    runs = [json.loads((folder / "found" / str(n) / "run.json").read_text())["final"] for n in range(2)]
    reached = [[run[name]["value"] for name in ("task/exact_match", "task/nll_nats_per_token")] for run in runs]
    assert all(solution["values"] in reached for solution in best["solutions"])
    assert best["solutions"]
