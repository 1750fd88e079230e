"""`trainer=fsdp`: Lightning's strategy for a model in pieces, one piece of every weight for each process.

Lightning's own checkpoints of such a model are folders that are neither whole nor safe to read after a crash, with a
pickle in them. Here each process writes its pieces to a file of its own, through the IO of all other checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from secrets import token_hex
from typing import Any

import torch
from lightning.fabric.strategies.model_parallel import _setup_device_mesh  # pyright: ignore[reportPrivateUsage]
from lightning.pytorch.strategies import ModelParallelStrategy, ParallelStrategy, Strategy
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.optim import Optimizer
from torch.utils._pytree import tree_map

from truetune.errors import EXPECTED, UserError, gathered, work_in_step
from truetune.training.checkpoints import AtomicCheckpointIO, piece_file, pieces

NAME = "fsdp"  # of the strategy, in trainer.strategy
PATIENCE = timedelta(hours=12)  # for which processes wait for another one, which may be measuring
IN_PIECES = ("state_dict", "optimizer_states")
KEY = "pieces"  # what a checkpoint says of the files of the other processes


class Sharded(ModelParallelStrategy):
    """All processes share the weights. A checkpoint is the first one's file, which names those of the others."""

    def __init__(self) -> None:
        super().__init__(tensor_parallel_size=1, timeout=PATIENCE)

    def setup_environment(self) -> None:
        """Called by the Trainer; what `start` has done is not done again."""
        self._data_parallel_size = self.num_processes * self.num_nodes
        if self._device_mesh is None:
            super().setup_environment()
        elif self.lightning_module is not None:
            ParallelStrategy.setup_environment(self)
            self.lightning_module._device_mesh = self._device_mesh  # pyright: ignore[reportPrivateUsage]

    def start(self) -> None:
        """Starts all processes, before there is anything to fit; from then on all of them work in step."""
        ranks = self.num_processes * self.num_nodes
        if self.launcher is not None:  # else the others were started from outside, or this is one of them
            self.launcher.launch(lambda: None)
        ParallelStrategy.setup_environment(self)
        self._setup_distributed()
        self._device_mesh = _setup_device_mesh(ranks, 1, self.world_size, self.root_device)
        work_in_step(ranks)

    @property
    def mesh(self) -> Any:
        """The mesh of all processes."""
        return self.device_mesh["data_parallel"]

    @property
    def lightning_restore_optimizer(self) -> bool:
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        return ParallelStrategy.lightning_module_state_dict(self)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        return ParallelStrategy.optimizer_state(self, optimizer)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        Strategy.load_model_state_dict(self, checkpoint, strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        Strategy.load_optimizer_state_dict(self, checkpoint)

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any | None = None) -> None:
        """Writes the others' files first, under new names: until the first one's is replaced, the old ones count."""
        path, ranks, rank = Path(self.broadcast(str(filepath))), self.world_size, self.global_rank
        tag = self.broadcast(token_hex(4))
        own_pieces: dict[str, Any] = tree_map(_pack, {key: checkpoint[key] for key in IN_PIECES if key in checkpoint})
        if rank > 0:
            self._run_together(
                lambda: AtomicCheckpointIO().save_checkpoint(own_pieces, piece_file(path, rank, ranks, tag))
            )
            self._run_together(None)
        else:
            self._run_together(None)
            main_checkpoint = {**checkpoint, **own_pieces, KEY: {"tag": tag, "of": ranks}}
            self._run_together(lambda: AtomicCheckpointIO().save_checkpoint(main_checkpoint, path))
        for file in pieces(path, rank):
            if not file.name.endswith(tag):
                AtomicCheckpointIO().remove_checkpoint(file)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """The first process's file with this one's pieces; raises UserError if the number of processes is another."""
        path, checkpoint = Path(checkpoint_path), dict[str, Any]()

        def load() -> None:
            checkpoint.update(AtomicCheckpointIO().load_checkpoint(path, map_location="cpu"))
            note: dict[str, Any] = checkpoint.get(KEY) or {"of": 1, "tag": ""}
            if note["of"] != self.world_size:
                words = f"{note['of']} process{'es' if note['of'] > 1 else ''}, not {self.world_size}"
                raise UserError(f"{path}: this run was made by {words}; use as many again")
            if self.global_rank > 0:
                piece = piece_file(path, self.global_rank, self.world_size, note["tag"])
                if not piece.is_file():
                    raise UserError(f"{path}: {piece.name} is missing beside it; start a new run")
                checkpoint.update(AtomicCheckpointIO().load_checkpoint(piece, map_location="cpu"))

        self._run_together(load)
        for key in IN_PIECES:
            if key in checkpoint:
                checkpoint[key] = tree_map(self._unpack, checkpoint[key], is_leaf=_is_piece)
        return checkpoint

    def _unpack(self, value: Any) -> Any:
        if not _is_piece(value):
            return value
        size, piece = torch.Size(value["size"]), value["piece"].to(self.root_device)
        placement = Replicate() if value["cut"] is None else Shard(value["cut"])
        stride = torch.empty(size, device="meta").stride()
        return DTensor.from_local(piece, self.mesh, [placement], run_check=False, shape=size, stride=stride)

    def _run_together(self, action: Any) -> None:
        """Runs `action`. If any process fails, the first raises its error and all leave: none waits for ever."""
        problem = None
        try:
            if action is not None:
                action()
        except EXPECTED as error:
            problem = error
        problems = [each for each in gathered(problem, self.world_size) if each is not None]
        if problems:
            raise problems[0] if self.global_rank == 0 else SystemExit(problems[0].exit_code)


def _pack(value: Any) -> Any:
    """A piece with its place; plain tensors and values, which are all that a checkpoint may hold, stay as they are."""
    if not isinstance(value, DTensor):
        return value
    (placement,) = value.placements
    if placement.is_partial():
        value, placement = value.redistribute(placements=[Replicate()]), Replicate()
    cut = placement.dim if isinstance(placement, Shard) else None
    return {"piece": value.to_local(), "size": list(value.shape), "cut": cut}


def _is_piece(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"piece", "size", "cut"}


def load_whole(path: Path) -> dict[str, Any]:
    """A checkpoint without its optimizer, the weights put together from the files of all processes."""
    io = AtomicCheckpointIO()
    checkpoint: dict[str, Any] = io.load_checkpoint(path, map_location="cpu")
    checkpoint.pop("optimizer_states", None)
    note = checkpoint.get(KEY)
    if note is None:
        return checkpoint
    states = [checkpoint["state_dict"]]
    for rank in range(1, note["of"]):
        states.append(io.load_checkpoint(piece_file(path, rank, note["of"], note["tag"]))["state_dict"])

    def join(name: str) -> Any:
        parts = [state[name] for state in states]
        if not _is_piece(parts[0]) or parts[0]["cut"] is None:
            return parts[0]["piece"] if _is_piece(parts[0]) else parts[0]
        return torch.cat([part["piece"] for part in parts], parts[0]["cut"])

    return {**checkpoint, "state_dict": {name: join(name) for name in states[0]}}
