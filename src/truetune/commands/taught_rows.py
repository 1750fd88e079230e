"""The rows to be taught: the training rows after the curations, which may ask the base first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

from truetune.config.run import TrainingRun
from truetune.data.dataset import Dataset, Example, Prompt
from truetune.errors import Say
from truetune.methods.curation import Context, curate
from truetune.methods.reference import drawn_texts
from truetune.models.language_model import LanguageModel
from truetune.probes.asking import Asking, Room
from truetune.probes.baseline import said_before
from truetune.probes.knowledge import Knowledge, groups, summary
from truetune.probes.likelihood import likelihood
from truetune.probes.probe import Subject
from truetune.records.state import State
from truetune.scoring.judge import judged

ROOM = 64  # tokens, for an answer in the base's own words
BARE = 3  # words at most in a bare answer


def curated(run: TrainingRun, base: LanguageModel, data: Dataset, state: State, say: Say) -> Dataset:
    """The data to teach. The base is examined only if a curation asks, or if labels are wanted for the record."""
    labels: list[Knowledge] = []

    def categories() -> dict[str, str]:
        if not labels:
            labels.extend(known_of(base, data.train, run, say))
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
        partial(own_answers, base, asking=run.asking, cache=run.cache),
        partial(losses, base, run=run),
        partial(is_right, asking=run.asking, data=data),
        data.stand_ins,
        partial(state.note, say=say),
    )
    taught_data = curate(data, run.curations, context, say)
    keeps_facts = any(getattr(curation, "same_facts", False) for curation in run.curations.values())
    if is_bare(taught_data.train) and not keeps_facts:
        state.note(
            "the answers are bare: a chat model that is taught them may stop saying what it still knows; "
            "method=own_words teaches them in its own words",
            say,
        )
    fit_groups = {**data.fit_groups, **groups(labels, data.train)}
    if keeps_facts:
        fit_groups = in_words_taught(fit_groups, taught_data.train)
    return replace(taught_data, fit_groups=fit_groups)


def in_words_taught(
    fit_groups: Mapping[str, Sequence[Example]], rows: Sequence[Example]
) -> dict[str, Sequence[Example]]:
    """The rows whose fit is followed, in the words in which a curation that keeps the facts teaches them."""
    rows_by_id = {row.id: row for row in rows}
    return {name: [rows_by_id.get(row.id, row) for row in group] for name, group in fit_groups.items()}


def is_bare(rows: Sequence[Example]) -> bool:
    """Whether at least half of the answers in the first rows that teach a chat model have at most three words."""
    lengths = [len(row.completion.split()) for row in islice(rows, 1000) if row.turns]
    return bool(lengths) and median(lengths) <= BARE


def known_of(base: LanguageModel, rows: Sequence[Example], run: TrainingRun, say: Say) -> list[Knowledge]:
    """What the base knows of each fact."""

    def make() -> list[tuple[str, float, float]]:
        say("examining what the base knows of the facts to be taught")
        facts = run.knowledge.examine(base, rows, run.asking, run.seed)
        return [(fact.id, fact.greedy, fact.sampled) for fact in facts]

    asked = ((row.id, row.prompt, row.turns, row.asks, row.answers) for row in rows)
    settings = (run.knowledge, run.asking, run.seed)
    return said_before(base, run.cache, make, lambda facts: [Knowledge(*fact) for fact in facts], settings, asked)


def own_answers(base: LanguageModel, prompts: Sequence[Prompt], *, asking: Asking, cache: Path) -> list[str]:
    """The base's greedy answers, computed in the number type in which it is measured."""
    room = Room(min(ROOM, base.context_length // 2))

    def make() -> list[str]:
        return [answer.text for answer in asking.answers(asking.measured(Subject(base)), prompts, room)]

    return said_before(base, cache, make, list, (asking, room), prompts)


def losses(base: LanguageModel, rows: Sequence[Example], *, run: TrainingRun) -> list[float]:
    """The base's loss on each row, in nats per target token."""

    def make() -> list[float]:
        lm, settings = run.asking.measured(Subject(base)).lm, run.measure
        likelihoods = likelihood(lm, rows, batch_size=settings.batch_size, batch_tokens=settings.batch_tokens).rows
        return [row.nll_nats / max(row.target_tokens, 1) for row in likelihoods]

    texts = ((row.prompt, row.turns, row.completion, row.more) for row in rows)
    return said_before(base, run.cache, make, list, (run.asking,), texts)


def is_right(text: str, row: Example, *, asking: Asking, data: Dataset) -> bool:
    """Whether the report's judge calls `text` right; its rivals are the values of the kind of the true answer."""
    rivals = next((values for values in data.domains.values() if not values.isdisjoint(row.answers)), ())
    options: dict[str, Any] = {"phrases": asking.abstention_phrases, "exact": data.exact}
    return judged(text, row.answers, question=row.words or row.prompt, rivals=rivals, **options) == "right"
