"""`truetune resume=RUN_DIR`, or a checkpoint in it: an interrupted run's command line, typed again on its behalf.

Words after `resume=` were typed for this session, and may differ from what the run started with.
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

# What may be changed on resuming: groups, each with the prefix of the keys that it sets, and single keys. Any other
# change would make it another run.
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
    request, extra_words = _request(arguments)
    folder = Path(request.partition("=")[2]).absolute()
    if not request or not ((folder / TABLE).is_file() or _of_a_cluster(folder)):
        return None
    if extra_words:
        raise UserError(f"a sweep is resumed as it was typed; resume one of its jobs to change {_key(extra_words[0])}")
    return folder


def _of_a_cluster(folder: Path) -> bool:
    """Whether submitit started the sweep's jobs, each of which then goes on by itself."""
    return (folder / SETTINGS).is_file() and "submitit" in str(hydra_setting(folder, "launcher._target_"))


def cluster_words(folder: Path, conf: Path) -> list[str]:
    """The words that start a cluster's sweep again in its folder; by `resume=` each job finds its own part of it.

    Raises UserError if a job still runs, or could not go on by itself: a file of `conf` has changed since it started.
    """
    from truetune.config import compose

    if hydra_setting(folder, "job.config_name") != "train":
        raise UserError(f"{folder}: audits that a cluster made are not resumed; type that sweep again")
    runs = [path.parents[1] for path in sorted(folder.glob(f"*/{WORDS}")) if status(path.parents[1]) != "finished"]
    refuse_running(folder, [run.name for run in runs])
    for run in runs:
        if (run / LAST).is_file():
            request = [f"resume={run}"]
            words = expanded(request, compose.parse(request))
            check_unchanged(compose.compose(conf, words, compose.parse(words)), run, words)
    go_to_origin(folder)
    overrides, target = hydra_setting(folder, "overrides"), quoted(folder)
    own_keys = ("hydra.mode", "hydra.sweep.dir", "resume")
    words = [word for word in [*overrides.hydra, *overrides.task] if _key(word) not in own_keys]
    return ["-m", *words, f"hydra.sweep.dir={target}", f"resume={target}"]


def take_part(cfg: DictConfig, run_dir: Path) -> bool:
    """Whether this job of a cluster's resumed sweep has work to do. Sets `cfg.resume` to what this job resumes."""
    if status(run_dir) == "finished":
        return False
    cfg.resume = str(run_dir.absolute()) if (run_dir / LAST).is_file() else None
    if cfg.resume is None and rank() == 0:  # it ended before its first checkpoint: remove what it left
        for path in run_dir.iterdir():
            if path.is_file() and path.suffix != ".log":  # the log is written to already
                path.unlink()
            elif path.is_dir() and path.name != HYDRA.parent.name:
                shutil.rmtree(path)
    return True


def _request(arguments: argparse.Namespace) -> tuple[str, list[str]]:
    """The word that asks to resume, empty if none does, and the words typed beside it, which change the run.

    Raises UserError for a change that a resumed run may not make.
    """
    requests = [word for word in arguments.overrides if word.startswith("resume=") and word != "resume=null"]
    if not requests:
        return "", []
    changed_words = [word for word in arguments.overrides if word not in requests]
    fixed_keys = [
        key
        for key in map(_key, changed_words)
        if key not in (*GROUPS, *KEYS) and (not key.startswith("schedule.") or key == "schedule._target_")
    ]
    if fixed_keys or len(requests) > 1 or arguments.multirun:
        change = fixed_keys[0] if fixed_keys else "-m" if arguments.multirun else "anything else"
        examples = ", ".join([*GROUPS, *KEYS[:3]])
        raise UserError(f"a resumed run may change {examples} and the like; start a new run to change {change}")
    return requests[0], changed_words


def _key(word: str) -> str:
    return word.lstrip("+~").partition("=")[0]


def expanded(argv: list[str], arguments: argparse.Namespace) -> list[str]:
    """Replaces `resume=DIR` by the overrides that DIR has recorded, except those typed anew; other words stay.

    Changes to the folder that the run was typed in, since the relative paths in its overrides start there.
    """
    request, changed_words = _request(arguments)
    if not request:
        return argv
    target = Path(request.partition("=")[2]).absolute()
    folder, checkpoint = (target.parents[1], target) if target.suffix == ".ckpt" else (target, target / LAST)
    if not folder.is_dir() or request == "resume=":
        raise UserError(f"{request}: no such run folder; type resume=RUN_DIR")
    if not (folder / WORDS).is_file():
        raise UserError(f"{folder}: not the folder of a run (it holds no {WORDS}); type resume=RUN_DIR")
    keys = [_key(word) for word in changed_words]
    if status(folder) == "finished" and not set(LONGER) & set(keys):
        way_out = "there is nothing to resume (trainer.max_epochs=... adds epochs)"
        raise UserError(f"{folder}: this run has finished; {way_out}")
    go_to_origin(folder)
    new_keys = ("resume", "allow", *keys, *(GROUPS.get(key, key) for key in keys))
    old_words = [word for word in map(str, noted(folder, WORDS)) if not _key(word).startswith(new_keys)]
    if checkpoint.parent.is_symlink():
        raise UserError(f"{checkpoint.parent}: a link, which no run makes; move the folder itself back there")
    if not arguments.cfg:
        if not checkpoint.is_file():
            name = checkpoint.relative_to(folder)
            raise UserError(f"{folder}: there is no checkpoint ({name}) to go on from; start a new run")
        check_digest(checkpoint)
    flags = [word for word in argv if word != request and word not in changed_words]
    return [*flags, *old_words, f"hydra.run.dir={quoted(folder)}", f"resume={quoted(target)}", *changed_words]


def check_unchanged(cfg: DictConfig, folder: Path, overrides: Sequence[str]) -> None:
    """Raises UserError if files of conf/ were edited since the run started, or if `resume` stands in one of them."""
    from omegaconf import OmegaConf

    target = Path(str(cfg.resume))
    if folder.absolute() not in (target, *target.parents[1:2]) or not (folder / CONFIGURATION).is_file():
        raise UserError(f"resume={cfg.resume}: type it on the command line, as truetune resume=RUN_DIR")
    positions = [at for at, word in enumerate(overrides, start=1) if word.startswith("resume=")]
    may_change = tuple(GROUPS.get(key, key) for key in map(_key, overrides[positions[-1] :] if positions else ()))
    config: Any = OmegaConf.to_container(cfg, resolve=False)
    for key, (old, new) in changes(noted(folder, CONFIGURATION), config).items():
        if not key.startswith(may_change):
            raise UserError(f"{key} was {old} when the run started and is {new} now; put it back")
