"""Compares several models with one base: which is best, which cannot be told from it, and which to keep."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from truetune.errors import UserError
from truetune.records.record import items_if_any
from truetune.records.run_folder import items_file
from truetune.report.summary import number, unfit
from truetune.report.sweeps import RecordedRun
from truetune.scoring.best_model import Hits, Standings, standings
from truetune.scoring.estimates import Estimate
from truetune.scoring.item import Item
from truetune.scoring.lost_and_kept import join
from truetune.scoring.paired import holm
from truetune.scoring.rates import clusters, met

Score = Literal["balance", "kept share", "gained share"]
# The base's answers and the model's, to the task's questions ("task") and to those that the base had right ("known").
Answers = dict[str, list[tuple[Item, Item]]]

COUNTS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@dataclass(frozen=True)
class Model:
    """One model; `place` is its number in the standings, None if it was not measured or asked something else."""

    run: RecordedRun
    name: str
    place: int | None
    p_gain: float | None  # of its gain on the task, corrected by Holm over the models

    @property
    def breaks_limit(self) -> bool:
        """Whether the gate failed it: such a model is not kept, whatever its score."""
        return ((self.run.record or {}).get("gate") or {}).get("result") == "fail"


@dataclass(frozen=True)
class Several:
    """The comparison. `tied` are the best model and those that cannot be told from it, in the order typed: the first is
    the one to keep.
    """

    models: list[Model]
    score: Score
    standings: Standings
    best: Model | None
    tied: list[Model]
    no_gain: bool  # no model gained on the task, so what is kept decides

    def score_of(self, model: Model) -> Estimate | None:
        return None if model.place is None else self.standings.scores[model.place]

    def gap(self, model: Model, other: Model | None) -> Estimate | None:
        """The model's score minus the other's."""
        if other is None or model is other or model.place is None or other.place is None:
            return None
        return self.standings.gap(other.place, model.place)

    def word(self, model: Model) -> str:
        """What the table says of a model."""
        if model.place is None:
            return "not compared"
        if model.breaks_limit:
            return "breaks a limit"
        if model not in self.tied:
            return "below the best"
        return "keep" if model == self.tied[0] else "within noise"

    @property
    def verdict(self) -> str:
        """Which to keep, and why."""
        contenders = [model for model in self.models if model.place is not None]
        breakers = [model.name for model in contenders if model.breaks_limit]
        verb = "breaks" if len(breakers) == 1 else "break"
        sentences = [f"{listed(breakers)} {verb} a limit of the gate."] if breakers else []
        if self.best is None:
            reason = sentences[0] if breakers else "None was measured on questions that show what is gained or lost."
            return f"Keep none of the {len(self.models)} models. {reason}"
        values = [number(estimate.value, 2) for model in self.tied if (estimate := self.score_of(model))]
        if self.no_gain:
            sentences.insert(0, "None gained on the task, so what is kept decides.")
        if len(self.tied) > 1:
            names, count = listed([model.name for model in self.tied]), len(self.tied)
            these = COUNTS[count] if count < len(COUNTS) else str(count)
            reason = f"it is the first of {these} that cannot be told apart, {names} ({self.score} {listed(values)})"
        else:
            remark = ", and each of the others can be told from it" if len(contenders) > len(breakers) + 1 else ""
            reason = f"its {self.score} is the highest ({values[0]}){remark}"
        return " ".join([f"Keep {self.tied[0].name}: {reason}.", *sentences])


def are_models(runs: Sequence[RecordedRun]) -> bool:
    """Whether a sweep's jobs were audits, of one model each."""
    return any(run.record is not None and "baseline" in run.record["config"] for run in runs)


def compare(runs: Sequence[RecordedRun]) -> Several:
    """Ranks the models by balance; if none gained anything, by what is kept; if one kind of question is missing, by the
    other.
    """
    answers = [_answers(run) for run in runs]
    reference = next(filter(None, answers), Answers())
    positions = [at for at, each in enumerate(answers) if each and _ids(each) == _ids(reference)]
    places = {at: place for place, at in enumerate(positions)}
    gains = [run.quantity("gain") for run in runs]
    p_values = {at: gain.p for at, gain in enumerate(gains) if gain and gain.p is not None}
    p_gains = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    models = [
        Model(run, name, places.get(at), p_gains.get(at))
        for at, (run, name) in enumerate(zip(runs, _names(runs), strict=True))
    ]
    table, score, no_gain = _standings([answers[at] for at in positions])
    eligible = [model for model in models if model.place is not None and not model.breaks_limit]
    candidates = [model.place for model in eligible if model.place is not None]
    best_place = table.best(candidates) if candidates else None
    tied_places = [] if best_place is None else table.tied(best_place, candidates)
    best_model = next((model for model in eligible if model.place == best_place), None)
    return Several(models, score, table, best_model, [one for one in eligible if one.place in tied_places], no_gain)


def _answers(run: RecordedRun) -> Answers:
    """A run's answers that show what is gained or lost; empty if it recorded none."""
    if run.record is None:
        return {}
    final, answers = run.record["final"], Answers()
    kinds = {"task": ("task", "task/right"), "known": ("hallucination", "hallucination/lost_rate")}
    if unfit(run.record) is not None:
        del kinds["known"]
    for kind, (probe, metric) in kinds.items():
        try:
            items = [items_if_any(items_file(run.folder, probe, when)) for when in ("base", "final")]
            pairs = join(*items) if metric in final else []
        except UserError:  # a file that was edited or cut short
            return {}
        answers[kind] = [pair for pair in pairs if kind == "task" or pair[0].outcome == "right"]
    return {kind: pairs for kind, pairs in answers.items() if pairs}


def _ids(answers: Answers) -> dict[str, list[str]]:
    return {kind: [base.id for base, _ in pairs] for kind, pairs in answers.items()}


def _standings(answers: Sequence[Answers]) -> tuple[Standings, Score, bool]:
    """The standings of models that answered the same questions, what they are ranked by, and whether none gained."""
    if not answers:
        return Standings([], {}), "balance", False

    def hits(kind: str) -> Hits:
        is_hit = met if kind == "task" else is_right
        columns = [[is_hit(answer) for _, answer in each.get(kind, [])] for each in answers]
        return Hits(np.array(columns, float).T, clusters([base for base, _ in answers[0].get(kind, [])]))

    task, known = hits("task"), hits("known")
    base_hits = [met(base) for base, _ in answers[0].get("task", [])]
    # Where nothing is left to gain the share right counts.
    table = standings(task, known, None if all(base_hits) else base_hits)
    if not task.clusters or not known.clusters:
        return table, "gained share" if task.clusters else "kept share", False
    if any(score.value > 0 for score in table.scores):
        return table, "balance", False
    return standings(Hits.none(len(answers)), known), "kept share", True


def _names(runs: Sequence[RecordedRun]) -> list[str]:
    """The models' names, as short as they can be: without the folder that all lie in."""
    names: list[str] = []
    for run in runs:
        model = run.record["config"].get("model", {}) if run.record else {}
        values = [value.strip("'\"") for key, value in run.overrides.items() if key.startswith("model.")]
        names.append(str(model.get("name_or_path") or model.get("file") or next(iter(values), run.number)))
    try:
        folder = os.path.commonpath(names)
    except ValueError:  # absolute and relative paths are mixed
        return names
    return names if folder in ("", *names) else [os.path.relpath(name, folder) for name in names]


def is_right(item: Item) -> bool:
    return item.outcome == "right"


def listed(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)
