"""A sweep's jobs are processes of their own: one that fails costs the others nothing, and all of them are listed."""

import csv
import importlib.util
import json
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from command_line import TINY_RUN, checked, refusal, typed
from filelock import FileLock
from omegaconf import OmegaConf

from hydra_plugins.truetune_launcher.launcher import ProcessLauncher
from truetune.commands import launch
from truetune.commands.sweep import Sweep, SweepJob, SweepTask, last_error, quoted, resumed
from truetune.config import compose
from truetune.errors import UserError
from truetune.records.files import LOCK
from truetune.records.record import KEYS
from truetune.records.run_folder import LOG

SUBMITIT = importlib.util.find_spec("submitit") is not None


def read(folder):
    return json.loads((folder / "sweep.json").read_text())["jobs"]


def refused(value):
    """A job that ends at once, with exit code 2."""
    return [f"clip={value}"]


PRINTS = ["--cfg", "hydra", "--package", "hydra.run"]  # a job that ends within a second, with exit code 0


pytestmark = pytest.mark.usefixtures("folder")


def test_a_failing_job_stops_no_other_and_says_why(folder):
    said = []
    jobs = Sweep(folder / "sweep")
    jobs.run([refused("abc"), PRINTS], 0, said.append)
    listed = read(folder / "sweep")
    assert [(job["number"], job["status"]) for job in listed] == [(0, "failed"), (1, "finished")]
    assert [job["overrides"] for job in listed] == [refused("abc"), PRINTS]
    assert listed[0]["error"] == "exit code 2: clip=abc: no such choice; clip may be none, norm, value"
    assert listed[1]["error"] == ""
    assert any(line.startswith("job 0 failed: exit code 2: clip=abc") for line in said)
    assert (folder / "sweep" / "0" / LOG).read_text().startswith("error: clip=abc")


def test_a_traceback_is_told_by_its_last_line_and_not_by_hydras_advice(folder):
    log = folder / LOG
    log.write_text("Traceback\nIndexError: x\n\nSet the environment variable HYDRA_FULL_ERROR=1 for a stack trace.\n")
    assert last_error(log) == "IndexError: x"


def test_each_job_gets_a_folder_of_its_own_whatever_the_path(folder):
    sweep = folder / "it's a sweep, of two"
    Sweep(sweep).run([PRINTS], 3, lambda _: None)
    assert [job["status"] for job in read(sweep)] == ["finished"]
    assert OmegaConf.load(sweep / "3" / LOG).dir == str(sweep / "3")


def test_at_most_so_many_jobs_run_at_once(folder):
    running, most = set(), []

    def say(line):
        number = line.split()[1].rstrip(":")
        (running.discard if " done " in line or " failed" in line else running.add)(number)
        most.append(len(running))

    Sweep(folder / "sweep", n_jobs=2).run([refused(text) for text in "abc"], 0, say)
    assert max(most) == 2
    assert running == set()


def test_jobs_launched_in_two_goes_are_all_listed(folder):
    jobs = Sweep(folder / "sweep", n_jobs=2)
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

    jobs = Sweep(folder / "sweep", n_jobs=2)
    with pytest.raises(Interrupted):
        jobs.run([list(TINY_RUN), refused("b"), refused("c")], 0, say)
    assert [job["status"] for job in read(folder / "sweep")] == ["interrupted", "waiting", "waiting"]
    assert not any(str(folder) in command for command in processes())
    assert not (folder / "sweep" / "0" / "run.json").exists()  # stopped, not waited for


def test_a_job_that_has_just_finished_when_its_sweep_is_interrupted_is_listed_so(folder):
    jobs = Sweep(folder / "sweep", n_jobs=2)

    def say(line):
        if line.startswith("job 1:"):
            (folder / "sweep" / "0" / "run.json").write_text('{"status": "finished"}')
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        jobs.run([list(TINY_RUN), refused("b")], 0, say)
    assert [(job["status"], job["error"]) for job in read(folder / "sweep")] == [("finished", ""), ("waiting", "")]


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


STUB = """
import json, pathlib, sys
words = sys.argv[3:]
folder = next(word.split("=", 1)[1].strip("'") for word in words if word.startswith(("hydra.run.dir=", "resume=")))
print("error: again" if "bad=1" in words else words)
if "bad=1" in words:
    sys.exit(2)
pathlib.Path(folder, "run.json").write_text(json.dumps({"status": "finished"}))
"""


@pytest.fixture
def stub(folder, monkeypatch):
    """Jobs that end at once: `bad=1` fails, any other leaves a record that says finished."""
    (folder / "python").write_text(f"#!{sys.executable}\n{STUB}")
    (folder / "python").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))


def broken_sweep(folder):
    """One finished, one failed without a checkpoint, one killed with one, one never started; and a failing one."""
    rows = [
        ("finished", ["a=1"]),
        ("failed", ["a=2"]),
        ("running", ["a=3"]),
        ("waiting", ["a=4"]),
        ("failed", ["bad=1"]),
    ]
    jobs = Sweep(folder, 2, [SweepJob(n, words, status) for n, (status, words) in enumerate(rows)])
    for number, status in ((0, "finished"), (1, "diverged")):
        (folder / str(number)).mkdir(parents=True)
        (folder / str(number) / "run.json").write_text(json.dumps({"status": status}))
    (folder / "2" / "checkpoints").mkdir(parents=True)
    (folder / "2" / "checkpoints" / "last.ckpt").write_bytes(b"")
    (folder / "2" / LOG).write_text("before\n")
    jobs._write()
    home = folder.parent / "typed here"
    home.mkdir()
    OmegaConf.save({"hydra": {"runtime": {"cwd": str(home)}, "launcher": {"n_jobs": 2}}}, folder / "multirun.yaml")
    return home


def test_a_resumed_sweep_keeps_what_is_done_and_goes_on_with_the_rest(folder, stub):
    sweep, said = folder / "sweep", []
    home = broken_sweep(sweep)
    before = (sweep / "0" / "run.json").stat().st_mtime_ns
    resumed(sweep, said.append)
    assert os.getcwd() == str(home)
    listed = read(sweep)
    assert [job["status"] for job in listed] == ["finished"] * 4 + ["failed"]
    assert listed[4]["error"] == "exit code 2: again"
    assert said[0] == "1 of 5 jobs have finished; the others go on"
    assert (sweep / "0" / "run.json").stat().st_mtime_ns == before
    logs = [(sweep / str(number) / LOG).read_text() for number in (1, 2, 3)]
    assert logs[0] == f"{['a=2', 'hydra.run.dir=' + quoted(sweep / '1'), 'hydra.mode=RUN']}\n"
    assert logs[1] == f"before\n{['resume=' + str(sweep / '2')]}\n"
    assert logs[2].startswith("['a=4', ")
    resumed(sweep, said.append)  # the failing one again
    with FileLock(sweep / "4" / ".lock"), pytest.raises(UserError, match="job 4 of the killed sweep still runs; wait"):
        resumed(sweep, said.append)
    record = {key: {} for key in KEYS} | {"schema": 1, "status": "finished", "seconds": {"total": 7.04}}
    (sweep / "4" / "run.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="all 5 jobs have finished; there is nothing to resume"):
        resumed(sweep, said.append)
    last = read(sweep)[4]
    assert [last["status"], last["error"]] == ["finished", ""], "it ended by itself after all"


def test_a_resumed_search_says_that_it_draws_no_more_runs(folder, stub):
    sweep, said = folder / "sweep", []
    home = broken_sweep(sweep)
    OmegaConf.save({"hydra": {"runtime": {"cwd": str(home)}, "sweeper": {"n_trials": 20}}}, sweep / "multirun.yaml")
    resumed(sweep, said.append)
    assert said[0].startswith("the search had begun 5 of its 20 runs, and only those go on")
    assert "hydra.sweeper.storage=sqlite:///study.db" in said[0]


def test_a_sweep_that_is_worked_on_is_not_resumed_and_no_other_folder_is(folder, stub):
    broken_sweep(folder / "sweep")
    with FileLock(folder / "sweep" / ".lock"), pytest.raises(UserError, match="another truetune works on this sweep"):
        resumed(folder / "sweep", print)
    with pytest.raises(UserError, match="not the folder of a sweep that can be resumed"):
        resumed(folder, print)


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


@pytest.mark.slow
def test_a_sweep_with_a_failed_job_exits_with_1_and_names_it(swept):
    _, result = swept
    assert result.returncode == 1, result.stderr
    (said,) = [line for line in result.stderr.splitlines() if line.startswith("failed: ")]
    assert said.startswith("failed: job 1 (optimizer.lr=1e+30): exit code 3: the ")
    assert "is not finite at step" in said
    assert "2 of 3 jobs finished" in result.stderr.splitlines()
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_every_job_is_listed_with_its_end(swept):
    folder, _ = swept
    listed = read(sweep_folder(folder))
    assert [job["status"] for job in listed] == ["finished", "failed", "finished"]
    assert [f"optimizer.lr={rate}" in job["overrides"] for job, rate in zip(listed, RATES, strict=True)] == [True] * 3
    assert all(job["seconds"] > 0 for job in listed)


@pytest.mark.slow
def test_jobs_are_numbered_folders_below_the_time(swept):
    folder, _ = swept
    sweep = sweep_folder(folder)
    assert sorted(path.name for path in sweep.iterdir() if path.is_dir()) == ["0", "1", "2"]
    for number, status in enumerate(["finished", "diverged", "finished"]):
        assert json.loads((sweep / str(number) / "run.json").read_text())["status"] == status
    assert {path.name for path in (folder / "logs" / "train").iterdir()} == {"multiruns"}


@pytest.mark.slow
def test_a_job_of_a_sweep_measures_what_the_same_run_measures_alone(swept):
    folder, _ = swept
    alone = json.loads((folder / "alone" / "run.json").read_text())
    jobs = [json.loads((sweep_folder(folder) / number / "run.json").read_text()) for number in ("0", "2")]
    name = "task/nll_nats_per_token"
    assert alone["final"][name]["value"] != alone["base"][name]["value"]
    assert jobs[0]["final"] == alone["final"]
    for record in (jobs[0], alone):
        for entry in record["history"]:
            entry["metrics"].pop("train/target_tokens_per_second", None)
    assert jobs[0]["history"] == alone["history"]
    assert jobs[1]["base"] == alone["base"]
    assert jobs[1]["final"] != alone["final"]


@pytest.mark.slow
def test_all_jobs_share_one_cached_base(swept):
    folder, _ = swept
    bases = [path for path in (folder / "logs" / "cache" / "bases").iterdir() if path.is_dir()]
    assert len(bases) == 1
    assert len(list((folder / "logs" / "cache" / "baselines").glob("*.json"))) == 1


@pytest.mark.slow
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
    script = "import truetune.commands.sweep as s; j = s.Sweep(s.Path('sweep')); "
    script += "j.run([['clip=a'], ['clip=b']], 0, print); print(j.finish(print))"
    result = typed("-c", script, cwd=folder, command=os.path.basename(sys.executable))
    assert result.stdout.splitlines()[-2:] == ["0 of 2 jobs finished", "1"]
    assert [line.split(": exit")[0] for line in result.stdout.splitlines() if line.startswith("failed")] == [
        "failed: job 0 (clip=a)",
        "failed: job 1 (clip=b)",
    ]


@pytest.mark.slow
def test_a_search_is_told_the_metrics_of_each_run(folder):
    """Optuna draws two trials; the sweep's own record and page are there as after any sweep."""
    words = ["-m", "hparams_search=optuna", "hydra.sweeper.n_trials=2", "hydra.launcher.n_jobs=2"]
    result = typed(*words, "hydra.sweep.dir=found", *TINY_RUN, cwd=folder)
    assert result.returncode == 0, result.stderr
    listed = read(folder / "found")
    assert [job["status"] for job in listed] == ["finished", "finished"]
    best = OmegaConf.to_container(OmegaConf.load(folder / "found" / "optimization_results.yaml"))
    runs = [json.loads((folder / "found" / str(n) / "run.json").read_text())["final"] for n in range(2)]
    reached = [[run[name]["value"] for name in ("val/right", "val/known_right")] for run in runs]
    assert all(solution["values"] in reached for solution in best["solutions"])
    assert best["solutions"]
    settings = OmegaConf.load(folder / "found" / "multirun.yaml")
    assert settings.hydra.runtime.cwd == str(folder), "what resume and callbacks=prune look for"


def test_a_search_by_a_metric_that_no_probe_has_is_refused_before_its_first_run():
    said = refusal("-m", "hparams_search=optuna", "optimized_metric=[val/score,task/exact_mach]")
    assert said.startswith("optimized_metric=task/exact_mach: no such metric; did you mean task/exact_match")


@pytest.mark.parametrize("name", ["multiple_choice/mc2", "fit/my_group_exact_match", "val/score", "task/token_f1"])
def test_whatever_can_be_measured_can_be_searched_by(name):
    checked("-m", "hparams_search=optuna", f"optimized_metric=[val/score,{name}]")


def test_a_search_with_a_value_that_is_missing_is_refused_in_one_line():
    assert refusal("-m", "hparams_search=optuna", "probe=full", "probe.sampling.samples=???").startswith(
        "probe.sampling.samples has no value"
    )


def test_a_run_that_answered_nothing_does_not_end_the_search(tmp_path, monkeypatch, capsys):
    launcher, name = ProcessLauncher(1), "hallucination/correct_given_attempted"
    launcher.sweep = Sweep(tmp_path)
    final = {"hallucination/rate": {"value": 0.0}}
    record = {"base": {name: {"value": 0.3}}, "final": final}
    monkeypatch.setattr("truetune.records.record.read_run", lambda folder: record)
    assert launcher.values(3, name) is None
    assert capsys.readouterr().err == f"run 3 has no {name} to be searched by\n"
    final[name] = {"value": 0.5}
    assert launcher.values(4, name) == 0.5


@pytest.mark.slow
def test_a_search_by_what_its_runs_do_not_measure_ends_after_the_first(folder):
    words = ["-m", "hparams_search=optuna", "hydra.sweeper.n_trials=3", "hydra.sweep.dir=blind"]
    result = typed(*words, "optimized_metric=[val/score,sampling/self_agreement]", *TINY_RUN, cwd=folder)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: run 0 has no sampling/self_agreement to be searched by; optimized_metric may be ")
    assert [job["status"] for job in read(folder / "blind")] == ["finished"]


@pytest.mark.slow
def test_a_search_by_one_metric_goes_on_with_other_draws(folder):
    words = ["hparams_search=optuna", "optimized_metric=val/score", "hydra.sweeper.direction=maximize"]
    words = ["-m", *words, "hydra.sweeper.n_trials=1", "hydra.sweeper.storage=sqlite:///study.db", *TINY_RUN]
    result = typed(*words, "hydra.sweep.dir=first", cwd=folder)
    assert result.returncode == 0, result.stderr
    checked(*words, "hydra.sweeper.sampler.seed=1")
    longer = typed("resume=first/0", "trainer.max_epochs=2", cwd=folder)
    assert longer.returncode == 0, longer.stderr


@pytest.mark.slow
def test_a_search_in_which_no_run_ends_is_said_in_one_line(folder):
    words = ["-m", "hparams_search=optuna", "optimized_metric=val/score", "hydra.sweeper.direction=maximize"]
    result = typed(*words, "hydra.sweeper.n_trials=1", *TINY_RUN, "optimizer.lr=1e30", "clip=none", cwd=folder)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1] == "error: No trials are completed yet."


@pytest.mark.skipif(not os.environ.get("TRUETUNE_LONG"), reason="long: TRUETUNE_LONG=1")
def test_a_cluster_runs_the_jobs(folder):
    """By submitit's stand-in for SLURM, which needs no cluster."""
    pytest.importorskip("submitit")
    words = ["-m", "hydra/launcher=submitit_local", "hydra.sweep.dir=cluster", "seed=0,1", *TINY_RUN]
    result = typed(*words, cwd=folder)
    assert result.returncode == 0, result.stderr
    page = typed("cluster", cwd=folder, command="truetune-report")
    assert page.stdout.strip() == str(folder / "cluster" / "frontier.html")
    assert len((folder / "cluster" / "sweep.csv").read_text().splitlines()) == 3


@pytest.mark.skipif(not os.environ.get("TRUETUNE_LONG"), reason="long: TRUETUNE_LONG=1")
def test_a_clusters_sweep_goes_on(folder):
    """As after a kill: one job has finished, one has a checkpoint but no record of an end, one had just begun."""
    pytest.importorskip("submitit")
    words = ["-m", "hydra/launcher=submitit_local", "hydra.sweep.dir=cluster", "seed=0,1,2", *TINY_RUN]
    result = typed(*words, "trainer.max_epochs=2", cwd=folder)
    assert result.returncode == 0, result.stderr
    sweep = folder / "cluster"
    before = [(sweep / name / "run.json").read_bytes() for name in "012"]
    for name in "12":
        (sweep / name / "run.json").unlink()
    shutil.rmtree(sweep / "2" / "checkpoints")
    (sweep / "2" / "left.txt").write_text("from before")
    lines = (sweep / "2" / "truetune.log").read_text().splitlines()
    with FileLock(sweep / "2" / LOCK):
        refused = typed("resume=cluster", cwd=folder)
    assert refused.returncode == 2
    assert "job 2 of the killed sweep still runs" in refused.stderr
    again = typed("resume=cluster", cwd=folder)
    assert again.returncode == 0, again.stderr
    after = [(sweep / name / "run.json").read_bytes() for name in "012"]
    assert after[0] == before[0]
    for first, second in zip(before, after, strict=True):
        assert json.loads(first)["final"] == json.loads(second)["final"]
    assert "resume=" in (sweep / "1" / ".hydra" / "overrides.yaml").read_text()
    assert not (sweep / "2" / "left.txt").exists()
    assert len((sweep / "2" / "truetune.log").read_text().splitlines()) > len(lines)
    audits = sweep / "multirun.yaml"
    audits.write_text(audits.read_text().replace("config_name: train", "config_name: measure"))
    assert "audits that a cluster made are not resumed" in typed("resume=cluster", cwd=folder).stderr
    third = typed("resume=cluster", "optimizer.lr=1", cwd=folder)
    assert "a sweep is resumed as it was typed" in third.stderr


@pytest.mark.skipif(not os.environ.get("TRUETUNE_LONG"), reason="long: TRUETUNE_LONG=1")
def test_a_clusters_job_that_fails_is_said_with_its_exit_code(folder):
    pytest.importorskip("submitit")
    words = ["-m", "hydra/launcher=submitit_local", "hydra.sweep.dir=cluster", "clip=none", "optimizer.lr=1e30"]
    result = typed(*words, *TINY_RUN, "trainer.max_epochs=2", cwd=folder)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert f"error: {folder / 'cluster' / '0'}: exit code 3: the gradient is not finite" in result.stderr


@pytest.mark.skipif(SUBMITIT, reason="the package is here")
def test_a_launcher_without_its_package_says_what_to_install():
    assert refusal("-m", "launcher=submitit", "seed=0,1").startswith(
        "hydra/launcher=submitit_slurm needs a package; type: pip install 'truetune[slurm]'"
    )


@pytest.mark.slow
def test_the_command_resumes_a_sweep(swept):
    """As after a kill of the third job: without its record, with its checkpoint. The last test to use the sweep."""
    folder, _ = swept
    sweep = sweep_folder(folder)
    record = json.loads((sweep / "2" / "run.json").read_text())
    (sweep / "2" / "run.json").unlink()
    result = typed(f"resume={sweep.relative_to(folder)}", cwd=folder)
    assert result.returncode == 1, result.stderr  # the second diverges again
    assert "1 of 3 jobs have finished; the others go on" in result.stderr
    assert "2 of 3 jobs finished" in result.stderr.splitlines()
    assert [job["status"] for job in read(sweep)] == ["finished", "failed", "finished"]
    again = json.loads((sweep / "2" / "run.json").read_text())
    assert again["final"] == record["final"]
    assert "Traceback" not in result.stderr
    assert (sweep / "frontier.html").is_file()


@pytest.mark.parametrize("asked", [False, True])
def test_a_job_has_the_environment_that_its_sweep_was_typed_in(folder, monkeypatch, asked):
    """What keeps Hydra from showing a traceback of the sweep is for the sweep's process alone."""
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # so that it is put back in any case
    if not asked:
        monkeypatch.delenv("HYDRA_FULL_ERROR")
    started = []
    monkeypatch.setattr("truetune.commands.sweep.subprocess.Popen", lambda *_, env, **__: started.append(env))
    monkeypatch.setattr(sys, "argv", ["truetune", "-m", "seed=0,1"])
    monkeypatch.setattr(compose, "check", lambda *_: None)

    def launched(task):
        assert os.environ["HYDRA_FULL_ERROR"] == "1"
        launcher = ProcessLauncher(1)
        config = OmegaConf.create({"hydra": {"sweep": {"dir": str(folder / "sweep")}}})
        launcher.setup(hydra_context=None, task_function=task, config=config)
        launcher.sweep._start(SweepJob(0, ["a=1"]))

    monkeypatch.setattr("hydra.main", lambda **_: lambda task: lambda: launched(task))
    launch.launch_sweep()
    assert ("HYDRA_FULL_ERROR" in started[0]) is asked


def test_hydra_hands_the_launcher_the_task_of_the_sweep(folder, monkeypatch):
    """What Hydra is given to call is the one way from the launcher, which Hydra makes, back to the command."""
    started = []
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr(Sweep, "run", lambda self, overrides, first, say: started.append((self, list(overrides))))
    monkeypatch.setattr(sys, "argv", ["truetune", "-m", "seed=0,1", "hydra.sweep.dir=here", "hydra.launcher.n_jobs=3"])
    task = SweepTask(print, frozenset(["A"]))
    launch.launch("train", task)
    assert started == [(task.sweep, [["seed=0"], ["seed=1"]])]
    assert (task.sweep.folder, task.sweep.n_jobs, task.sweep.hidden) == (Path("here"), 3, {"A"})
