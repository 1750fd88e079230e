"""Ends the runs of a sweep that promise little. Each is a process of its own: they meet in their records."""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median
from typing import Any

from lightning import Callback, LightningModule, Trainer

from truetune.data.values import Count
from truetune.errors import rank
from truetune.records.run_folder import RECORD, SETTINGS, record_if_any

SCORE = "val/score"


class MedianPruning(Callback):
    """The median rule (Golovin et al. 2017): stops if the best score so far is below the others' median at this epoch.

    With an objective that has two sides, the score is their balance: a search may lose an end of the frontier.
    """

    def __init__(self, run_dir: str, runs: Count = 4, epochs: Count = 3) -> None:
        self.run_dir, self.runs, self.epochs = Path(run_dir), runs, epochs
        self.best = float("-inf")

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        self.best = max(self.best, float(trainer.callback_metrics[SCORE]))
        scores = self._scores_of_others(epoch) if rank() == 0 and epoch >= self.epochs else []
        is_poor = len(scores) >= max(self.runs, 1) and self.best < median(scores)
        if trainer.strategy.reduce_boolean_decision(is_poor, all=False):
            trainer.should_stop = True
            if rank() == 0:
                text = f"pruned: the best balance of {epoch} epochs is {self.best:.3f}"
                print(f"{text}, the median of {len(scores)} other runs {median(scores):.3f}", file=sys.stderr)

    def _scores_of_others(self, epoch: int) -> list[float]:
        """Scores at this epoch of the sweep's other runs that have finished; none outside of a sweep."""
        scores: list[float] = []
        if not (self.run_dir.parent / SETTINGS).is_file():
            return scores
        for path in self.run_dir.parent.glob(f"*/{RECORD}"):
            run = record_if_any(path.parent)
            if run.get("status") == "finished" and path.parent.resolve() != self.run_dir.resolve():
                rows = (entry["metrics"] for entry in run["history"] if entry["epoch"] == epoch)
                scores += [metrics[SCORE] for metrics in rows if SCORE in metrics][:1]
        return scores
