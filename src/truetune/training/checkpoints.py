"""Checkpoints that a crash cannot tear: a temporary file beside the target, fsync, rename; SHA-256 verified on load.

Lightning's own saving goes through $TMPDIR and a copy, so a kill or a full disk can destroy the previous good file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from truetune.records.files import (
    TORN,
    check_digest,
    damaged,
    file_digest,
    sidecar,
    sidecar_lines,
    sync_folder,
    write_atomic,
    writing,
)

SLACK = 1 << 20  # what a checkpoint holds besides tensors


class AtomicCheckpointIO(TorchCheckpointIO):
    """The digest lies beside the checkpoint as `<name>.sha256`, below it that of the file before it."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Raises Unwritable, with the old file in place, if the disk is full or refuses."""
        target = Path(path)
        temporary = target.with_name(f".{target.name}.{os.getpid()}{TORN}")
        with writing(target, _size(checkpoint) + SLACK):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with temporary.open("wb") as file:
                    torch.save(checkpoint, file)
                    file.flush()
                    os.fsync(file.fileno())
                # Both digests until the next save: a kill between the two files must not make either look damaged.
                lines = [f"{file_digest(temporary)}  {target.name}", *sidecar_lines(target)[:1]]
                write_atomic(sidecar(target), "\n".join(lines) + "\n")
                os.replace(temporary, target)
                sync_folder(target.parent)
            finally:
                temporary.unlink(missing_ok=True)

    def load_checkpoint(self, path: Any, map_location: Any | None = None, weights_only: bool | None = True) -> Any:
        """Raises UserError for a damaged file; only tensors and plain values are unpickled."""
        target = Path(path)
        check_digest(target)
        try:
            return torch.load(target, map_location=map_location, weights_only=True)
        except Exception as error:  # a torn file raises a dozen kinds
            raise damaged(target, "it cannot be read as tensors and plain values") from error

    def remove_checkpoint(self, path: Any) -> None:
        sidecar(Path(path)).unlink(missing_ok=True)
        super().remove_checkpoint(path)


def _size(value: Any) -> int:
    """Bytes of the tensors in nested dictionaries and lists."""
    if isinstance(value, torch.Tensor):
        return value.nbytes
    if isinstance(value, dict):
        return sum(_size(item) for item in value.values())
    return sum(_size(item) for item in value) if isinstance(value, (list, tuple)) else 0
