"""Which facts this very base knows: what is taught, and what could be lost, depends on it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from truetune.data.chat_form import in_chat_form
from truetune.data.dataset import Dataset
from truetune.errors import Say
from truetune.models.language_model import LanguageModel, with_template
from truetune.probes.asking import Asking, Form, resolved
from truetune.probes.baseline import said_before
from truetune.probes.probe import Subject
from truetune.probes.respondent import Respondent, Served

R = TypeVar("R", LanguageModel, Served, Respondent)


def adapted_to(base: R, data: Dataset, asking: Asking, cache: Path, say: Say) -> tuple[R, Dataset]:
    """The base with the template of its conversations, and the data in its form, chosen by what it knows."""
    base, data = in_form(base, data, asking, say)
    if data.choose is not None:
        selection = data.choose(_known(base, data, asking, cache, say))
        for note in selection.notes:
            say(note)
        base, data = in_form(base, selection, asking, say)
    return base, data


def in_form(base: R, data: Dataset, asking: Asking, say: Say) -> tuple[R, Dataset]:
    """The data in the form in which the base is asked, and the base with the template of that form.

    Where it has a chat form, rows and questions become turns. Questions set aside to be shown are asked as well if no
    form of asking shows any.
    """
    uses_chat = data.form == "auto" and base.has_chat_form
    data = in_chat_form(data, rows=uses_chat or data.form == "chat", questions=False)
    if data.has_conversations and isinstance(base, LanguageModel):
        base = with_template(base, data.chat_template, say)  # pyright: ignore[reportAssignmentType]
    forms = [resolved(form, base, data) for form in asking.how.forms]
    ranked_bare = any(q.domain and not q.statement for q in data.hallucination)
    if data.aside and ("few_shot" in forms or ranked_bare):
        say(f"{len(data.aside)} questions are set aside, to be shown before the others")
    elif data.aside:
        task, hallucination = [*data.task, *data.aside], [*data.hallucination, *data.aside]
        data = replace(data, task=task, hallucination=hallucination, aside=(), shots={})
    return base, in_chat_form(data, rows=False, questions=forms[0] == "chat")


def _known(base: Respondent, data: Dataset, asking: Asking, cache: Path, say: Say) -> dict[str, bool]:
    """Whether the base answers each candidate rightly in the first form or behind answered questions, by id."""
    forms: list[Form] = [asking.how.forms[0], "few_shot"]
    in_two_forms = replace(asking, how=replace(asking.how, forms=forms))

    def ask_base() -> dict[str, bool]:
        say(f"asking the base {len(data.candidates)} questions, to learn which it knows")
        subject = Subject(base, resamples=0)
        items = in_two_forms.ask(in_two_forms.measured(subject), data.candidates, data)
        return {item.id: "right" in item.forms.values() for item in items}

    shots = ((name, *rows) for name, rows in data.shots.items())
    return said_before(base, cache, ask_base, dict, (in_two_forms,), data.candidates, shots)
