"""Checkpoints that a crash cannot damage: a temporary file beside the target, fsync, rename; SHA-256 verified on load.

Lightning's own saving goes through $TMPDIR and a copy, so a kill or a full disk can destroy the previous good file.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from torch.utils._pytree import tree_leaves

from truetune.records.files import check_digest, damaged, file_digest, replacing_file, sidecar, write_atomic

SLACK = 1 << 20  # bytes of what a checkpoint holds besides tensors


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes the SHA-256 of a checkpoint beside it, as `<name>.sha256`; the second line is of the file it replaced."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Raises Unwritable if the disk is full or refuses; the old file is then still in place."""
        target = Path(path)
        tensors = [leaf for leaf in tree_leaves(checkpoint) if isinstance(leaf, torch.Tensor)]
        with replacing_file(target, sum(tensor.nbytes for tensor in tensors) + SLACK) as file:
            torch.save(checkpoint, file)
            file.flush()
            # Both digests until the next save: a kill between the two files must not make either look damaged.
            note = sidecar(target)
            old_line = note.read_text(encoding="ascii").splitlines()[:1] if note.is_file() else []
            lines = [f"{file_digest(Path(file.name))}  {target.name}", *old_line]
            write_atomic(note, "\n".join(lines) + "\n")

    def load_checkpoint(self, path: Any, map_location: Any | None = None, weights_only: bool | None = True) -> Any:
        """Raises UserError for a damaged file; only tensors and plain values are unpickled."""
        target = Path(path)
        check_digest(target)
        try:
            return torch.load(target, map_location=map_location, weights_only=True)
        except Exception as error:  # a torn file raises a dozen kinds
            raise damaged(target, "it cannot be read as tensors and plain values") from error

    def remove_checkpoint(self, path: Any) -> None:
        for file in [Path(path), *pieces(Path(path))]:
            sidecar(file).unlink(missing_ok=True)
            super().remove_checkpoint(file)


def piece_file(checkpoint: Path, rank: int, ranks: int, tag: str) -> Path:
    """The file of the pieces of a process other than the first; each save of a checkpoint has a `tag` of its own."""
    return checkpoint.with_name(f"{checkpoint.name}.{rank}of{ranks}.{tag}")


def pieces(checkpoint: Path, rank: int | None = None) -> list[Path]:
    """The existing piece files of one process or of all, whatever their tag."""
    number = r"\d+" if rank is None else str(rank)
    pattern = re.compile(rf"{re.escape(checkpoint.name)}\.{number}of\d+\.[0-9a-f]{{8}}")
    return [path for path in checkpoint.parent.glob("*of*") if pattern.fullmatch(path.name)]
