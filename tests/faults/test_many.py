"""Many at once: processes that want the same folder, and a sweep in which jobs end in every way there is.

Minutes long, so only with TRUETUNE_LONG=1.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from command_line import TINY_RUN

from truetune.commands.sweep import Sweep
from truetune.records.record import read_run

pytestmark = pytest.mark.skipif(not os.environ.get("TRUETUNE_LONG"), reason="long: TRUETUNE_LONG=1")


def test_of_eight_processes_that_start_at_once_one_gets_the_folder(tmp_path):
    words = [sys.executable, "-m", "truetune", *TINY_RUN, "hydra.run.dir=run"]
    started = [
        subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for _ in range(8)
    ]
    ended = [(process.communicate(timeout=500)[1], process.returncode) for process in started]
    codes = sorted(code for _, code in ended)
    assert codes == [0, *[2] * 7], ended
    assert all("error: " in said and "Traceback" not in said for said, code in ended if code)
    assert read_run(tmp_path / "run")["status"] == "finished"


class Killing(Sweep):
    """Sends some jobs a signal while they work."""

    kills = {7: signal.SIGTERM, 13: signal.SIGKILL}  # noqa: RUF012

    def _start(self, job):
        process = super()._start(job)
        if job.number in self.kills:
            threading.Timer(3.0, process.send_signal, [self.kills[job.number]]).start()
        return process


def test_a_sweep_of_twenty_loses_the_three_that_fail_and_no_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [[*TINY_RUN, f"trainer.max_epochs={1 + n % 2}"] for n in range(20)]
    words[3] = [*TINY_RUN, "optimizer.lr=1e29", "trainer.max_epochs=9"]  # diverges
    Killing(tmp_path / "sweep", n_jobs=2).run(words, 0, lambda _: None)
    jobs = json.loads((tmp_path / "sweep" / "sweep.json").read_text())["jobs"]
    failed = {job["number"]: job["error"] for job in jobs if job["status"] != "finished"}
    assert sorted(failed) == [3, 7, 13], failed
    assert failed[3].startswith("exit code 3")
    assert failed[7].startswith("exit code 143")
    assert failed[13].startswith("exit code -9")
    runs = {n: read_run(tmp_path / "sweep" / str(n)) for n in range(20) if n not in failed}
    for n, run in runs.items():  # nothing leaks from one job into another: the same job ends in the same numbers
        assert run["final"] == runs[n % 2]["final"], n


def test_two_hundred_jobs_leave_the_launcher_as_it_was(tmp_path):
    prints = ["--cfg", "hydra", "--package", "hydra.run"]  # a job that ends within a second
    process = psutil.Process()

    def state():
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        return process.num_fds(), threading.active_count(), dict(os.environ), handlers, process.children()

    before, memory = state(), process.memory_info().rss
    Sweep(tmp_path, n_jobs=2).run([prints] * 200, 0, lambda _: None)
    assert state() == before
    assert process.memory_info().rss - memory < 20e6


def test_jobs_of_two_processes_train_what_each_was_told(tmp_path, monkeypatch):
    """In one process the ranks of a sweep can train different jobs as one (Lightning #11300)."""
    monkeypatch.chdir(tmp_path)
    two = [*TINY_RUN, "trainer=ddp_sim"]
    diverges = [*two, "optimizer.lr=1e29", "trainer.max_epochs=9"]
    words = [[*two, "optimizer.lr=1e-3"], diverges, [*two, "optimizer.lr=1e-2"]]
    Sweep(tmp_path / "sweep").run(words, 0, lambda _: None)
    Sweep(tmp_path / "alone").run(words[2:], 0, lambda _: None)
    jobs = json.loads((tmp_path / "sweep" / "sweep.json").read_text())["jobs"]
    assert [job["status"] for job in jobs] == ["finished", "failed", "finished"]
    assert jobs[1]["error"].startswith("exit code 3: ")
    runs = [read_run(tmp_path / "sweep" / number) for number in ("0", "2")]
    assert runs[1]["final"] == read_run(tmp_path / "alone" / "0")["final"]
    assert runs[0]["final"] != runs[1]["final"]
    assert [run["config"]["optimizer"]["lr"] for run in runs] == [1e-3, 1e-2]


NODE = ("--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--no-python")
TWO_NODES = ("trainer=ddp_sim", "trainer.devices=1", "trainer.num_nodes=2", "trainer.max_epochs=40")


def on_two_nodes(folder, *words):
    """A launcher for each, as two machines have it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{free.getsockname()[1]}"
    launcher, truetune = (Path(sys.executable).with_name(name) for name in ("torchrun", "truetune"))
    command = [launcher, *NODE, "--rdzv-id", "test", "--rdzv-endpoint", place, truetune, *words]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return [subprocess.Popen(command, cwd=folder, **quiet) for _ in range(2)]


def test_a_run_on_two_machines_goes_on_after_one_was_lost(tmp_path):
    def run(name, *words):
        return on_two_nodes(tmp_path, *(words or [*TINY_RUN, *TWO_NODES, f"hydra.run.dir={name}"]))

    assert [node.wait(300) for node in run("whole")] == [0, 0]
    first, other = run("cut")
    while not (tmp_path / "cut" / "checkpoints" / "last.ckpt").exists():
        assert first.poll() is None
        time.sleep(0.05)
    for process in [psutil.Process(other.pid), *psutil.Process(other.pid).children(recursive=True)]:
        process.kill()  # its workers are in sessions of their own
    assert first.wait(300) != 0
    assert read_run(tmp_path / "cut")["status"] != "finished"
    assert [node.wait(300) for node in run("cut", "resume=cut")] == [0, 0]
    whole, cut = (read_run(tmp_path / name) for name in ("whole", "cut"))
    for record in (whole, cut):
        for point in record["history"]:
            point["metrics"].pop("train/target_tokens_per_second", None)
    assert (cut["status"], cut["final"], cut["history"]) == ("finished", whole["final"], whole["history"])


def test_processes_that_torchrun_starts_share_one_folder_and_resume_it(tmp_path):
    torchrun = [Path(sys.executable).with_name("torchrun"), "--nproc-per-node", "2", "--no-python"]
    truetune = Path(sys.executable).with_name("truetune")
    for words in ([*TINY_RUN, "trainer=ddp_sim"], ["trainer.max_epochs=2"]):
        again = [f"resume={path}" for path in (tmp_path / "logs").glob("train/runs/*")]
        subprocess.run([*torchrun, truetune, *again, *words], cwd=tmp_path, check=True, capture_output=True)
        (run,) = (tmp_path / "logs" / "train" / "runs").iterdir()
    record = read_run(run)
    assert record["config"]["trainer"]["devices"] == 2
    assert record["changes"][0]["changed"] == {"trainer.max_epochs": [1, 2]}
