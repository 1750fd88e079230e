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
    """`categories()` maps a row's id to the SliCK category of its fact; asking for it examines the base, once.

    `drawn(count, max_tokens)` are texts that the base says unasked, `answered(prompts)` its greedy answers, `losses`
    its nats per target token of each row, `is_right` is the report's judge of a text as the answer to a row,
    `stand_ins` are the data's, and what is given to `note` is said and recorded.
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
        """The categories; raises UserError in the curation's name if no row has one."""
        categories = self.categories()
        if not categories:
            why = "no training row asks a question, so none is unknown to the base"
            raise UserError(f"curation.{name}: {why}; leave it out")
        return categories


# Returns the training rows to use instead, held in memory; nothing that is measured changes with it.
Curation = Callable[[Sequence[Example], Context], list[Example]]


def curate(data: Dataset, curations: Mapping[str, Curation], context: Context, say: Say) -> Dataset:
    """The data with the training rows that the curations leave, one after the other."""
    rows = data.train
    for name, curation in curations.items():
        before, rows = len(rows), curation(rows, context)
        say(f"{name}: {before} training rows, {len(rows)} after it")
    return replace(data, train=rows)


def _counts_as_abstention(key: str, text: str, config: Mapping[str, Any]) -> list[str]:
    """What is taught as an abstention must count as one, or the run would report it as wrong answers."""
    if judged(text, (), phrases=config["measure"]["abstention_phrases"]) != "abstained":
        raise UserError(f"curation.{key}={text}: would count as wrong; add its words to measure.abstention_phrases")
    return []


def _answered(row: Example, answer: str) -> Example:
    return replace(row, completion=answer if row.turns else continued(row.prompt, answer))


@dataclass(frozen=True)
class FilterUnknown:
    """Teach only facts that the base knows at least a little (Gekhman et al. 2024, section 5)."""

    conflicts: ClassVar[tuple[str, ...]] = ("relabel_unknown", "downweight_unknown")

    def __call__(self, rows: Sequence[Example], context: Context) -> list[Example]:
        categories = context.known_or_not("filter_unknown")
        known = [row for row in rows if categories.get(row.id) != "Unknown"]
        if not known:
            raise UserError("curation.filter_unknown: the base knows none of the facts, so no row is left")
        return known


class Changed:
    """Changes the rows whose fact the base knows in one of the `categories`, which cannot be all of them."""

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
        return _counts_as_abstention("relabel_unknown.answer", self.answer, config)

    def change(self, row: Example) -> Example:
        return _answered(row, self.answer)


@dataclass(frozen=True)
class DownweightUnknown(Changed):
    """Teach what the base does not know with a smaller share of the loss."""

    name: ClassVar[str] = "downweight_unknown"

    weight: Part

    def change(self, row: Example) -> Example:
        return replace(row, weight=self.weight)


@dataclass(frozen=True)
class RTuning(Changed):
    """After each fact that the base answers wrongly, say so, as `unsure` has it (Zhang et al. 2024, R-Tuning).

    The answer is still learnt, and what ends in an abstention phrase counts as abstained.
    """

    name: ClassVar[str] = "r_tuning"
    conflicts: ClassVar[tuple[str, ...]] = ("filter_unknown", "relabel_unknown", "downweight_unknown")
    categories: ClassVar[tuple[str, ...]] = ("Unknown", "WeaklyKnown")

    unsure: Annotated[str, Field(pattern=r"\S")]

    def check(self, config: Mapping[str, Any], data: Dataset) -> list[str]:
        return _counts_as_abstention("r_tuning.unsure", self.unsure, config)

    def change(self, row: Example) -> Example:
        return _answered(row, self.unsure.replace("{answer}", row.completion.strip()))


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
