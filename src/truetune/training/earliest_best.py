"""The choice of final weights that does not reward chance: the earliest that cannot be told from the best."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

from truetune.errors import Say
from truetune.scoring.selection_score import Selected
from truetune.training.kept_weights import Chosen, KeptWeights
from truetune.training.measuring import Measuring, remark


class EarliestBest(Callback):
    """Keeps the weights of every epoch whose `val/score` cannot be told from the best so far, by the paired interval of
    their difference on the selection questions; the earliest of them is the run's.
    """

    def __init__(self, folder: Path, measuring: Measuring, say: Say) -> None:
        self.kept, self.measuring, self.say = KeptWeights(folder, "candidate"), measuring, say
        self.steps: dict[int, int] = {}  # optimizer steps taken by the end of an epoch
        self.answers: dict[int, Selected] = {}

    def state_dict(self) -> dict[str, Any]:
        answers = {epoch: selected.plain() for epoch, selected in self.answers.items()}
        return {"kept": self.kept.state_dict(), "steps": dict(self.steps), "answers": answers}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.kept.load_state_dict(state_dict["kept"])
        self.steps = dict(state_dict["steps"])
        self.answers = {epoch: Selected(**plain) for epoch, plain in state_dict["answers"].items()}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epoch, selected = trainer.current_epoch + 1, self.measuring.selected
        assert selected is not None, "without selection questions run.final=earliest_best is refused"
        self.steps[epoch], self.answers[epoch] = trainer.global_step, selected
        best = self.answers[self.best]
        candidates = [each for each in self.answers if each == self.best or not self.answers[each].is_below(best)]
        self.steps = {each: self.steps[each] for each in candidates}
        self.answers = {each: self.answers[each] for each in candidates}
        self.kept.keep(trainer, candidates)

    @property
    def best(self) -> int:
        """The epoch with the highest score; the first of equal ones."""
        return max(self.answers, key=lambda epoch: self.answers[epoch].score)

    def chosen(self) -> Chosen | None:
        """The weights to end with, reported with the reason; None before the first epoch's end."""
        if not self.answers:
            return None
        (epoch, *others), best = list(self.answers), self.best
        score, best_score = self.answers[epoch].score, self.answers[best].score
        why = f"it cannot be told from the best, {best_score:.3f} after epoch {best}" if others else "the best"
        text = f"the weights after epoch {epoch} are taken, val/score {score:.3f}: {why}"
        remark(self.measuring.history, self.steps[epoch], "run.final=earliest_best", text)
        self.say(text)
        return Chosen(self.kept.path(epoch), self.steps[epoch], epoch)
