"""`truetune resume=RUN_DIR`, or a checkpoint in it: an interrupted run's command line, typed again on its behalf.

What stands behind `resume=` was typed for this session, and may differ from what the run started with.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from truetune.commands.sweep import quoted, refuse_running
from truetune.errors import UserError, rank
from truetune.records.files import check_digest
from truetune.records.record import changes
from truetune.records.run_folder import (
    CONFIGURATION,
    HYDRA,
    LAST,
    SETTINGS,
    TABLE,
    WORDS,
    go_to_origin,
    hydra_setting,
    noted,
    status,
)

if TYPE_CHECKING:
    from omegaconf import DictConfig

# What may be typed anew: groups, each with how the keys begin that it sets, and single keys. All else would make
# another run of it.
GROUPS = {"clip": "trainer.gradient_clip_", "schedule": "schedule."}
KEYS = (
    *("optimizer.lr", "optimizer.weight_decay", "trainer.max_epochs", "trainer.max_steps", "trainer.max_time"),
    *("trainer.log_every_n_steps", "trainer.gradient_clip_val", "trainer.gradient_clip_algorithm"),
    *("run.on_nonfinite", "run.final", "measure.points", "run.save_model", "run.threads"),
    *("run.preview", "run.merge", "allow"),
)
LONGER = ("trainer.max_epochs", "trainer.max_steps", "trainer.max_time")


def sweep_folder(arguments: argparse.Namespace) -> Path | None:
    """The folder that is to be resumed, if it is a sweep's."""
    request, beside = _request(arguments)
    folder = Path(request.partition("=")[2]).absolute()
    if not request or not ((folder / TABLE).is_file() or _of_a_cluster(folder)):
        return None
    if beside:
        raise UserError(f"a sweep is resumed as it was typed; resume one of its jobs to change {_key(beside[0])}")
    return folder


def _of_a_cluster(folder: Path) -> bool:
    """Whether submitit started the jobs, each of which then goes on by itself."""
    return (folder / SETTINGS).is_file() and "submitit" in str(hydra_setting(folder, "launcher._target_"))


def cluster_words(folder: Path, conf: Path) -> list[str]:
    """What starts a cluster's sweep again in its folder; `resume=` is the sweep's own, for each job to take its part.

    Raises UserError if a job still runs, or could not go on by itself: a file of `conf` has changed since it started.
    """
    from truetune.config import compose

    if hydra_setting(folder, "job.config_name") != "train":
        raise UserError(f"{folder}: audits that a cluster made are not resumed; type that sweep again")
    waiting = [path.parents[1] for path in sorted(folder.glob(f"*/{WORDS}")) if status(path.parents[1]) != "finished"]
    refuse_running(folder, [run.name for run in waiting])
    for run in waiting:
        if (run / LAST).is_file():
            request = [f"resume={run}"]
            words = expanded(request, compose.parse(request))
            check_unchanged(compose.compose(conf, words, compose.parse(words)), run, words)
    go_to_origin(folder)
    typed, place = hydra_setting(folder, "overrides"), quoted(folder)
    own = ("hydra.mode", "hydra.sweep.dir", "resume")
    words = [word for word in [*typed.hydra, *typed.task] if _key(word) not in own]
    return ["-m", *words, f"hydra.sweep.dir={place}", f"resume={place}"]


def take_part(cfg: DictConfig, run_dir: Path) -> bool:
    """Of a cluster's sweep that goes on: whether this job has work to do, and `cfg.resume` for it alone."""
    if status(run_dir) == "finished":
        return False
    cfg.resume = str(run_dir.absolute()) if (run_dir / LAST).is_file() else None
    if cfg.resume is None and rank() == 0:  # it ended before its first checkpoint, and what it left goes
        for path in run_dir.iterdir():
            if path.is_file() and path.suffix != ".log":  # the log is written to already
                path.unlink()
            elif path.is_dir() and path.name != HYDRA.parent.name:
                shutil.rmtree(path)
    return True


def _request(arguments: argparse.Namespace) -> tuple[str, list[str]]:
    """The word that asks to resume, empty if none does, and those typed beside it."""
    requests = [word for word in arguments.overrides if word.startswith("resume=") and word != "resume=null"]
    if not requests:
        return "", []
    beside = [word for word in arguments.overrides if word not in requests]
    fixed = [
        key
        for key in map(_key, beside)
        if key not in (*GROUPS, *KEYS) and (not key.startswith("schedule.") or key == "schedule._target_")
    ]
    if fixed or len(requests) > 1 or arguments.multirun:
        change = fixed[0] if fixed else "-m" if arguments.multirun else "anything else"
        allowed = ", ".join([*GROUPS, *KEYS[:3]])
        raise UserError(f"a resumed run may change {allowed} and the like; start a new run to change {change}")
    return requests[0], beside


def _key(word: str) -> str:
    return word.lstrip("+~").partition("=")[0]


def expanded(argv: list[str], arguments: argparse.Namespace) -> list[str]:
    """`resume=DIR` becomes the overrides that DIR has recorded, but those typed anew; all else stays as it is.

    Their relative paths were meant from where the run was typed, so that is where we go.
    """
    request, beside = _request(arguments)
    if not request:
        return argv
    place = Path(request.partition("=")[2]).absolute()
    folder, checkpoint = (place.parents[1], place) if place.suffix == ".ckpt" else (place, place / LAST)
    if not folder.is_dir() or request == "resume=":
        raise UserError(f"{request}: no such run folder; type resume=RUN_DIR")
    if not (folder / WORDS).is_file():
        raise UserError(f"{folder}: not the folder of a run (it holds no {WORDS}); type resume=RUN_DIR")
    keys = [_key(word) for word in beside]
    if status(folder) == "finished" and not set(LONGER) & set(keys):
        way_out = "there is nothing to resume (trainer.max_epochs=... adds epochs)"
        raise UserError(f"{folder}: this run has finished; {way_out}")
    go_to_origin(folder)
    anew = ("resume", "allow", *keys, *(GROUPS.get(key, key) for key in keys))
    recorded = [word for word in map(str, noted(folder, WORDS)) if not _key(word).startswith(anew)]
    if checkpoint.parent.is_symlink():
        raise UserError(f"{checkpoint.parent}: a link, which no run makes; move the folder itself back there")
    if not arguments.cfg:
        if not checkpoint.is_file():
            missing = checkpoint.relative_to(folder)
            raise UserError(f"{folder}: there is no checkpoint ({missing}) to go on from; start a new run")
        check_digest(checkpoint)
    flags = [word for word in argv if word != request and word not in beside]
    return [*flags, *recorded, f"hydra.run.dir={quoted(folder)}", f"resume={quoted(place)}", *beside]


def check_unchanged(cfg: DictConfig, folder: Path, overrides: Sequence[str]) -> None:
    """The files of conf/ may have been edited since; and `resume` written into one of them is no request."""
    from omegaconf import OmegaConf

    place = Path(str(cfg.resume))
    if folder.absolute() not in (place, *place.parents[1:2]) or not (folder / CONFIGURATION).is_file():
        raise UserError(f"resume={cfg.resume}: type it on the command line, as truetune resume=RUN_DIR")
    ends = [at for at, word in enumerate(overrides, start=1) if word.startswith("resume=")]
    typed = tuple(GROUPS.get(key, key) for key in map(_key, overrides[ends[-1] :] if ends else ()))
    now: Any = OmegaConf.to_container(cfg, resolve=False)
    for key, (was, is_now) in changes(noted(folder, CONFIGURATION), now).items():
        if not key.startswith(typed):
            raise UserError(f"{key} was {was} when the run started and is {is_now} now; put it back")
