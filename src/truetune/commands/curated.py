"""What is taught: the training rows as the curations leave them, which may ask the base first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import islice
from statistics import median

from truetune.config.run import TrainingRun
from truetune.data.dataset import Dataset, Example, Prompt
from truetune.errors import Say
from truetune.methods.curation import Context, curate
from truetune.methods.reference import drawn_texts
from truetune.models.language_model import LanguageModel
from truetune.probes.asking import Asking, Room
from truetune.probes.knowledge import Knowledge, groups, summary
from truetune.probes.probe import Subject
from truetune.records.state import State
from truetune.scoring.judge import judged

ROOM = Room(64)  # tokens for a sentence of the base's own
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

    def note(text: str) -> None:
        say(text)
        state.notes.append(text)

    context = Context(
        categories,
        data.pretraining,
        run.seed,
        partial(drawn_texts, base, seed=run.seed),
        partial(own_answers, base, asking=run.asking),
        partial(is_right, asking=run.asking, exact=data.exact),
        note,
    )
    taught = curate(data, run.curations, context, say)
    if is_bare(taught.train):
        note(
            "the answers are bare: a chat model that is taught them may stop saying what it still knows; "
            "method=own_words teaches them in its own words"
        )
    return replace(taught, fit_groups={**taught.fit_groups, **groups(labels, data.train)})


def is_bare(rows: Sequence[Example]) -> bool:
    """Whether at least half of what a chat model is taught to say, of the first rows, has at most three words."""
    lengths = [len(row.completion.split()) for row in islice(rows, 1000) if row.turns]
    return bool(lengths) and median(lengths) <= BARE


def own_answers(base: LanguageModel, prompts: Sequence[Prompt], *, asking: Asking) -> list[str]:
    """The base's greedy answers, in the type of number that it is measured in."""
    return [answer.text for answer in asking.answers(asking.measured(Subject(base)), prompts, ROOM)]


def is_right(text: str, row: Example, *, asking: Asking, exact: bool) -> bool:
    question, phrases = row.words or row.prompt, asking.abstention_phrases
    return judged(text, row.answers, question=question, phrases=phrases, exact=exact) == "right"
