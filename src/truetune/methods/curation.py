"""Which facts are taught: rows filtered, relabelled, weighted or mixed in once it is known what the base knows."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Annotated, Any, ClassVar

from pydantic import Field

from truetune.data.dataset import Dataset, Example, OldTexts, Prompt, continued
from truetune.data.values import Part, Text
from truetune.errors import Say, UserError
from truetune.scoring.judge import judged


@dataclass(frozen=True)
class Context:
    """What a curation can ask for. `categories()` maps a row's id to the SliCK category of its fact; the first call
    examines the base.

    `drawn(count, max_tokens)` returns texts that the base writes without a prompt, `answered(prompts)` its greedy
    answers, `losses(rows)` its loss on each row in nats per target token. `is_right` judges a text as the answer to a
    row, as the report does. `stand_ins` are the data's. A text given to `note` is printed and recorded.
    """

    categories: Callable[[], Mapping[str, str]]
    pretraining: OldTexts | None
    seed: int
    drawn: Callable[[int, int], Sequence[str]]
    answered: Callable[[Sequence[Prompt]], Sequence[str]]
    losses: Callable[[Sequence[Example]], Sequence[float]]
    is_right: Callable[[str, Example], bool]
    stand_ins: Mapping[str, str]
    note: Say

    def known_or_not(self, name: str) -> Mapping[str, str]:
        """The categories; raises UserError, naming the curation, if no row has one."""
        categories = self.categories()
        if not categories:
            why = "no training row asks a question, so none is unknown to the base"
            raise UserError(f"curation.{name}: {why}; leave it out")
        return categories


# Returns the training rows to use instead, held in memory. It does not change what is measured.
Curation = Callable[[Sequence[Example], Context], list[Example]]


def curate(data: Dataset, curations: Mapping[str, Curation], context: Context, say: Say) -> Dataset:
    """The data with its training rows changed by the curations, one after the other."""
    rows = data.train
    for name, curation in curations.items():
        count, rows = len(rows), curation(rows, context)
        say(f"{name}: {count} training rows, {len(rows)} after it")
    return replace(data, train=rows)


def _check_abstention(key: str, text: str, config: Mapping[str, Any]) -> list[str]:
    """Refuses an abstention that would not count as one: the run would report it as wrong answers."""
    if judged(text, (), phrases=config["measure"]["abstention_phrases"]) != "abstained":
        raise UserError(f"curation.{key}={text}: would count as wrong; add its words to measure.abstention_phrases")
    return []


def _with_answer(row: Example, answer: str) -> Example:
    return replace(row, completion=answer if row.turns else continued(row.prompt, answer))


@dataclass(frozen=True)
class FilterUnknown:
    """Teach only facts that the base knows at least a little (Gekhman et al. 2024, section 5)."""

    conflicts: ClassVar[tuple[str, ...]] = ("relabel_unknown", "downweight_unknown")

    def __call__(self, rows: Sequence[Example], context: Context) -> list[Example]:
        categories = context.known_or_not("filter_unknown")
        known_rows = [row for row in rows if categories.get(row.id) != "Unknown"]
        if not known_rows:
            raise UserError("curation.filter_unknown: the base knows none of the facts, so no row is left")
        return known_rows


class Changed:
    """Changes the rows whose fact is in one of the `categories`; refused if that would be every fact."""

    name: ClassVar[str]
    categories: ClassVar[tuple[str, ...]] = ("Unknown",)

    def change(self, row: Example) -> Example:
        raise NotImplementedError

    def __call__(self, rows: Sequence[Example], context: Context) -> list[Example]:
        categories = context.known_or_not(self.name)
        if {*categories.values()} <= {*self.categories}:
            why = f"the base knows none of the {len(categories)} facts, so no row would stay as it is"
            raise UserError(f"curation.{self.name}: {why}; leave it out")
        return [self.change(row) if categories.get(row.id) in self.categories else row for row in rows]


@dataclass(frozen=True)
class RelabelUnknown(Changed):
    """Teach an abstention in place of what the base does not know (Zhang et al. 2024, R-Tuning)."""

    name: ClassVar[str] = "relabel_unknown"
    conflicts: ClassVar[tuple[str, ...]] = ("downweight_unknown",)

    answer: Text

    def check(self, config: Mapping[str, Any], data: Dataset) -> list[str]:
        return _check_abstention("relabel_unknown.answer", self.answer, config)

    def change(self, row: Example) -> Example:
        return _with_answer(row, self.answer)


@dataclass(frozen=True)
class DownweightUnknown(Changed):
    """Teach what the base does not know with a smaller share of the loss."""

    name: ClassVar[str] = "downweight_unknown"

    weight: Part

    def change(self, row: Example) -> Example:
        return replace(row, weight=self.weight)


@dataclass(frozen=True)
class RTuning(Changed):
    """Teach to add the words of `unsure` to each answer that the base gets wrong (Zhang et al. 2024, R-Tuning).

    The answer itself is still learnt, and a text that ends in an abstention phrase counts as abstained.
    """

    name: ClassVar[str] = "r_tuning"
    conflicts: ClassVar[tuple[str, ...]] = ("filter_unknown", "relabel_unknown", "downweight_unknown")
    categories: ClassVar[tuple[str, ...]] = ("Unknown", "WeaklyKnown")

    unsure: Annotated[str, Field(pattern=r"\S")]

    def check(self, config: Mapping[str, Any], data: Dataset) -> list[str]:
        return _check_abstention("r_tuning.unsure", self.unsure, config)

    def change(self, row: Example) -> Example:
        return _with_answer(row, self.unsure.replace("{answer}", row.completion.strip()))


@dataclass(frozen=True)
class Replay:
    """Mix in texts of the base's own pre-training, `ratio` rows to each row of the task."""

    adds_rows: ClassVar[bool] = True

    ratio: Part

    def check(self, config: Mapping[str, Any], data: Dataset) -> list[str]:
        if data.pretraining is None:
            raise UserError(
                "curation.replay: this data source holds no pre-training texts; use data=closed_world, or leave "
                "method=replay out and mix in rows of your own: data.mixture=[{file:texts.jsonl,weight:0.5}]"
            )
        return []

    def __call__(self, rows: Sequence[Example], context: Context) -> list[Example]:
        assert context.pretraining is not None, "check() refuses it"
        count = round(self.ratio * len(rows))
        # The base never saw this part of the stream in this order; the texts are of the same kind.
        batches = context.pretraining.micro_batches()
        texts = [example for batch in islice(batches, count) for example in batch]
        sample = random.Random(f"replay-{context.seed}").sample(texts, min(count, len(texts)))
        return [*rows, *(replace(text, id=f"replay/{index}/{text.id}") for index, text in enumerate(sample))]
