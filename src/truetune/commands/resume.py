"""`truetune resume=RUN_DIR`, or a checkpoint in it: an interrupted run's command line, typed again on its behalf.

What stands behind `resume=` was typed for this session, and may differ from what the run started with.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from truetune.commands.sweep import quoted
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

    Raises UserError if a file of `conf` has changed since a job with a checkpoint started.
    """
    from truetune.config import compose

    words = [*hydra_setting(folder, "overrides.hydra"), *hydra_setting(folder, "overrides.task")]
    go_to_origin(folder)
    for run in (path.parents[1] for path in sorted(folder.glob(f"*/{LAST}"))):
        of_job = [word for word in map(str, noted(run, WORDS)) if _key(word) != "resume"]
        of_job.append(f"resume={quoted(run)}")
        check_unchanged(compose.compose(conf, of_job, compose.parse(of_job)), run, of_job)
    own = ("hydra.mode", "hydra.sweep.dir", "resume")
    place = quoted(folder)
    return ["-m", *(word for word in words if _key(word) not in own), f"hydra.sweep.dir={place}", f"resume={place}"]


def take_part(cfg: DictConfig, run_dir: Path) -> bool:
    """Of a cluster's sweep that goes on: whether this job has work to do, and `cfg.resume` for it alone."""
    if status(run_dir) == "finished":
        return False
    cfg.resume = str(run_dir.absolute()) if (run_dir / LAST).is_file() else None
    for path in run_dir.iterdir() if cfg.resume is None and rank() == 0 else ():
        if path.name != HYDRA.parent.name:  # it ended before its first checkpoint
            shutil.rmtree(path) if path.is_dir() else path.unlink()
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
