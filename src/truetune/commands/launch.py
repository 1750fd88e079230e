"""Checks the command line, then leaves it to Hydra, which makes the folders and calls the job in each."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from truetune.commands.resume import check_unchanged, cluster_words, take_part
from truetune.commands.sweep import FULL_ERROR, SweepTask, resumed, to_stderr
from truetune.config import secrets
from truetune.errors import EXPECTED, UserError, first_line, rank, tell
from truetune.records.files import LOCK, in_use
from truetune.records.run_folder import HYDRA, RECORD, TABLE

if TYPE_CHECKING:
    from logging import LogRecord

    from omegaconf import DictConfig

    from truetune.config.checks import Command
    from truetune.config.run import Prepared

_PACKAGED = Path(__file__).parents[1] / "conf"  # in a wheel; in the source tree it lies beside src/
CONF = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parents[3] / "conf"

LONGEST = 1000  # characters of an error; a longer one is cut in the middle


def launch(command: Command, task: SweepTask | None = None) -> None:
    """Checks the command line, then runs one job or, with a `task`, the jobs of a sweep."""
    prepared = checked(sys.argv[1:], command)
    import hydra

    from truetune.config.compose import opened

    sys.argv[1:] = opened(sys.argv[1:])  # Hydra reads sys.argv
    if task is not None:
        os.environ.setdefault(FULL_ERROR, "1")  # else Hydra prints a sweeper's traceback itself, and exits
    hydra.main(version_base="1.3", config_path=str(CONF), config_name=command)(
        task or (lambda cfg: _job(cfg, prepared))
    )()


def with_data(words: list[str], command: Command) -> list[str]:
    """Adds the data source that belongs to a file of rows, if only the file was typed, and tells the user."""
    values = {name: value for name, _, value in (word.lstrip("+").partition("=") for word in words)}
    key, choice = ("data.train_file", "data=jsonl") if command == "train" else ("data.probe_file", "data=questions")
    if key not in values or values.keys() & {"data", "experiment", "resume", "--config-name", "-cn"}:
        return words
    choice = "data=text" if command == "train" and values[key].strip("'\"").endswith(".txt") else choice
    tell(f"{key} is a key of {choice}, which is added")
    position = next(i for i, word in enumerate(words) if word.lstrip("+").startswith(f"{key}="))
    return [*words[:position], choice, *words[position:]]  # keys may not stand on both sides of a flag


def checked(words: list[str], command: Command = "train") -> Prepared | None:
    """Makes all the checks that come before a folder is made; returns what a single run has prepared.

    Raises UserError.
    """
    from truetune.config import compose

    arguments = compose.parse(words)
    # These flags only print. So does --cfg, but there a bad key must be reported as well.
    if arguments.help or arguments.hydra_help or arguments.info or arguments.shell_completion:
        return None
    return compose.check(arguments, CONF, command, check_folder)


def check_folder(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Refuses a folder that is used already: Hydra would overwrite the configuration in it before we could say no."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        run_dir = OmegaConf.select(cfg, "hydra.run.dir")
    except OmegaConfBaseException as error:
        raise UserError(f"hydra.run.dir: {first_line(error)}") from None
    if not run_dir:
        raise UserError("hydra.run.dir= is empty; name a folder, or leave it out to get one below paths.log_dir")
    folder, is_resumed = Path(str(run_dir)), bool(cfg.get("resume"))
    if is_resumed:
        check_unchanged(cfg, folder, overrides)
    if ((folder / RECORD).exists() and not is_resumed) or ((folder / HYDRA.parent).exists() and in_use(folder / LOCK)):
        way_out = "wait for that run to end" if is_resumed else "choose another hydra.run.dir"
        raise UserError(f"{folder.absolute()}: this run folder is already in use; {way_out}")
    parent = next((path for path in [folder, *folder.absolute().parents] if path.exists()), Path("/"))
    if not parent.is_dir():
        raise UserError(f"{parent} is a file, not a folder; choose another paths.log_dir")
    try:
        TemporaryDirectory(dir=parent, prefix=".truetune.").cleanup()
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{parent.absolute()}: cannot write there ({reason}); choose another paths.log_dir") from None


def launch_sweep(command: Command = "train") -> None:
    """Runs the jobs of a sweep. The exit code is 0 only if every job finished.

    An error of the sweeper itself (no run of a search has ended) is printed last.
    """
    show_traceback = FULL_ERROR in os.environ
    task = SweepTask(_job, hidden=frozenset() if show_traceback else frozenset([FULL_ERROR]), command=command)
    problem: Exception | None = None
    try:
        launch(command, task)
    except EXPECTED:
        raise
    except Exception as error:
        if show_traceback:
            raise
        problem = error
    code = task.sweep.finish(to_stderr) if task.sweep else 0
    if problem is not None:
        print(f"error: {in_one_line(problem).removeprefix('error: ')}", file=sys.stderr)
    if problem is not None or code:
        raise SystemExit(1 if problem is not None else code)


def resume_sweep(folder: Path) -> None:
    """Resumes a sweep (`truetune resume=SWEEP_DIR`) here, or as jobs of the cluster that ran it."""
    if not (folder / TABLE).is_file():
        sys.argv[1:] = cluster_words(folder, CONF)
        launch_sweep()
    elif code := resumed(folder, to_stderr).finish(to_stderr):
        raise SystemExit(code)


def _job(cfg: DictConfig, prepared: Prepared | None = None) -> None:
    """One job: a run or an audit. Hydra calls this once the run folder exists."""
    import logging

    from hydra.core.hydra_config import HydraConfig
    from rich.console import Console

    from truetune.config.run import TrainingRun, build, prepare

    run_dir = Path(HydraConfig.get().runtime.output_dir)
    if _in_a_clusters_sweep() and cfg.get("resume") and not take_part(cfg, run_dir):
        return
    for handler in logging.getLogger().handlers:
        handler.addFilter(_without_secrets)
    try:
        run = build(cfg, prepared or prepare(cfg), run_dir)
        logging.raiseExceptions = False  # a full disk is reported once, not by the log file as well
        console = Console(stderr=True)
        if isinstance(run, TrainingRun):
            from truetune.commands.train import train

            train(run, console)
        else:
            from truetune.commands.measure import audit

            audit(run, console)
        if rank() == 0 and run.gate.typed():
            from truetune.commands.gate import judge

            judge(run_dir, run.gate)
    except EXPECTED as error:
        logging.getLogger("truetune").info("error: %s", error)
        _leave(run_dir, say_error(error), in_one_line(error))
    except SystemExit as stop:
        _leave(run_dir, stop.code, "it was asked to stop")


def _without_secrets(record: LogRecord) -> bool:
    record.msg, record.args = secrets.hide(record.getMessage()), ()
    return True


def _leave(run_dir: Path, code: Any, reason: str) -> None:
    """Ends a job with an exit code. A cluster's job (by submitit) must raise an error instead: whoever waits for a job
    that just exits hears nothing.
    """
    from hydra.errors import CompactHydraException

    if not _in_a_clusters_sweep():
        raise SystemExit(code)
    if code:  # ranks above 0 end with 0
        raise CompactHydraException(f"error: {run_dir}: exit code {code}: {reason}")


def _in_a_clusters_sweep() -> bool:
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    return "SUBMITIT_EXECUTOR" in os.environ and HydraConfig.get().mode == RunMode.MULTIRUN


def in_one_line(error: Exception) -> str:
    """The message in one line, without secrets; one that fills pages is cut to its two ends."""
    text = " ".join(secrets.hide(str(error)).split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"


def say_error(error: Any) -> int:
    """Prints an error as the last line of a command; returns the exit code."""
    prefix = f"rank {rank()}: " if rank() else ""
    print(f"error: {prefix}{in_one_line(error)}", file=sys.stderr)
    return error.exit_code
