"""What is taught: the training rows as the curations leave them, which may ask the base first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import islice
from statistics import median
from typing import Any

from truetune.config.run import TrainingRun
from truetune.data.dataset import Dataset, Example, Prompt
from truetune.errors import Say
from truetune.methods.curation import Context, curate
from truetune.methods.reference import drawn_texts
from truetune.models.language_model import LanguageModel
from truetune.probes.asking import Asking, Room
from truetune.probes.knowledge import Knowledge, groups, summary
from truetune.probes.likelihood import likelihood
from truetune.probes.probe import Subject
from truetune.records.state import State
from truetune.scoring.judge import judged

ROOM = 64  # tokens for a sentence of the base's own
BARE = 3  # words


def curated(run: TrainingRun, base: LanguageModel, data: Dataset, state: State, say: Say) -> Dataset:
    """The data to teach. The base is examined only if a curation asks, or if labels are wanted for the record."""
    labels: list[Knowledge] = []

    def categories() -> dict[str, str]:
        if not labels:
            say("examining what the base knows of the facts to be taught")
            labels.extend(run.knowledge.examine(base, data.train, run.asking, run.seed))
            state.knowledge = [{**asdict(fact), "category": fact.category} for fact in labels]
            say(summary(labels))
        return {fact.id: fact.category for fact in labels}

    if run.knowledge.label:
        categories()

    context = Context(
        categories,
        data.pretraining,
        run.seed,
        partial(drawn_texts, base, seed=run.seed),
        partial(own_answers, base, asking=run.asking),
        partial(losses, base, run=run),
        partial(is_right, asking=run.asking, data=data),
        data.stand_ins,
        partial(state.note, say=say),
    )
    taught = curate(data, run.curations, context, say)
    if is_bare(taught.train):
        state.note(
            "the answers are bare: a chat model that is taught them may stop saying what it still knows; "
            "method=own_words teaches them in its own words",
            say,
        )
    fit_groups = {**data.fit_groups, **groups(labels, data.train)}
    if any(getattr(curation, "same_facts", False) for curation in run.curations.values()):
        fit_groups = in_words_taught(fit_groups, taught.train)
    return replace(taught, fit_groups=fit_groups)


def in_words_taught(
    fit_groups: Mapping[str, Sequence[Example]], rows: Sequence[Example]
) -> dict[str, Sequence[Example]]:
    """The rows whose fit is followed, as a curation teaches them that keeps the facts and changes the words."""
    taught = {row.id: row for row in rows}
    return {name: [taught.get(row.id, row) for row in group] for name, group in fit_groups.items()}


def is_bare(rows: Sequence[Example]) -> bool:
    """Whether at least half of what a chat model is taught to say, of the first rows, has at most three words."""
    lengths = [len(row.completion.split()) for row in islice(rows, 1000) if row.turns]
    return bool(lengths) and median(lengths) <= BARE


def own_answers(base: LanguageModel, prompts: Sequence[Prompt], *, asking: Asking) -> list[str]:
    """The base's greedy answers, in the type of number that it is measured in."""
    room = Room(min(ROOM, base.context_length // 2))
    return [answer.text for answer in asking.answers(asking.measured(Subject(base)), prompts, room)]


def losses(base: LanguageModel, rows: Sequence[Example], *, run: TrainingRun) -> list[float]:
    """The base's nats per target token of each row."""
    measured, sizes = run.asking.measured(Subject(base)).lm, run.measure
    rates = likelihood(measured, rows, batch_size=sizes.batch_size, batch_tokens=sizes.batch_tokens).rows
    return [row.nll_nats / max(row.target_tokens, 1) for row in rates]


def is_right(text: str, row: Example, *, asking: Asking, data: Dataset) -> bool:
    """By the judge of the report; the rivals are the values of the kind that the true answer is of."""
    rivals = next((values for values in data.domains.values() if not values.isdisjoint(row.answers)), ())
    how: dict[str, Any] = {"phrases": asking.abstention_phrases, "exact": data.exact}
    return judged(text, row.answers, question=row.words or row.prompt, rivals=rivals, **how) == "right"
