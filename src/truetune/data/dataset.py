"""What a data source hands to a run: texts to learn, questions to ask, and what their answers mean."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import ceil
from typing import Any, Literal, NamedTuple, Protocol

from truetune.data.rows.many import Seen, attributes, gathered
from truetune.scoring.answers import key

FIRST = ("system", "developer")  # roles that only a conversation's beginning may have


class Turn(NamedTuple):
    """One message of a conversation.

    `more` is the JSON of what it holds beside its words: `tool_calls`, `reasoning_content`, `weight`; that of the first
    message also holds the `tools` of the whole conversation.
    """

    role: str
    content: str
    more: str = ""


Prompt = str | tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class Example:
    """A training row: its completion is learnt; a text is a completion without a prompt.

    `answers` are all right answers, the completion among them; a text has none. `asks` are ways to ask the base for the
    same fact, if the prompt is not one. `weight` scales the example's share of the loss. A conversation has `turns`
    before the completion, whose assistant turns are learnt too; its prompt is only for people to read, and `more` is
    what its last message holds beside the completion. `words` is the question or instruction alone, where the prompt
    was made of one: a model with a form of its own is given that. Rows that are `last` come last in each epoch.
    """

    id: str
    prompt: str
    completion: str
    source: str
    answers: tuple[str, ...] = ()
    asks: tuple[Prompt, ...] = ()
    cluster: str = ""
    weight: float = 1.0
    turns: tuple[Turn, ...] = ()
    words: str = ""
    more: str = ""
    last: bool = False


COLUMNS: dict[str, Any] = {
    **dict.fromkeys(("id", "prompt", "completion", "source", "cluster", "words", "more"), "large_string"),
    "answers": ["large_string"],
    "asks": ["large_string"],
    "weight": "float64",
    "last": "bool",
    "turns": [["large_string"]],
}


def examples(rows: Iterable[Example]) -> Sequence[Example]:
    """The rows in a list in memory, or on disk if there are many."""
    return gathered(rows, COLUMNS, read_example)


def read_example(row: dict[str, Any]) -> Example:
    row["turns"] = tuple(Turn(*turn) for turn in row["turns"])
    row["answers"], row["asks"] = tuple(row["answers"]), tuple(row["asks"])
    return Example(**row)


def continued(prompt: str, answer: str) -> str:
    """The answer as a completion: one space before it, unless the prompt ends in white space."""
    return answer if prompt[-1:].isspace() else f" {answer}"


@dataclass(frozen=True, slots=True)
class Question:
    """A question of a probe. `answers == ()` says that no true answer exists: the right one is an abstention.

    If there is a `context`, the answer is to be taken from it; `memory` is what was learnt instead, where the two
    contradict. `wrong` are the false choices of a multiple choice. `words` is the question alone, to be put into the
    model's own form; without it, `question` is asked as it stands. `statement` is a sentence that answers the question,
    with `{answer}` in it, and `premise` is the question and the statement without what they are about (`What is the
    capital of a country?`). Where no list of answers could be complete, `rule` says how an answer is checked
    (`scoring/rules.py`).
    """

    id: str
    question: str
    answers: tuple[str, ...]
    source: str
    population: str = "asked"
    cluster: str = ""
    domain: str = ""
    context: str = ""
    memory: tuple[str, ...] = ()
    turns: tuple[Turn, ...] = ()
    wrong: tuple[str, ...] = ()
    words: str = ""
    statement: str = ""
    premise: tuple[str, str] = ("", "")
    rule: str = ""

    @property
    def asked(self) -> Prompt:
        """What a model is given: the turns of a conversation (`question` is then for people to read), or `question`."""
        return self.turns or self.question

    def completion(self, answer: str) -> str:
        """The answer as a training row would have it."""
        return answer if self.turns else continued(self.question, answer)

    def as_row(self) -> Example:
        """The question with the first of its true answers, as a training row."""
        return Example(
            self.id,
            self.question,
            self.completion(self.answers[0]),
            self.source,
            self.answers,
            cluster=self.cluster,
            turns=self.turns,
            words=self.words,
        )


class OldTexts(Protocol):
    """An endless stream of texts for the base, two micro-batches of similar length per step, from a seed."""

    micro_batches_per_step: int

    @property
    def description(self) -> str: ...

    @property
    def content(self) -> str:
        """Hash of everything that decides the stream."""
        ...

    def vocabulary(self) -> Sequence[str]: ...

    def micro_batches(self) -> Iterator[list[Example]]: ...


@dataclass(frozen=True)
class Battery:
    """What any model is asked beside its task: facts, things that do not exist, abilities, general text.

    `shots` and `domains` belong to its own questions. `seconds` is how long the base and the tuned model together may
    take for it (None: no limit).
    """

    facts: Sequence[Question] = ()
    nonexistent: Sequence[Question] = ()
    abilities: Sequence[Question] = ()
    texts: Sequence[Example] = ()
    shots: Mapping[str, Sequence[Example]] = field(default_factory=dict)
    domains: Mapping[str, frozenset[str]] = field(default_factory=dict)
    seconds: float | None = None

    @property
    def parts(self) -> dict[str, Sequence[Any]]:
        """The questions and the texts, by the names of their fields."""
        return {name: getattr(self, name) for name in ("facts", "nonexistent", "abilities", "texts")}

    @property
    def size(self) -> int:
        return sum(map(len, self.parts.values()))

    def first(self, share: float) -> Battery:
        """The battery with the first `share` of each part, at least one row of each that has any."""
        return replace(self, **{name: rows[: ceil(share * len(rows))] for name, rows in self.parts.items()})

    @property
    def alone(self) -> Dataset:
        """A data set that holds this battery only: no answer to it depends on the rows of a task."""
        return Dataset(train=(), shots=self.shots, domains=self.domains, elsewhere=self)


@dataclass(frozen=True)
class Dataset:
    """Training, selection and report items are disjoint by construction; every question has a stable id.

    `fit_groups` names the groups of training examples whose reproduction is logged separately (`known`, `new`).
    `domains` maps a question's `domain` (an attribute) to the values that are of the right kind.
    `select_*` questions choose checkpoints; no reported number comes from them. `chat_template` is the one
    for conversations: `auto`, None (the tokenizer must have one) or Jinja text. `shots` are answered questions of each
    domain, to be shown before a question, which no probe asks; `aside` are those of them that are asked after all where
    no shots are shown. `elsewhere` is the battery, which has nothing to do with the task.
    `form` is the form of training rows that have `words`. What is taught and asked may depend on what the base knows:
    `choose` returns the data once it is told which of the `candidates` (by id) the base answers rightly.
    `stand_ins` maps the cluster of a training row, which is a name in its text, to a name that nothing bears and no
    probe asks about.
    """

    train: Sequence[Example]
    validation: Sequence[Example] = ()
    task: Sequence[Question] = ()
    task_texts: Sequence[Example] = ()
    hallucination: Sequence[Question] = ()
    select_task: Sequence[Question] = ()
    select_known: Sequence[Question] = ()
    ability: Sequence[Question] = ()
    contexts: Sequence[Question] = ()
    texts: Sequence[Example] = ()
    fit_groups: Mapping[str, Sequence[Example]] = field(default_factory=dict)
    domains: Mapping[str, frozenset[str]] = field(default_factory=dict)
    pretraining: OldTexts | None = None
    notes: Sequence[str] = ()
    chat_template: str | None = "auto"
    exact: bool = False  # a right answer is a true one and no word more: the form is part of the task
    prompt_template: str = "{question}"  # what a question typed in a chat is put into
    fields_not_used: Sequence[str] = ()  # fields of the rows to which other tools give a meaning
    shots: Mapping[str, Sequence[Example]] = field(default_factory=dict)
    elsewhere: Battery | None = None
    form: Literal["auto", "chat", "plain"] = "auto"
    candidates: Sequence[Question] = ()
    aside: Sequence[Question] = ()
    choose: Callable[[Mapping[str, bool]], Dataset] | None = None
    stand_ins: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def taught(self) -> Seen:
        """The completions of the training rows, in the form in which answers are compared."""
        return Seen(key(completion) for _, (completion,) in attributes(self.train, "completion"))

    @property
    def has_conversations(self) -> bool:
        groups = (self.train, self.task, self.task_texts, self.texts)
        return any(turns for rows in groups for _, (turns,) in attributes(rows, "turns"))
