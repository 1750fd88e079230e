"""What a data source hands to a run: texts to learn, questions to ask, and what their answers mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Example:
    """What is learnt is the completion; a text is a completion without a prompt.

    `answers` are all that would be right, the completion among them; a text has none. `asks` are the ways to ask the
    base for the same fact, if the prompt is not one. `weight` scales the example's share of the loss.
    """

    id: str
    prompt: str
    completion: str
    source: str
    answers: tuple[str, ...] = ()
    asks: tuple[str, ...] = ()
    cluster: str = ""
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Question:
    """`answers == ()` says that there is no true answer: the right one is an abstention."""

    id: str
    question: str
    answers: tuple[str, ...]
    source: str
    population: str = "asked"
    cluster: str = ""
    domain: str = ""


class Pretraining(Protocol):
    """An endless stream of texts for the base, two micro-batches of similar length per step, from a seed."""

    micro_batches_per_step: int

    @property
    def description(self) -> str: ...

    @property
    def content(self) -> str:
        """Hash of all that decides the stream."""
        ...

    def vocabulary(self) -> Sequence[str]: ...

    def micro_batches(self) -> Iterator[list[Example]]: ...


@dataclass(frozen=True)
class Dataset:
    """Training, selection and report items are disjoint by construction; every question has a stable id.

    `fit_groups` names the training examples whose reproduction is logged apart (`known`, `new`).
    `domains` maps a question's `domain` (an attribute) to the values that are of the right kind.
    `select_*` questions choose checkpoints; no reported number comes from them.
    """

    train: Sequence[Example]
    validation: Sequence[Example] = ()
    task: Sequence[Question] = ()
    task_texts: Sequence[Example] = ()
    hallucination: Sequence[Question] = ()
    select_task: Sequence[Question] = ()
    select_known: Sequence[Question] = ()
    ability: Sequence[Question] = ()
    texts: Sequence[Example] = ()
    fit_groups: Mapping[str, Sequence[Example]] = field(default_factory=dict)
    domains: Mapping[str, frozenset[str]] = field(default_factory=dict)
    pretraining: Pretraining | None = None
    notes: Sequence[str] = ()


class Source(Protocol):
    """Anything under conf/data: `load` reads or makes the data; it may raise UserError."""

    def load(self) -> Dataset: ...
