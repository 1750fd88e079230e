"""One question as one model answered it, and all answers of one measurement."""

from dataclasses import dataclass, field

from truetune.scoring.estimates import Estimate


@dataclass(frozen=True)
class Item:
    """One probe question as one model answered it; `cluster` names the entity that correlated items share.

    `forms` are the outcomes by form of asking, `wrong` the false answers of a multiple choice.
    """

    id: str
    question: str
    answers: tuple[str, ...]
    answer: str
    outcome: str
    kind: tuple[str, ...] = ()
    confidence: float | None = None
    population: str = ""
    cluster: str = ""
    domain: str = ""
    forms: dict[str, str] = field(default_factory=dict[str, str])
    wrong: tuple[str, ...] = ()


@dataclass(frozen=True)
class Measurement:
    """All probes on one model; `items` is keyed by probe: task, retention, hallucination."""

    metrics: dict[str, Estimate] = field(default_factory=dict[str, Estimate])
    items: dict[str, list[Item]] = field(default_factory=dict[str, list[Item]])
