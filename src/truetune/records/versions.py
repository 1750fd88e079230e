"""What a record says about where it comes from: code, packages, machine, command."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from truetune import __version__
from truetune.config import secrets
from truetune.errors import UserError, is_job_of_sweep

# Older ones run code that a configuration, a checkpoint or a model folder hands them; pyproject.toml says the same.
FLOORS = {"hydra-core": "1.3.8", "lightning": "2.6.6", "transformers": "5.20", "torch": "2.11"}
PACKAGES = ("torch", "lightning", "transformers", "hydra-core", "omegaconf", "tensorboard", "numpy")


def check() -> None:
    """Raises UserError for a release that is not safe to start: another install may have put it in place."""
    from packaging.version import Version

    for package, floor in FLOORS.items():
        found = _version(package)
        if found is None or Version(found) < Version(floor):
            raise UserError(
                f"{package} {found or 'is not installed'}: {floor} or newer is needed, older ones run code that they "
                f"are handed; type pip install '{package}>={floor}'"
            )


def about(config: dict[str, Any], started: float, seconds: dict[str, float]) -> dict[str, Any]:
    """The head of run.json; `seconds` holds the total and its parts."""
    from truetune.records.record import SCHEMA

    return {
        "schema": SCHEMA,
        "truetune_version": __version__,
        "git_sha": git_sha(),
        "created": datetime.fromtimestamp(started, timezone.utc).isoformat(timespec="seconds"),
        "seconds": seconds,
        "command": secrets.hide(shlex.join([_command(), *_typed(sys.argv[1:])])),
        "config": config,
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "machine": {"system": platform.platform(), "cores": os.cpu_count(), "processor": platform.machine()},
    }


def _command() -> str:
    """`truetune-measure`, or `truetune` however that was called."""
    name = Path(sys.argv[0]).stem
    return name if name.startswith("truetune-") else "truetune"


def _typed(words: list[str]) -> list[str]:
    """Without what a sweep adds for its job: the command can be typed again, and gets a folder of its own."""
    if not is_job_of_sweep(words):
        return words
    return [word for word in words if not word.startswith(("hydra.mode=", "hydra.run.dir="))]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def git_sha() -> str | None:
    """Of the source tree that this package runs from; None for an installed wheel."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return None
    return found.stdout.strip() or None
