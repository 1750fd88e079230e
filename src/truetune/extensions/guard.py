"""Limits on the selection questions while a run trains: what is done once one is broken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lightning import Callback, LightningModule, Trainer

from truetune.data.dataset import Dataset
from truetune.data.values import Finite, NotNegative, Text
from truetune.errors import UserError
from truetune.probes.selection import can_select
from truetune.scoring.gate import Bound, Decision, Limit, decide, overall
from truetune.scoring.selection_score import REPORTED, Selected
from truetune.training.kept_weights import Chosen, KeptWeights
from truetune.training.measuring import Measuring, remark

OF_KNOWN = ("val/known_right", "val/lost_rate")
WORDS: dict[Bound, str] = {"max": "at most", "min": "at least", "max_drop": "worse than the base's by at most"}


@dataclass(eq=False)
class Guard(Callback):
    """Decides after each epoch, by the whole interval as a gate does at the end: is a limit kept, broken or undecided?

    A broken limit is reported (`warn`), ends training (`stop`), or ends it with the weights of the last epoch that kept
    all limits (`rollback`); these may be the untouched ones. `undecided` says what a limit counts as if there are too
    few questions to decide it.
    """

    dirpath: Text
    max: Mapping[str, Finite | None] = field(default_factory=dict[str, float])
    min: Mapping[str, Finite | None] = field(default_factory=dict[str, float])
    max_drop: Mapping[str, NotNegative | None] = field(default_factory=dict[str, float])
    action: Literal["warn", "stop", "rollback"] = "stop"
    undecided: Literal["pass", "fail"] = "pass"

    def __post_init__(self) -> None:
        self.base: Selected | None = None
        self.broken: list[str] = []  # limits, as they were last reported
        self.inside = KeptWeights(Path(self.dirpath), "inside")
        self.steps = 0  # optimizer steps behind those weights
        self.rolled_back = False

    def check(self, config: Mapping[str, Any], data: Dataset) -> list[str]:
        limits = self.limits()
        if not limits:
            raise UserError("callbacks.guard: no limit is set; type callbacks.guard.max.lost_rate=0.1")
        known_questions = data.select_known if can_select(config, data) else ()
        for limit in limits:
            if not can_select(config, data) or (limit.metric in OF_KNOWN and not known_questions):
                what = "no selection questions" + (" on what was known" if data.select_task else "")
                raise UserError(
                    f"{_key(limit)}: is not measured while training: this data source, with these probes, has {what}"
                )
        final = config["run"].get("final", "last")
        if self.action == "rollback" and final != "last":
            raise UserError(
                f"callbacks.guard.action=rollback and run.final={final} both choose the weights; leave one out"
            )
        return []

    def limits(self) -> list[Limit]:
        """The limits, with full names of metrics such as val/known_right."""
        limits: list[Limit] = []
        groups: dict[Bound, Mapping[str, float | None]] = {"max": self.max, "min": self.min, "max_drop": self.max_drop}
        for bound, group in groups.items():
            for key, value in group.items():
                name = f"val/{key.removeprefix('val/')}"
                if name not in REPORTED:
                    choices = ", ".join(each.removeprefix("val/") for each in REPORTED)
                    raise UserError(f"callbacks.guard.{bound}.{key}: no such metric; it may be {choices}")
                if value is None:
                    continue
                limits.append(Limit(bound, name, value))
                if not 0 <= value <= 1:
                    raise UserError(f"{_key(limits[-1])}={value:g}: is a share, from 0 to 1; 5 % is 0.05")
        return limits

    def state_dict(self) -> dict[str, Any]:
        base = self.base and self.base.plain()
        inside = {"inside": self.inside.state_dict(), "steps": self.steps}
        return {"base": base, "broken": list(self.broken), "rolled_back": self.rolled_back, **inside}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.base = Selected(**state_dict["base"])
        self.broken, self.rolled_back = list(state_dict["broken"]), state_dict["rolled_back"]
        self.steps = state_dict["steps"]
        self.inside.load_state_dict(state_dict["inside"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.base is not None:
            return
        self.base = self._measuring(trainer).select()
        for decision in self._decisions(self.base):
            if overall([decision.result], self.undecided) == "fail":
                problem = f"the untouched base does not keep {_sentence(decision)}"
                raise UserError(f"callbacks.guard: {problem}; move the limit")
        if self.action == "rollback":
            self.inside.keep(trainer, [0])

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        measuring, epoch = self._measuring(trainer), trainer.current_epoch + 1
        decisions = self._decisions(measuring.selected)
        broken = [each for each in decisions if overall([each.result], self.undecided) == "fail"]
        if not broken:
            self.broken = []
            if self.action == "rollback":
                self.inside.keep(trainer, [epoch])
                self.steps = trainer.global_step
            return
        names = [_key(each.limit) for each in broken]
        if names == self.broken and self.action == "warn":
            return  # it is reported already
        self.broken = names
        text = f"guard, after epoch {epoch}: {'; '.join(f'{each.result}: {_sentence(each)}' for each in broken)}"
        if self.action != "warn":
            trainer.should_stop = True
            text += "; training stops"
        if self.action == "rollback":
            self.rolled_back, last_inside = True, self.inside.epochs[-1]
            weights = f"the weights after epoch {last_inside}" if last_inside else "the untouched weights"
            text += f", and {weights} are taken"
        rows = [each.to_json() | {"metric": each.limit.metric} for each in broken]
        remark(measuring.history, trainer.global_step, "guard", text, action=self.action, limits=rows)
        measuring.say(text)

    def chosen(self) -> Chosen | None:
        """The weights that a run ends with after a rollback."""
        epoch = self.inside.epochs[-1] if self.rolled_back else 0
        return Chosen(self.inside.path(epoch), self.steps, epoch) if self.rolled_back else None

    def _measuring(self, trainer: Trainer) -> Measuring:
        callbacks: list[Callback] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
        return next(callback for callback in callbacks if isinstance(callback, Measuring))

    def _decisions(self, selected: Selected | None) -> list[Decision]:
        assert selected is not None, "without selection questions `check` refuses"
        assert self.base is not None, "measured before the first step"
        estimates = selected.against(self.base)
        decisions: list[Decision] = []
        for limit in self.limits():
            if limit.metric in estimates:  # a metric of known facts is missing where none are known
                decision = decide(limit._replace(metric=REPORTED[limit.metric]), *estimates[limit.metric])
                decisions.append(Decision(limit, decision.measured, decision.result, decision.needed))
        return decisions


def _key(limit: Limit) -> str:
    return f"callbacks.guard.{limit.bound}.{limit.metric.removeprefix('val/')}"


def _sentence(decision: Decision) -> str:
    limit, measured = decision.limit, decision.measured
    ends = " [{:.2f} {:.2f}]".format(*measured.ends) if measured.ends else ""
    return f"{limit.metric} {WORDS[limit.bound]} {limit.value:g}: {measured.value:.2f}{ends}, n {measured.n}"
