"""The commands' entry points. This module imports no torch: a misspelt key is reported without waiting for it."""

from __future__ import annotations

import argparse
import errno
import gc
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from functools import wraps
from pathlib import Path
from typing import NoReturn

from truetune.commands.launch import launch, launch_sweep, resume_sweep, say_error, with_data
from truetune.errors import EXPECTED, RANK_OF_A_RUN, TERMINATED, UserError, rank, started_by_rank_0

# How often a waiting thread spins: libgomp's 300,000 make two runs at once 20 times as slow, 0 one alone 1.3 times.
SPINS = "3000"
# How many new objects there are before garbage is looked for: at Python's own 700 a seventh of the time in which torch
# and transformers are imported goes into that.
NEW_OBJECTS = 50_000


def _guarded(main: Callable[[], None]) -> Callable[[], NoReturn]:
    """Wraps a command so that it ends by the exit-code contract of errors.py, whatever happens in it."""

    @wraps(main)
    def command() -> NoReturn:
        if "OMP_WAIT_POLICY" not in os.environ:
            os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
            os.environ.setdefault("KMP_BLOCKTIME", "1")  # milliseconds, for other OpenMP libraries
        gc.set_threshold(NEW_OBJECTS)
        if "--version" in sys.argv[1:]:
            from truetune.records import versions

            print(versions.line())
            raise SystemExit(0)
        debug = "--debug" in sys.argv
        if debug:
            sys.argv.remove("--debug")
        for number in TERMINATED:  # where these are handled already, Lightning does not requeue a cluster's job
            signal.signal(number, _terminated)
        code = 0
        try:
            main()
        except EXPECTED as error:
            if debug:
                traceback.print_exc()
            code = say_error(error)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            code = 130
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 1
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            code = say_error(UserError(f"{error.filename}: the name is too long; choose a shorter one"))
        raise SystemExit(code)

    return command


@_guarded
def train() -> None:
    """`truetune`: starts or resumes a run or, with -m, a sweep."""
    from truetune.commands import resume
    from truetune.config import compose
    from truetune.records import versions

    versions.check()
    arguments = compose.parse(sys.argv[1:])
    if started_by_rank_0(arguments.overrides):
        launch("train")
    elif folder := resume.sweep_folder(arguments):
        resume_sweep(folder)
    else:
        sys.argv[1:] = with_data(resume.expanded(sys.argv[1:], arguments), "train")
        with tempfile.TemporaryDirectory(prefix="truetune.") if rank() else nullcontext() as temporary:
            if temporary is not None:  # torchrun or srun has started this rank, and the run folder is rank 0's
                has_run_dir = any(word.startswith("hydra.run.dir=") for word in sys.argv)
                sys.argv += [RANK_OF_A_RUN, *([] if has_run_dir else [f"hydra.run.dir='{temporary}'"])]
            if compose.is_sweep(arguments):
                launch_sweep()
            else:
                launch("train")


@_guarded
def measure() -> None:
    """`truetune-measure`: measures one model or several, and what each gained and lost against a baseline."""
    from truetune.commands import several_models
    from truetune.config import compose
    from truetune.records import versions

    versions.check()
    sys.argv[1:] = several_models.expanded(with_data(sys.argv[1:], "measure"))
    if compose.is_sweep(compose.parse(sys.argv[1:])):
        launch_sweep("measure")
    else:
        launch("measure")


@_guarded
def report() -> None:
    """`truetune-report`: makes the pages again from what runs recorded, or holds a run to limits."""
    description = "(Re)make report.html, or frontier.html and sweep.csv; with gate.max.METRIC=... hold a run to limits."
    parser = _Parser(prog="truetune-report", description=description)
    parser.add_argument("folders", nargs="+", metavar="RUN_OR_SWEEP_DIR")
    words = parser.parse_args().folders
    limits = [word for word in words if word.lstrip("+").startswith(("gate.", "gate="))]
    folders = [Path(word) for word in words if word not in limits]
    from truetune.commands.report import judge, render

    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; give a run folder (it holds run.json) or a sweep folder")
    for folder in folders if not limits else ():
        print(render(folder).absolute())
    if limits:
        judge(folders, limits)


@_guarded
def export() -> None:
    """`truetune-export`: writes a run's tuned model as a Hugging Face folder."""
    parser = _Parser(prog="truetune-export", description="Write a run's tuned model as a Hugging Face folder.")
    parser.add_argument("run", type=Path, help="a run folder")
    parser.add_argument("out", type=Path, help="a folder that does not exist yet")
    parser.add_argument("--onnx", action="store_true", help="add model.onnx, for onnxruntime and what reads ONNX")
    parser.add_argument("--dtype", choices=["auto", "float32", "bfloat16"], default="auto", help="of the weights")
    arguments = parser.parse_args()
    from truetune.commands import export

    print(export.export(arguments.run, arguments.out, onnx=arguments.onnx, dtype=arguments.dtype).absolute())


@_guarded
def compare() -> None:
    """`truetune-compare`: compares two models by the per-sample logs that other tools wrote of them."""
    description = "Compare two models by the logs that lm_eval --log_samples or inspect_ai wrote of them, item by item."
    usage, epilog = "truetune-compare A B [out=DIR]", "out=DIR names a new folder for the page (logs/compare/DATE_TIME)"
    parser = _Parser(prog="truetune-compare", description=description, usage=usage, epilog=epilog)
    parser.add_argument("words", nargs="+", metavar="A B", help="a log of each model, or a folder of its logs")
    words: list[str] = parser.parse_args().words
    folders = [word.removeprefix("out=") for word in words if word.startswith("out=")]
    logs = [Path(word) for word in words if not word.startswith("out=")]
    if len(logs) != 2:
        parser.error(f"two logs are compared, found {len(logs)}")
    if len(folders) > 1 or "" in folders:
        parser.error("out= names no folder" if "" in folders else "out is named twice")
    from truetune.commands.compare import compare

    print(compare(logs[0], logs[1], Path(folders[0]) if folders else None).absolute())


@_guarded
def chat() -> None:
    """`truetune-chat`: asks a run's base and its tuned model the same prompts."""
    parser = _Parser(prog="truetune-chat", description="Ask a run's base and its tuned model the same, side by side.")
    parser.add_argument("run", type=Path, help="a run folder")
    parser.add_argument("--prompt", metavar="TEXT", help="print both answers and exit")
    parser.add_argument("--max-new-tokens", type=int, metavar="N", help="tokens of an answer (64, or half the context)")
    arguments = parser.parse_args()
    if arguments.max_new_tokens is not None and arguments.max_new_tokens < 1:
        raise UserError(f"--max-new-tokens {arguments.max_new_tokens}: should be at least 1")
    from truetune.commands.tuned_model import saved_model
    from truetune.records.record import read_run

    record, model = read_run(arguments.run), saved_model(arguments.run)  # before torch is imported
    from rich.console import Console

    from truetune.commands import chat

    pair = chat.partners(arguments.run.absolute(), record, model.absolute())
    chat.chat(pair, arguments.prompt, arguments.max_new_tokens, Console())


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; {self.prog} --help shows the usage")


def _terminated(*_: object) -> NoReturn:
    """Ends the process by an exception: it unwinds the stack, so that jobs are stopped, locks are freed and the record
    says `interrupted`.
    """
    print("terminated", file=sys.stderr)
    raise SystemExit(143)
