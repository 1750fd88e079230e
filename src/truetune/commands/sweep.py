"""A sweep's jobs, each in a process of its own: no seed, environment or memory leaks from one into the next."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from truetune.errors import EXPECTED, UserError, first_line
from truetune.records.files import in_use, owned, write_atomic
from truetune.records.run_folder import LAST, LOG, RECORD, TABLE, go_to_origin, hydra_setting, record_if_any, status

FULL_ERROR = "HYDRA_FULL_ERROR"


@dataclass
class Job:
    """One line of sweep.json."""

    number: int
    overrides: list[str]
    status: str = "waiting"
    error: str = ""
    seconds: float = 0.0


@dataclass
class Jobs:
    """Runs jobs, at most `n_jobs` at once, and keeps `sweep.json` up to date."""

    folder: Path
    n_jobs: int = 1
    jobs: list[Job] = field(default_factory=list)

    def run(self, overrides: Sequence[Sequence[str]], first: int, say: Callable[[str], None]) -> None:
        """A failing job never stops the others; an interrupt stops all, children first."""
        waiting = [Job(first + index, list(words)) for index, words in enumerate(overrides)]
        self.jobs += waiting
        self._work(waiting, say)

    def again(self, say: Callable[[str], None]) -> None:
        """Finished jobs are kept; one with a checkpoint goes on from there, any other starts afresh."""
        for job in self.jobs:
            record = record_if_any(self.folder / str(job.number))
            if record.get("status") == "finished":
                took = (record.get("seconds") or {}).get("total", 0.0)
                job.status, job.error, job.seconds = "finished", "", job.seconds or round(took, 1)
            elif job.status == "finished":
                job.status = "failed"
        waiting = [job for job in self.jobs if job.status != "finished"]
        if not waiting:
            self._write()  # one may have ended by itself, after its sweep was killed
            raise UserError(f"{self.folder}: all {len(self.jobs)} jobs have finished; there is nothing to resume")
        for job in waiting:
            if in_use(self.folder / str(job.number)):
                raise UserError(f"{self.folder}: job {job.number} of the killed sweep still runs; wait for it to end")
        say(f"{len(self.jobs) - len(waiting)} of {len(self.jobs)} jobs have finished; the others go on")
        for job in waiting:
            job.status, job.error = "waiting", ""
        self._work(waiting, say)

    def _work(self, waiting: list[Job], say: Callable[[str], None]) -> None:
        STARTED[self.folder] = self
        self.folder.mkdir(parents=True, exist_ok=True)
        with owned(self.folder, "another truetune works on this sweep; wait for it to end"):
            self._write()
            self._run_all(waiting, say)

    def _run_all(self, waiting: list[Job], say: Callable[[str], None]) -> None:
        running: dict[int, tuple[Job, subprocess.Popen[bytes], float]] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self.n_jobs:
                    job = waiting.pop(0)
                    say(f"job {job.number}: {self.varied(job)}")
                    running[job.number] = (job, self._start(job), time.time())
                for number in [n for n, (_, process, _) in running.items() if process.poll() is not None]:
                    job, process, since = running.pop(number)
                    self._finish(job, process.returncode, time.time() - since)
                    say(_line(job, self.folder))
                time.sleep(0.1)
        finally:
            for job, process, _ in running.values():
                process.terminate()
                process.wait()
                ended = status(self.folder / str(job.number)) == "finished"  # just before
                job.status, job.error = ("finished", "") if ended else ("interrupted", "the sweep was interrupted")
            self._write()

    def varied(self, job: Job) -> str:
        """What tells a job from the others."""
        common = set.intersection(*(set(other.overrides) for other in self.jobs))
        return " ".join(word for word in job.overrides if word not in common) or " ".join(job.overrides)

    def _start(self, job: Job) -> subprocess.Popen[bytes]:
        folder = self.folder / str(job.number)
        words = [*job.overrides, f"hydra.run.dir={quoted(folder)}", "hydra.mode=RUN"]
        if (folder / LAST).is_file():
            words = [f"resume={folder.absolute()}"]
        elif (folder / RECORD).is_file():
            shutil.rmtree(folder)  # it ended before its first checkpoint
        folder.mkdir(parents=True, exist_ok=True)
        environment = {name: value for name, value in os.environ.items() if name not in OWN} | {"COLUMNS": "120"}
        if self.n_jobs > 1:
            environment["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // self.n_jobs))
        job.status = "running"
        self._write()
        with (folder / LOG).open("ab" if words[0].startswith("resume=") else "wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "truetune", *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
            )

    def _finish(self, job: Job, code: int, seconds: float) -> None:
        job.seconds = round(seconds, 1)
        job.status = "finished" if code == 0 else "failed"
        if code != 0:
            job.error = f"exit code {code}: {_last_error(self.folder / str(job.number) / LOG)}"
        self._write()

    def _write(self) -> None:
        rows: list[dict[str, Any]] = [asdict(job) for job in self.jobs]
        write_atomic(self.folder / TABLE, json.dumps({"jobs": rows}, indent=1))


def resumed(folder: Path, say: Callable[[str], None]) -> None:
    """`truetune resume=SWEEP_DIR`, from the folder that the sweep was typed in. Raises UserError."""
    try:
        rows = json.loads((folder / TABLE).read_text(encoding="utf-8"))["jobs"]
        jobs = [Job(**row) for row in rows]
        n_jobs = int(hydra_setting(folder, "launcher.n_jobs") or 1)
        trials = int(hydra_setting(folder, "sweeper.n_trials") or 0)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder}: not the folder of a sweep that can be resumed ({first_line(error)})") from None
    if trials > len(jobs):
        say(
            f"the search had begun {len(jobs)} of its {trials} runs, and only those go on; one that is to go on with "
            "others is typed again with hydra.sweeper.storage=sqlite:///study.db"
        )
    go_to_origin(folder)
    Jobs(folder, n_jobs, jobs).again(say)


OWN: set[str] = set()  # variables that are set for this process alone: jobs have the user's environment
STARTED: dict[Path, Jobs] = {}  # what this process has launched, for its last words and its exit code


def quoted(folder: Path) -> str:
    """Hydra's grammar: a path may hold spaces, commas or quotes."""
    return "'" + str(folder.absolute()).replace("\\", "\\\\").replace("'", "\\'") + "'"


def _last_error(log: Path) -> str:
    said = map(str.strip, log.read_text(encoding="utf-8", errors="replace").splitlines())
    lines = [line for line in said if line and FULL_ERROR not in line]  # Hydra's last words after a traceback
    named = [line for line in lines if line.startswith("error: ")]
    return (named or lines or ["no output"])[-1].removeprefix("error: ")


def _line(job: Job, folder: Path) -> str:
    if job.status != "finished":
        return f"job {job.number} failed: {job.error} (log: {folder / str(job.number) / LOG})"
    return f"job {job.number} done in {job.seconds:.0f} s"


def problem_of(launch: Callable[[], None]) -> Exception | None:
    """What a sweeper or launcher raised, without its traceback: no run of a search ended, a cluster's job failed."""
    if FULL_ERROR in os.environ:  # its traceback was asked for
        launch()
        return None
    os.environ[FULL_ERROR] = "1"  # else Hydra shows the traceback itself, and leaves
    OWN.add(FULL_ERROR)
    try:
        launch()
    except EXPECTED:
        raise
    except Exception as error:
        return error
    finally:
        OWN.remove(FULL_ERROR)
        del os.environ[FULL_ERROR]
    return None


def finish(sweep: Jobs, say: Callable[[str], None]) -> bool:
    """The end of a sweep: the frontier report, and every failure once more. Returns whether every job finished."""
    from truetune.report import sweep_page

    failed = [job for job in sweep.jobs if job.status != "finished"]
    for job in failed:
        say(f"failed: job {job.number} ({sweep.varied(job)}): {job.error}")
    say(f"{len(sweep.jobs) - len(failed)} of {len(sweep.jobs)} jobs finished")
    if len(failed) < len(sweep.jobs):
        page = sweep_page.render(sweep.folder)
        say(f"table: {page.with_name('sweep.csv').absolute()}")
        say(f"frontier: {page.absolute()}")
    return not failed


def to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
