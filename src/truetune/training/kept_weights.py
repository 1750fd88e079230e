"""Weights of chosen epochs beside the last checkpoint, in a way that an interrupted run can take up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lightning import Trainer


class Chosen(NamedTuple):
    """The weights that a callback wants the run to end with, and the optimizer steps and epochs behind them."""

    path: Path
    step: int
    epochs: int


class KeptWeights:
    """One file for each epoch. A file that is no longer kept is removed an epoch later: until the last checkpoint is
    written, a run that is killed resumes from the epoch before, which may still need it.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.epochs: list[int] = []
        self._to_remove: list[int] = []

    def path(self, epoch: int) -> Path:
        return self.folder / f"{self.name}-epoch={epoch}.ckpt"

    def keep(self, trainer: Trainer, epochs: Sequence[int]) -> None:
        """Saves the current weights under the last of `epochs`, if that is new; files of other epochs go."""
        for epoch in self._to_remove:
            trainer.strategy.remove_checkpoint(self.path(epoch))
        if epochs[-1] not in self.epochs:
            trainer.save_checkpoint(self.path(epochs[-1]), weights_only=True)
        self._to_remove = [epoch for epoch in self.epochs if epoch not in epochs]
        self.epochs = list(epochs)

    def state_dict(self) -> dict[str, Any]:
        return {"epochs": list(self.epochs), "left": list(self._to_remove)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epochs, self._to_remove = list(state["epochs"]), list(state["left"])
