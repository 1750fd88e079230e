"""Where a record comes from: code, packages, machine, command."""

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
from truetune.errors import UserError, is_job_of_sweep

HYDRA = "1.3.8"  # pip may choose 1.3.0 beside a newer omegaconf without a word; pyproject.toml says the same
PACKAGES = ("torch", "lightning", "transformers", "hydra-core", "omegaconf", "tensorboard", "numpy")


def check() -> None:
    """Raises UserError for a release of Hydra that runs code it is handed: another install may have put it in place."""
    from packaging.version import Version

    release = _version("hydra-core")
    if release is None or Version(release) < Version(HYDRA):
        raise UserError(
            f"hydra-core {release or 'is not installed'}: {HYDRA} or newer is needed, older ones run code that they "
            f"are handed; type pip install 'hydra-core>={HYDRA}'"
        )


def about(command: str, config: dict[str, Any], started: float, seconds: dict[str, float]) -> dict[str, Any]:
    """The head of run.json; `seconds` holds the total and its parts; command and config come without secrets."""
    from truetune.records.record import SCHEMA

    return {
        "schema": SCHEMA,
        "truetune_version": __version__,
        "git_sha": git_sha(),
        "created": datetime.fromtimestamp(started, timezone.utc).isoformat(timespec="seconds"),
        "seconds": seconds,
        "command": command,
        "config": config,
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "machine": {"system": platform.platform(), "cores": os.cpu_count(), "processor": platform.machine()},
    }


def line() -> str:
    """The line that `--version` prints; no package is imported for it."""
    packages = ", ".join(f"{name} {_version(name) or 'is not installed'}" for name in PACKAGES[:3])
    return f"truetune {__version__} ({packages})"


def command_line() -> str:
    """The command as typed: `truetune-measure`, or `truetune` however that was called, and its words.

    What a sweep adds for its job is left out, so that the command can be typed again and gets a folder of its own.
    """
    name, words = Path(sys.argv[0]).stem, sys.argv[1:]
    if is_job_of_sweep(words):
        words = [word for word in words if not word.startswith(("hydra.mode=", "hydra.run.dir="))]
    return shlex.join([name if name.startswith("truetune-") else "truetune", *words])


def git_sha() -> str | None:
    """The commit of the source tree that this package runs from; None for an installed wheel."""
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(root), "rev-parse", "HEAD"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return None
    return result.stdout.strip() or None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
