"""A sweep's jobs, each in a process of its own: no seed, environment or memory leaks from one into the next."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from truetune.errors import SWEEP_JOB, GateBroken, GateUndecided, Say, UserError, first_line
from truetune.records.files import LOCK, in_use, owned, write_atomic
from truetune.records.run_folder import LAST, LOG, RECORD, TABLE, go_to_origin, hydra_setting, record_if_any, status

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from truetune.config.checks import Command

FULL_ERROR = "HYDRA_FULL_ERROR"
GATED = (GateBroken.exit_code, GateUndecided.exit_code)  # of jobs that measured everything
STARTS: dict[Command, list[str]] = {  # Python's arguments for a job
    "train": ["-m", "truetune"],
    "measure": ["-c", "import sys; from truetune.cli import measure; sys.argv[0] = 'truetune-measure'; measure()"],
}


@dataclass
class SweepJob:
    """One line of sweep.json."""

    number: int
    overrides: list[str]
    status: str = "waiting"
    error: str = ""
    seconds: float = 0.0
    code: int = 0  # its exit code


@dataclass
class Sweep:
    """Runs jobs, at most `n_jobs` at once, and keeps `sweep.json` up to date."""

    folder: Path
    n_jobs: int = 1
    jobs: list[SweepJob] = field(default_factory=list)
    hidden: frozenset[str] = frozenset()  # variables of this process that its jobs do not inherit
    command: Command = "train"

    def run(self, overrides: Sequence[Sequence[str]], first: int, say: Say) -> None:
        """Runs a job for each line of overrides, numbered from `first` on.

        A failing job never stops the others; an interrupt stops all, children first.
        """
        new_jobs = [SweepJob(first + index, list(words)) for index, words in enumerate(overrides)]
        self.jobs += new_jobs
        self._work(new_jobs, say)

    def again(self, say: Say) -> None:
        """Resumes the sweep: finished jobs stay, one with a checkpoint goes on from there, any other starts afresh."""
        for job in self.jobs:
            record = record_if_any(self.folder / str(job.number))
            if record.get("status") == "finished":
                seconds = (record.get("seconds") or {}).get("total", 0.0)
                job.status, job.error, job.seconds = "finished", "", job.seconds or round(seconds, 1)
            elif job.status == "finished":
                job.status = "failed"
        jobs_left = [job for job in self.jobs if job.status != "finished"]
        if not jobs_left:
            self._write()  # a job may have ended by itself, after its sweep was killed
            raise UserError(f"{self.folder}: all {len(self.jobs)} jobs have finished; there is nothing to resume")
        refuse_running(self.folder, [str(job.number) for job in jobs_left])
        say(f"{len(self.jobs) - len(jobs_left)} of {len(self.jobs)} jobs have finished; the others go on")
        for job in jobs_left:
            job.status, job.error, job.code = "waiting", "", 0
        self._work(jobs_left, say)

    def _work(self, queue: list[SweepJob], say: Say) -> None:
        processes: dict[int, tuple[SweepJob, subprocess.Popen[bytes], float]] = {}
        self.folder.mkdir(parents=True, exist_ok=True)
        with owned(self.folder, "another truetune works on this sweep; wait for it to end"):
            self._write()
            try:
                while queue or processes:
                    while queue and len(processes) < self.n_jobs:
                        job = queue.pop(0)
                        say(f"job {job.number}: {self.varied(job)}")
                        processes[job.number] = (job, self._start(job), time.time())
                    for number in [n for n, (_, process, _) in processes.items() if process.poll() is not None]:
                        job, process, start = processes.pop(number)
                        say(self._end(job, process.returncode, time.time() - start))
                    time.sleep(0.1)
            finally:
                for job, process, _ in processes.values():
                    process.terminate()
                    process.wait()
                    # It may have finished by itself just before.
                    is_done = status(self.folder / str(job.number)) == "finished"
                    job.status, job.error = (
                        ("finished", "") if is_done else ("interrupted", "the sweep was interrupted")
                    )
                self._write()

    def varied(self, job: SweepJob) -> str:
        """The overrides that tell a job from the others."""
        common = set.intersection(*(set(other.overrides) for other in self.jobs))
        return " ".join(word for word in job.overrides if word not in common) or " ".join(job.overrides)

    def _start(self, job: SweepJob) -> subprocess.Popen[bytes]:
        folder = self.folder / str(job.number)
        words = [*job.overrides, f"hydra.run.dir={quoted(folder)}", SWEEP_JOB]
        if (folder / LAST).is_file():
            words = [f"resume={folder.absolute()}"]
        elif (folder / RECORD).is_file():
            shutil.rmtree(folder)  # it ended before its first checkpoint
        folder.mkdir(parents=True, exist_ok=True)
        environment = {name: value for name, value in os.environ.items() if name not in self.hidden}
        environment["COLUMNS"] = "120"
        if self.n_jobs > 1:
            environment["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // self.n_jobs))
        job.status = "running"
        self._write()
        with (folder / LOG).open("ab" if words[0].startswith("resume=") else "wb") as log:
            return subprocess.Popen(
                [sys.executable, *STARTS[self.command], *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
            )

    def _end(self, job: SweepJob, code: int, seconds: float) -> str:
        """Records how a job ended, and returns it in words."""
        log = self.folder / str(job.number) / LOG
        job.seconds, job.code = round(seconds, 1), code
        job.status = "finished" if code == 0 else "failed"
        if code != 0:
            job.error = f"exit code {code}: {last_error(log)}"
        self._write()
        return f"job {job.number} {f'failed: {job.error} (log: {log})' if code else f'done in {job.seconds:.0f} s'}"

    def _write(self) -> None:
        rows: list[dict[str, Any]] = [asdict(job) for job in self.jobs]
        write_atomic(self.folder / TABLE, json.dumps({"command": self.command, "jobs": rows}, indent=1))

    def finish(self, say: Say) -> int:
        """Makes the frontier report, and names every failure once more.

        Returns the exit code: 1 if a job did not finish, else the worst code of the jobs that only the gate refused.
        """
        from rich.console import Console

        from truetune.report import models_page, sweep_page

        failures = [job for job in self.jobs if job.status != "finished"]
        for job in failures:
            say(f"failed: job {job.number} ({self.varied(job)}): {job.error}")
        gate_failures = [job for job in failures if job.code in GATED]
        finished_count = len(self.jobs) - len(failures) + len(gate_failures)
        gate_note = f", {len(gate_failures)} of them not let through by the gate" if gate_failures else ""
        say(f"{finished_count} of {len(self.jobs)} jobs finished{gate_note}")
        if finished_count:
            page = sweep_page.render(self.folder)
            say(f"table: {page.with_name('sweep.csv').absolute()}")
            say(f"frontier: {page.absolute()}")
            models_page.print_models(self.folder, Console())
        if len(failures) > len(gate_failures):
            return 1
        return min((job.code for job in self.jobs if job.code in GATED), default=0)


@dataclass
class SweepTask:
    """The function that Hydra is to call for each job of a sweep.

    Hydra makes the launcher itself and does not hand it out, but it gives this object to the launcher. Ours reads here
    what to hide from its jobs, and puts here the sweep that it runs.
    """

    call: Callable[[DictConfig], None]
    hidden: frozenset[str]
    command: Command = "train"
    sweep: Sweep | None = None

    def __call__(self, cfg: DictConfig) -> None:
        self.call(cfg)


def resumed(folder: Path, say: Say) -> Sweep:
    """The sweep of a folder, resumed (`truetune resume=SWEEP_DIR`) from where it was typed. Raises UserError."""
    try:
        table = json.loads((folder / TABLE).read_text(encoding="utf-8"))
        jobs = [SweepJob(**row) for row in table["jobs"]]
        n_jobs = int(hydra_setting(folder, "launcher.n_jobs") or 1)
        trials = int(hydra_setting(folder, "sweeper.n_trials") or 0)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder}: not the folder of a sweep that can be resumed ({first_line(error)})") from None
    if trials > len(jobs):
        say(
            f"the search had begun {len(jobs)} of its {trials} runs, and only those go on; a search that a later one "
            "can continue is typed with hydra.sweeper.storage=sqlite:///study.db"
        )
    go_to_origin(folder)
    sweep = Sweep(folder, n_jobs, jobs, command=table.get("command", "train"))
    sweep.again(say)
    return sweep


def refuse_running(folder: Path, numbers: Iterable[str]) -> None:
    """Raises UserError if one of the jobs still runs, though its sweep was killed."""
    for number in numbers:
        if in_use(folder / number / LOCK):
            raise UserError(f"{folder}: job {number} of the killed sweep still runs; wait for it to end")


def quoted(folder: Path) -> str:
    """The folder's path, quoted for Hydra's grammar: it may hold spaces, commas or quotes."""
    return escaped(str(folder.absolute()))


def escaped(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def last_error(log: Path) -> str:
    """The last line that reports an error, or else the last line; Hydra's advice after a traceback does not count."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    lines = [line for line in lines if line and FULL_ERROR not in line] or ["no output"]
    return ([line for line in lines if line.startswith("error: ")] or lines)[-1].removeprefix("error: ")


def to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
