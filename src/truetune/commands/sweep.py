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
GATED = (GateBroken.exit_code, GateUndecided.exit_code)  # all was measured
STARTS: dict[Command, list[str]] = {
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
    code: int = 0  # with which it ended


@dataclass
class Sweep:
    """Runs jobs, at most `n_jobs` at once, and keeps `sweep.json` up to date."""

    folder: Path
    n_jobs: int = 1
    jobs: list[SweepJob] = field(default_factory=list)
    hidden: frozenset[str] = frozenset()  # variables of this process that its jobs do not inherit
    command: Command = "train"

    def run(self, overrides: Sequence[Sequence[str]], first: int, say: Say) -> None:
        """A failing job never stops the others; an interrupt stops all, children first."""
        waiting = [SweepJob(first + index, list(words)) for index, words in enumerate(overrides)]
        self.jobs += waiting
        self._work(waiting, say)

    def again(self, say: Say) -> None:
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
        refuse_running(self.folder, [str(job.number) for job in waiting])
        say(f"{len(self.jobs) - len(waiting)} of {len(self.jobs)} jobs have finished; the others go on")
        for job in waiting:
            job.status, job.error, job.code = "waiting", "", 0
        self._work(waiting, say)

    def _work(self, waiting: list[SweepJob], say: Say) -> None:
        running: dict[int, tuple[SweepJob, subprocess.Popen[bytes], float]] = {}
        self.folder.mkdir(parents=True, exist_ok=True)
        with owned(self.folder, "another truetune works on this sweep; wait for it to end"):
            self._write()
            try:
                while waiting or running:
                    while waiting and len(running) < self.n_jobs:
                        job = waiting.pop(0)
                        say(f"job {job.number}: {self.varied(job)}")
                        running[job.number] = (job, self._start(job), time.time())
                    for number in [n for n, (_, process, _) in running.items() if process.poll() is not None]:
                        job, process, since = running.pop(number)
                        say(self._end(job, process.returncode, time.time() - since))
                    time.sleep(0.1)
            finally:
                for job, process, _ in running.values():
                    process.terminate()
                    process.wait()
                    # It may have finished by itself just before.
                    ended = status(self.folder / str(job.number)) == "finished"
                    job.status, job.error = ("finished", "") if ended else ("interrupted", "the sweep was interrupted")
                self._write()

    def varied(self, job: SweepJob) -> str:
        """What tells a job from the others."""
        common = set.intersection(*(set(each.overrides) for each in self.jobs))
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
        """Notes down how a job ended; returns it in words."""
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
        """The frontier report, and every failure once more. Returns the exit code: of jobs that the gate alone did not
        let through the worst of theirs, and 1 if any other did not finish.
        """
        from rich.console import Console

        from truetune.report import models_page, sweep_page

        failed = [job for job in self.jobs if job.status != "finished"]
        for job in failed:
            say(f"failed: job {job.number} ({self.varied(job)}): {job.error}")
        gated = [job for job in failed if job.code in GATED]
        ended = len(self.jobs) - len(failed) + len(gated)
        held = f", {len(gated)} of them not let through by the gate" if gated else ""
        say(f"{ended} of {len(self.jobs)} jobs finished{held}")
        if ended:
            page = sweep_page.render(self.folder)
            say(f"table: {page.with_name('sweep.csv').absolute()}")
            say(f"frontier: {page.absolute()}")
            models_page.print_models(self.folder, Console())
        if len(failed) > len(gated):
            return 1
        return min((job.code for job in self.jobs if job.code in GATED), default=0)


@dataclass
class SweepTask:
    """What Hydra is to call for each job of a sweep.

    Hydra makes the launcher itself and hands nothing of it back, but it hands this on to the launcher: ours reads
    here what to hide from its jobs, and leaves here the sweep that it runs.
    """

    call: Callable[[DictConfig], None]
    hidden: frozenset[str]
    command: Command = "train"
    sweep: Sweep | None = None

    def __call__(self, cfg: DictConfig) -> None:
        self.call(cfg)


def resumed(folder: Path, say: Say) -> Sweep:
    """`truetune resume=SWEEP_DIR`, run from the folder that the sweep was typed in. Raises UserError."""
    try:
        table = json.loads((folder / TABLE).read_text(encoding="utf-8"))
        jobs = [SweepJob(**row) for row in table["jobs"]]
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
    sweep = Sweep(folder, n_jobs, jobs, command=table.get("command", "train"))
    sweep.again(say)
    return sweep


def refuse_running(folder: Path, numbers: Iterable[str]) -> None:
    """Raises UserError if one of the jobs still runs, though its sweep was killed."""
    for number in numbers:
        if in_use(folder / number / LOCK):
            raise UserError(f"{folder}: job {number} of the killed sweep still runs; wait for it to end")


def quoted(folder: Path) -> str:
    """Hydra's grammar: a path may hold spaces, commas or quotes."""
    return escaped(str(folder.absolute()))


def escaped(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def last_error(log: Path) -> str:
    """The last line with an error, or the last line; Hydra's advice after a traceback is neither."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    lines = [line for line in lines if line and FULL_ERROR not in line] or ["no output"]
    return ([line for line in lines if line.startswith("error: ")] or lines)[-1].removeprefix("error: ")


def to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
