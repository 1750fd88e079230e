"""Rows and questions as turns of a conversation, for a model that has a chat form."""

from __future__ import annotations

from dataclasses import replace

from truetune.data.dataset import Dataset, Example, Question, Turn
from truetune.data.rows.many import changed

ASKED = ("task", "hallucination", "select_task", "select_known", "ability", "candidates")


def in_chat_form(data: Dataset, *, rows: bool, questions: bool) -> Dataset:
    """The dataset with its training rows, or what its probes ask, as a user's turn that the assistant answers.

    Only rows and questions with `words` are changed: prompts, conversations and texts are taken as they stand.
    """
    if rows:
        groups = {name: [_row(row) for row in group] for name, group in data.fit_groups.items()}
        train, validation = changed(data.train, _row), [_row(row) for row in data.validation]
        data = replace(data, train=train, validation=validation, fit_groups=groups)
    if questions:
        groups = {name: [_question(question) for question in getattr(data, name)] for name in ASKED}
        data = replace(data, **groups)
    return data


def _row(row: Example) -> Example:
    if not row.words or row.turns:
        return row
    head, _, tail = row.prompt.partition(row.words)
    asks = tuple((Turn("user", ask.removeprefix(head).removesuffix(tail)),) for ask in row.asks if isinstance(ask, str))
    return replace(row, turns=(Turn("user", row.words),), completion=row.completion.strip(), asks=asks)


def _question(question: Question) -> Question:
    if not question.words or question.turns:
        return question
    return replace(question, turns=(Turn("user", question.words),))
