"""`truetune resume=RUN_DIR`, or a checkpoint in it: an interrupted run's command line, typed again on its behalf."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from truetune.checkpoints import check_digest
from truetune.errors import UserError
from truetune.record import LAST
from truetune.settings import leaves
from truetune.sweep import TABLE, quoted

if TYPE_CHECKING:
    from omegaconf import DictConfig


def sweep_folder(arguments: argparse.Namespace) -> Path | None:
    """The folder that is to be resumed, if it is a sweep's."""
    asked = _asked(arguments)
    folder = Path(asked.partition("=")[2]).absolute() if asked else None
    return folder if folder and (folder / TABLE).is_file() else None


def _asked(arguments: argparse.Namespace) -> str | None:
    asked = [word for word in arguments.overrides if word.startswith("resume=") and word != "resume=null"]
    if not asked:
        return None
    others = [word for word in arguments.overrides if word not in asked]
    if others or len(asked) > 1 or arguments.multirun:
        word = others[0].partition("=")[0] if others else "anything else" if len(asked) > 1 else "-m"
        raise UserError(f"resume goes on with the run's own configuration; start a new run to change {word}")
    return asked[0]


def expanded(argv: list[str], arguments: argparse.Namespace) -> list[str]:
    """`resume=DIR` becomes the overrides that DIR has recorded; anything else stays as it is."""
    asked = _asked(arguments)
    if asked is None:
        return argv
    named = Path(asked.partition("=")[2]).absolute()
    folder = named.parents[1] if named.suffix == ".ckpt" else named
    recorded = _recorded(folder, asked)
    checkpoint = named if named.suffix == ".ckpt" else folder / LAST
    if checkpoint.parent.is_symlink():
        raise UserError(f"{checkpoint.parent}: a link, which no run makes; move the folder itself back there")
    if not arguments.cfg:
        if not checkpoint.is_file():
            missing = checkpoint.relative_to(folder)
            raise UserError(f"{folder}: there is no checkpoint ({missing}) to go on from; start a new run")
        check_digest(checkpoint)
    flags = [word for word in argv if word != asked]
    return [*flags, *recorded, f"hydra.run.dir={quoted(folder)}", f"resume={quoted(named)}"]


def _recorded(folder: Path, typed: str) -> list[str]:
    """The overrides of the run; its relative paths were meant from where it was typed, so that is where we go."""
    from omegaconf import OmegaConf

    if not folder.is_dir() or typed == "resume=":
        raise UserError(f"{typed}: no such run folder; type resume=RUN_DIR")
    try:
        found: Any = OmegaConf.to_container(OmegaConf.load(folder / ".hydra" / "overrides.yaml"))
        home = Path(str(OmegaConf.select(OmegaConf.load(folder / ".hydra" / "hydra.yaml"), "hydra.runtime.cwd")))
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{folder}: not the folder of a run (.hydra/overrides.yaml: {error})") from None
    if _status(folder) == "finished":
        raise UserError(f"{folder}: this run has finished; there is nothing to resume")
    if home.is_dir():
        os.chdir(home)
    return [str(word) for word in found if not str(word).startswith("resume=")]


def _status(folder: Path) -> str:
    try:
        return str(json.loads((folder / "run.json").read_text(encoding="utf-8")).get("status"))
    except (OSError, ValueError, AttributeError):
        return "interrupted"  # killed before it could say so


def check(cfg: DictConfig, folder: Path) -> None:
    """The files of conf/ may have been edited since; and `resume` written into one of them is no request."""
    from omegaconf import OmegaConf

    record = folder / ".hydra" / "config.yaml"
    if folder.absolute() not in (Path(str(cfg.resume)), *Path(str(cfg.resume)).parents[1:2]) or not record.is_file():
        raise UserError(f"resume={cfg.resume}: type it on the command line, as truetune resume=RUN_DIR")
    now, then = (dict(leaves(_unresolved(node))) for node in (cfg, OmegaConf.load(record)))
    for key in [*now, *then]:
        if key != "resume" and not key.startswith("hydra.") and now.get(key) != then.get(key):
            raise UserError(f"{key} was {then.get(key)} when the run started and is {now.get(key)} now; put it back")


def _unresolved(node: Any) -> Any:
    from omegaconf import OmegaConf

    return OmegaConf.to_container(node, resolve=False)
