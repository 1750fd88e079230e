"""The digests that lie beside checkpoints, and which of them are whole. No torch."""

from __future__ import annotations

import shlex
from pathlib import Path

from truetune.errors import UserError
from truetune.records.files import file_digest


def sidecar(checkpoint: Path) -> Path:
    return checkpoint.with_name(f"{checkpoint.name}.sha256")


def check_digest(checkpoint: Path) -> None:
    """Raises UserError for a damaged file. One without a digest passes: it may have come from elsewhere."""
    note = sidecar(checkpoint)
    if note.is_file() and not _matches(checkpoint):
        raise damaged(checkpoint, f"its SHA-256 differs from {note.name}")


def damaged(checkpoint: Path, why: str) -> UserError:
    """Names the newest whole one beside it."""
    others = sorted(checkpoint.parent.glob("*.ckpt"), key=lambda path: path.stat().st_mtime, reverse=True)
    whole = next((path for path in others if path != checkpoint and sidecar(path).is_file() and _matches(path)), None)
    way_out = f"{whole.name} beside it is whole: truetune {shlex.quote(f'resume={whole.absolute()}')}" if whole else ""
    return UserError(f"{checkpoint}: the checkpoint is damaged ({why}); {way_out or 'start a new run'}")


def digest_lines(checkpoint: Path) -> list[str]:
    note = sidecar(checkpoint)
    return note.read_text(encoding="ascii", errors="replace").splitlines() if note.is_file() else []


def _matches(checkpoint: Path) -> bool:
    digest = file_digest(checkpoint)
    return any(line.split()[:1] == [digest] for line in digest_lines(checkpoint))
