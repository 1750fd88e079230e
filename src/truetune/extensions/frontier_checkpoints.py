"""Checkpoints that no other beats on both what is gained and what is kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

from truetune.data.dataset import Dataset
from truetune.errors import UserError
from truetune.probes.selection import can_select
from truetune.scoring.balance import non_dominated


class FrontierCheckpoint(Callback):
    """Saves the weights of every epoch on the frontier of the two selection metrics; removes those that are beaten.

    It is no `Checkpoint`, which Lightning calls last: the run's last checkpoint must hold this epoch's point.
    """

    def __init__(self, dirpath: str, gained: str = "val/right", kept: str = "val/known_right") -> None:
        self.folder, self.metrics = Path(dirpath), (gained, kept)
        self.points: dict[str, tuple[float, float]] = {}

    def check(self, config: Mapping[str, Any], data: Dataset) -> list[str]:
        if not (can_select(config, data) and data.select_known):
            raise UserError(
                "callbacks=frontier: this data source, with these probes, has no selection questions on what was "
                "known; leave it out"
            )
        return []

    def state_dict(self) -> dict[str, Any]:
        return {"points": dict(self.points)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.points = {name: (gained, kept) for name, (gained, kept) in state_dict["points"].items()}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        gained, kept = (float(trainer.callback_metrics[name]) for name in self.metrics)
        if (gained, kept) in self.points.values():
            return
        name = f"frontier-epoch={trainer.current_epoch + 1}-gained={gained:.3f}-kept={kept:.3f}.ckpt"
        points = {**self.points, name: (gained, kept)}
        front = dict(zip(points, non_dominated(list(points.values())), strict=True))
        if front[name]:
            trainer.save_checkpoint(self.folder / name, weights_only=True)
        losers = [other for other in self.points if not front[other]]
        self.points = {other: point for other, point in points.items() if front[other]}
        for other in losers:
            trainer.strategy.remove_checkpoint(self.folder / other)
