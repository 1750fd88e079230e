"""Checkpoints that a crash cannot tear: a temporary file beside the target, fsync, rename; SHA-256 verified on load.

Lightning's own saving goes through $TMPDIR and a copy, so a kill or a full disk can destroy the previous good file.
"""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from truetune.errors import UserError
from truetune.record import write_atomic


class AtomicCheckpointIO(TorchCheckpointIO):
    """The digest lies beside the checkpoint as `<name>.sha256`."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            digest = file_digest(temporary)
            # The old digest goes first: a kill between the two files must not make a whole checkpoint look damaged.
            sidecar(target).unlink(missing_ok=True)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
        write_atomic(sidecar(target), f"{digest}  {target.name}\n")

    def load_checkpoint(self, path: Any, map_location: Any | None = None, weights_only: bool | None = True) -> Any:
        """Raises UserError for a damaged file; only tensors and plain values are unpickled."""
        target = Path(path)
        note = sidecar(target)
        if note.is_file() and note.read_text(encoding="ascii").split()[:1] != [file_digest(target)]:
            raise UserError(f"{target}: the checkpoint is damaged (its SHA-256 differs from {note.name})")
        try:
            return torch.load(target, map_location=map_location, weights_only=True)
        except OSError:
            raise
        except Exception as error:  # the unpickler raises whatever the bytes lead it to
            raise UserError(f"{target}: holds more than weights, or is cut short; it is not read") from error

    def remove_checkpoint(self, path: Any) -> None:
        sidecar(Path(path)).unlink(missing_ok=True)
        super().remove_checkpoint(path)


def sidecar(checkpoint: Path) -> Path:
    return checkpoint.with_name(f"{checkpoint.name}.sha256")


def file_digest(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()
