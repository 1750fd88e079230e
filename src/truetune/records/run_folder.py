"""The one place that knows what the folders of runs and sweeps hold, and where. No torch."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from truetune.errors import UserError

RECORD = "run.json"
LAST = Path("checkpoints", "last.ckpt")  # where an interrupted run goes on
MODEL = "model"  # the weights that were measured at the end
ADAPTER = "adapter"  # of a LoRA run, in PEFT's format
REPORT = "report.html"
WORDS, CONFIGURATION, HYDRA = (Path(".hydra", name) for name in ("overrides.yaml", "config.yaml", "hydra.yaml"))
# A sweep's folder holds a run folder per job, named by its number, and in each the job's output.
TABLE, SETTINGS, LOG = "sweep.json", "multirun.yaml", "output.log"


def items_file(folder: Path, probe: str, when: str) -> Path:
    """The items of a probe; `when` is base or final."""
    return folder / "items" / f"{probe}.{when}.jsonl"


def record_if_any(folder: Path) -> dict[str, Any]:
    """What run.json holds, unchecked; empty if there is none, or none that can be read."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def status(folder: Path) -> str:
    """The recorded status; a run that was killed could record nothing, and counts as interrupted."""
    return str(record_if_any(folder).get("status", "interrupted"))


def noted(folder: Path, file: Path) -> Any:
    """What Hydra noted down of a run: its WORDS, or its CONFIGURATION as composed, with interpolations unresolved.

    Raises UserError if it cannot be read.
    """
    from omegaconf import OmegaConf

    return OmegaConf.to_container(_loaded(folder, file), resolve=False)


def swept(folder: Path) -> list[str]:
    """The keys that tell a run from the others of its sweep; none without a sweep around it."""
    try:
        jobs = json.loads((folder.absolute().parent / TABLE).read_text(encoding="utf-8"))["jobs"]
        lines = [[str(word) for word in job["overrides"]] for job in jobs]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    common = set[str].intersection(*map(set, lines)) if lines else set[str]()
    keys = (word.lstrip("+").partition("=")[0] for line in lines for word in line if word not in common)
    return list(dict.fromkeys(keys))


def hydra_setting(folder: Path, key: str) -> Any:
    """The value that Hydra noted down for a run or a sweep under `hydra.{key}`, or None. Raises UserError."""
    from omegaconf import OmegaConf

    file = SETTINGS if any((folder / name).is_file() for name in (TABLE, SETTINGS)) else HYDRA
    return OmegaConf.select(_loaded(folder, file), f"hydra.{key}")


def go_to_origin(folder: Path) -> None:
    """Changes to the folder that a run or a sweep was typed in: the relative paths in its words were meant from there.

    Raises UserError if that was not noted down; stays here if there is no such folder any more.
    """
    origin = Path(str(hydra_setting(folder, "runtime.cwd")))
    if origin.is_dir():
        os.chdir(origin)


def _loaded(folder: Path, file: str | Path) -> Any:
    from omegaconf import OmegaConf
    from yaml import YAMLError

    try:
        return OmegaConf.load(folder / file)
    except (OSError, ValueError, YAMLError) as error:
        kind = "sweep that can be resumed" if file == SETTINGS else "run"
        raise UserError(f"{folder}: not the folder of a {kind} ({file}: {error})") from None
