"""Two models' logs of one task: the same documents side by side, and what else differs between the logs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple

from truetune.data.eval_logs.log import Log, Sample
from truetune.data.rows.row import named
from truetune.errors import UserError

Key = Callable[[Sample], str]
LONGEST = 100  # characters of two settings that are shown side by side
HASH, TEXT = attrgetter("doc_hash"), attrgetter("document")


class Pair(NamedTuple):
    """One document, or one repeat of it, as A and as B answered it; `document` is what they were paired by."""

    document: str
    first: Sample
    second: Sample


@dataclass
class Task:
    """The pairs of a task; a log holds each document once for each filter."""

    name: str
    first: Log
    second: Log
    pairs: list[Pair] = field(default_factory=list[Pair])
    notes: list[str] = field(default_factory=list[str])


def tasks(first: Mapping[str, Log], second: Mapping[str, Log]) -> tuple[list[Task], list[str]]:
    """(every task that both have, notes on the others). Raises UserError if nothing can be paired.

    If each has one task they are paired whatever they are called: a file may have been renamed.
    """
    names = [(name, name) for name in first if name in second]
    if not names and len(first) == len(second) == 1:
        names = [(next(iter(first)), next(iter(second)))]
    if not names:
        raise UserError(f"no task is in both: A has {named(list(first))}, B has {named(list(second))}")
    pairings = [_pair_logs(first[one], second[other]) for one, other in names]
    notes = [note for logs in (first, second) for log in logs.values() for note in log.notes]
    for logs, others, name in ((first, second, "A"), (second, first, "B")):
        unpaired_names = [task for task in logs if task not in others]
        if unpaired_names and len(names) < len(logs):
            notes.append(f"only {name} has a log of {named(unpaired_names)}; left out")
    if not any(task.pairs for task in pairings):
        places = f"{pairings[0].first.path} and {pairings[0].second.path}"
        raise UserError(f"{places}: no document is in both; are they logs of the same task and data?")
    return pairings, [*notes, *(note for task in pairings for note in task.notes)]


def _pair_logs(first: Log, second: Log) -> Task:
    task = Task(first.task, first, second)
    if first.task != second.task:
        task.notes.append(f"the task is called {first.task} in A and {second.task} in B")
    samples = (*first.samples, *second.samples)
    have_hash, have_text = (all(map(key, samples)) for key in (HASH, TEXT))
    if have_hash:
        task.pairs = _pairs(first.samples, second.samples, HASH)
    if not task.pairs and have_text:
        task.pairs = _pairs(first.samples, second.samples, TEXT)
        if task.pairs and any(sample.doc_hash for sample in samples):
            why = "no doc_hash is in both" if have_hash else "one log has no doc_hash"
            task.notes.append(f"{task.name}: {why}; paired by the documents' text")
    task.notes += _differences(task)
    return task


def _pairs(first: Sequence[Sample], second: Sequence[Sample], key: Key) -> list[Pair]:
    """A document that comes several times (repeats, or equal rows) is paired in the order of the logs."""
    samples_of: dict[tuple[str, str], list[Sample]] = {}
    for sample in second:
        samples_of.setdefault((sample.filter, key(sample)), []).append(sample)
    for samples in samples_of.values():
        samples.reverse()
    pairs: list[Pair] = []
    for sample in first:
        if matches := samples_of.get((sample.filter, key(sample))):
            pairs.append(Pair(key(sample), sample, matches.pop()))
    return pairs


def _differences(task: Task) -> list[str]:
    """Notes on what makes a difference that is not the model's."""
    notes: list[str] = []
    pairs, n = task.pairs, len(task.pairs)
    for log, name in ((task.first, "A"), (task.second, "B")):
        if unpaired := len(log.samples) - n:
            notes.append(f"{task.name}: {unpaired:,} of {len(log.samples):,} samples are in {name} alone; left out")
    for what, attribute in (("prompts", "prompt"), ("generation settings", "settings"), ("targets", "target")):
        if count := sum(getattr(pair.first, attribute) != getattr(pair.second, attribute) for pair in pairs):
            notes.append(f"{task.name}: the {what} differ between A and B in {count:,} of {n:,} samples")
    first, second = task.first.about, task.second.about
    for key in first:
        if first[key] != second.get(key, first[key]):
            is_short = len(first[key]) + len(second[key]) <= LONGEST
            what = f"is {first[key]} in A and {second[key]} in B" if is_short else "differs between A and B"
            notes.append(f"{task.name}: {key} {what}")
    for name in {**task.first.no_numbers, **task.second.no_numbers}:
        notes.append(f"{task.name}: {name} is no number for each document; left out")
    return notes
