"""Entry points. Hydra alone is imported here: a misspelt key must not wait for torch."""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from truetune.config import secrets
from truetune.errors import EXPECTED, TERMINATED, UserError, rank

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from truetune.config.checks import Job
    from truetune.config.run import Prepared, Run

_PACKAGED = Path(__file__).parent / "conf"
CONF = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parents[2] / "conf"

LONGEST = 1000  # characters of an error

_prepared: Prepared | None = None


def _guarded(main: Callable[[], None]) -> Callable[[], NoReturn]:
    """The exit-code contract, around everything."""

    @wraps(main)
    def command() -> NoReturn:
        debug = "--debug" in sys.argv
        if debug:
            sys.argv.remove("--debug")
        for number in TERMINATED:  # set here, Lightning does not requeue
            signal.signal(number, _terminated)
        try:
            main()
        except EXPECTED as error:
            if debug:
                traceback.print_exc()
            raise SystemExit(_say(error)) from None
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            raise SystemExit(130) from None
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(1) from None
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            raise SystemExit(_say(UserError(f"{error.filename}: the name is too long; choose a shorter one"))) from None
        raise SystemExit(0)

    return command


@_guarded
def train() -> None:
    """`truetune`: a run, or with -m a sweep."""
    from truetune.commands import resume, sweep
    from truetune.config import compose
    from truetune.records import versions

    versions.check()
    arguments = compose.parse(sys.argv[1:])
    problem: Exception | None = None
    if "hydra.output_subdir=null" in arguments.overrides:  # rank 0 has started this one, with what it made of the words
        _launch("train")
    elif folder := resume.sweep_folder(arguments):
        sweep.resumed(folder, sweep.to_stderr)
    else:
        sys.argv[1:] = resume.expanded(sys.argv[1:], arguments)
        with _aside() as words:
            sys.argv += words
            if compose.is_sweep(arguments):
                problem = sweep.problem_of(lambda: _launch("train"))
            else:
                _launch("train")
    whole = [sweep.finish(jobs, sweep.to_stderr) for jobs in sweep.STARTED.values()]
    if problem is not None:
        print(f"error: {in_one_line(problem).removeprefix('error: ')}", file=sys.stderr)
    if problem is not None or not all(whole):
        raise SystemExit(1)


@contextmanager
def _aside() -> Generator[list[str]]:
    """More words for a rank that torchrun or srun has started: the run folder is rank 0's, so this one works aside."""
    if rank() == 0:
        yield []
        return
    named = any(word.startswith("hydra.run.dir=") for word in sys.argv)
    with tempfile.TemporaryDirectory(prefix="truetune.") as folder:
        yield ["hydra.output_subdir=null", *([] if named else [f"hydra.run.dir='{folder}'"])]


def _launch(job: Job) -> None:
    global _prepared
    from truetune.config import compose

    arguments = compose.parse(sys.argv[1:])
    if compose.runs_something(arguments):
        _prepared = compose.check(arguments, CONF, job)
    import hydra

    hydra.main(version_base="1.3", config_path=str(CONF), config_name=job)(_job)()


@_guarded
def measure() -> None:
    """`truetune-measure`: any model and, with a baseline, what it gained and lost against it."""
    from truetune.config import compose
    from truetune.records import versions

    versions.check()
    if compose.is_sweep(compose.parse(sys.argv[1:])):
        raise UserError("truetune-measure measures one model at a time; call it once for each, without -m")
    _launch("measure")


def _job(cfg: DictConfig) -> None:
    """What Hydra calls once the run folder exists."""
    import logging

    from hydra.core.hydra_config import HydraConfig

    from truetune.config.run import build, prepare

    run_dir = Path(HydraConfig.get().runtime.output_dir)
    try:
        job = build(cfg, _prepared or prepare(cfg), run_dir)
        logging.raiseExceptions = False  # a full disk is said once, not by the log file as well
        _start(job)
    except EXPECTED as error:
        logging.getLogger("truetune").info("error: %s", secrets.hide(str(error)))
        _leave(run_dir, _say(error), in_one_line(error))
    except SystemExit as asked:
        _leave(run_dir, asked.code, "it was asked to stop")


def _leave(run_dir: Path, code: Any, why: str) -> None:
    """A cluster's job (by submitit) must raise an error: of one that leaves, who waits for it hears nothing."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import CompactHydraException
    from hydra.types import RunMode

    if "SUBMITIT_EXECUTOR" not in os.environ or HydraConfig.get().mode != RunMode.MULTIRUN:
        raise SystemExit(code)
    if code:  # ranks over 0 leave with 0
        raise CompactHydraException(f"error: {run_dir}: exit code {code}: {why}")


def _start(job: Run) -> None:
    from rich.console import Console

    console = Console(stderr=True)
    if rank() == 0:
        console.print("loading torch, lightning and transformers", highlight=False, soft_wrap=True)
    if "baseline" in job.config:
        from truetune.commands.measure import audit as work
    else:
        from truetune.commands.train import run as work
    work(job, console)


@_guarded
def report() -> None:
    """`truetune-report`: pages again, from what runs recorded."""
    parser = _Parser(prog="truetune-report", description="(Re)make report.html, or frontier.html and sweep.csv.")
    parser.add_argument("folders", nargs="+", metavar="RUN_OR_SWEEP_DIR")
    folders = parser.parse_args().folders
    from truetune.commands.report import render

    for folder in folders:
        if not Path(folder).is_dir():
            raise UserError(f"{folder}: no such folder; give a run folder (it holds run.json) or a sweep folder")
        print(render(Path(folder)).absolute())


@_guarded
def export() -> None:
    """`truetune-export`: a run's tuned model as a Hugging Face folder."""
    parser = _Parser(prog="truetune-export", description="Write a run's tuned model as a Hugging Face folder.")
    parser.add_argument("run", type=Path, help="a run folder")
    parser.add_argument("out", type=Path, help="a folder that does not exist yet")
    parser.add_argument("--onnx", action="store_true", help="add model.onnx, for onnxruntime and what reads ONNX")
    words = parser.parse_args()
    from truetune.commands import export

    print(export.export(words.run, words.out, onnx=words.onnx).absolute())


@_guarded
def chat() -> None:
    """`truetune-chat`: a run's base and tuned model, asked the same."""
    parser = _Parser(prog="truetune-chat", description="Ask a run's base and its tuned model the same, side by side.")
    parser.add_argument("run", type=Path, help="a run folder")
    parser.add_argument("--prompt", metavar="TEXT", help="print both answers and exit")
    parser.add_argument("--max-new-tokens", type=int, metavar="N", help="tokens of an answer (64, or half the context)")
    words = parser.parse_args()
    if words.max_new_tokens is not None and words.max_new_tokens < 1:
        raise UserError(f"--max-new-tokens {words.max_new_tokens}: should be at least 1")
    from truetune.commands.export import saved_model
    from truetune.records.record import read_run

    config, model = read_run(words.run)["config"], saved_model(words.run)  # before torch is imported
    from rich.console import Console

    from truetune.commands import chat

    pair = chat.partners(words.run.absolute(), config, model.absolute())
    chat.chat(pair, words.prompt, words.max_new_tokens, Console())


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; {self.prog} --help shows the usage")


def _terminated(*_: object) -> NoReturn:
    """SIGTERM unwinds the stack, so that jobs are stopped, locks freed and the record says `interrupted`."""
    print("terminated", file=sys.stderr)
    raise SystemExit(143)


def in_one_line(error: Exception) -> str:
    """Without secrets, and of a value that fills pages only the ends."""
    text = " ".join(secrets.hide(str(error)).split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"


def _say(error: Any) -> int:
    """The last line of a command, and its exit code."""
    which = f"rank {rank()}: " if rank() else ""
    print(f"error: {which}{in_one_line(error)}", file=sys.stderr)
    return error.exit_code
