"""Which items count as asked, and which as a hit, for every rate that a probe reports."""

from collections.abc import Callable, Collection, Container, Sequence
from typing import Protocol, TypeVar

import numpy as np

from truetune.scoring.answers import exact_match, key, token_f1
from truetune.scoring.estimates import Estimate, Floats, rate


class Scored(Protocol):
    """What a rate needs to know of an item; `truetune.records.record.Item` has it."""

    @property
    def id(self) -> str: ...
    @property
    def answers(self) -> tuple[str, ...]: ...
    @property
    def answer(self) -> str: ...
    @property
    def outcome(self) -> str: ...
    @property
    def kind(self) -> tuple[str, ...]: ...
    @property
    def population(self) -> str: ...
    @property
    def cluster(self) -> str: ...


AnyScored = TypeVar("AnyScored", bound=Scored)
Test = Callable[[Scored], bool]


def _every(item: Scored) -> bool:
    return True


def _outcome(*outcomes: str) -> Test:
    return lambda item: item.outcome in outcomes


def _population(name: str) -> Test:
    return lambda item: item.population == name


def _has_kind(kind: str) -> Test:
    return lambda item: kind in item.kind


def has_no_answer(item: Scored) -> bool:
    """Nothing true can be said: an entity that exists nowhere, or a user's question given without answers."""
    return item.population == "never" or not item.answers


def _neither(item: Scored) -> bool:
    return item.outcome != "right" and "from_memory" not in item.kind


def _has_answer(item: Scored) -> bool:
    return not has_no_answer(item)


def met(item: Scored) -> bool:
    """Right, or abstained where that is what was to be said (as SQuAD 2 counts it)."""
    wanted = has_no_answer(item) or exact_match(item.answer, item.answers)
    return item.outcome == "right" or (item.outcome == "abstained" and wanted)


def _overlap(item: Scored) -> float:
    return token_f1(item.answer, item.answers)


_right, _wrong, _abstained = _outcome("right"), _outcome("wrong"), _outcome("abstained")
_attempted = _outcome("right", "wrong")
_known, _contradicted = _population("known-test"), _population("contradiction")

# metric name -> (asked, hit): the rate is the share of hits, or the mean of scores in [0, 1], among the items asked.
DEFINITIONS: dict[str, tuple[Test, Callable[[Scored], float]]] = {
    "task/exact_match": (_every, met),
    "task/token_f1": (_has_answer, _overlap),
    "retention/accuracy": (_every, _right),
    "faithfulness/unsupported_rate": (_attempted, _has_kind("unsupported")),
    "faithfulness/context_rate": (_contradicted, _right),
    "faithfulness/memory_rate": (_contradicted, _has_kind("from_memory")),
    "faithfulness/neither_rate": (_contradicted, _neither),
    "hallucination/rate": (_every, _wrong),
    "hallucination/abstention_rate": (_every, _abstained),
    "hallucination/correct_given_attempted": (_attempted, _right),
    "hallucination/known_exact_match": (_known, _right),
    "hallucination/invented_rate": (has_no_answer, _wrong),
    "hallucination/echo_rate": (_every, _has_kind("echo")),
    "hallucination/off_domain_rate": (_every, _has_kind("off_domain")),
}


def rates(probe: str, items: Sequence[Scored]) -> dict[str, Estimate]:
    """Every rate of a probe that its items can speak for; a rate that no item was asked for is left out."""
    found: dict[str, Estimate] = {}
    for name, (asked, hit) in DEFINITIONS.items():
        chosen = [item for item in items if asked(item)] if name.startswith(f"{probe}/") else []
        if chosen:
            found[name] = rate([hit(item) for item in chosen], clusters(chosen))
    return found


def kinds(item: Scored, taught: Container[str], domain: Collection[str] | None) -> tuple[str, ...]:
    """Every way in which an answer is wrong, but for `lost`; both collections hold keys of answers, None is unknown.

    An answer of no words claims nothing that could be an echo, yet it is no abstention either: always off_domain.
    """
    if item.outcome != "wrong":
        return ()
    said = key(item.answer)
    found = {
        "invented": has_no_answer(item),
        "echo": bool(said) and said in taught,
        "off_domain": not item.answer.strip() or (domain is not None and said not in domain),
    }
    return tuple(kind for kind, present in found.items() if present)


def clusters(items: Sequence[Scored]) -> list[str]:
    """An item without a cluster stands alone."""
    return [item.cluster or f"item {item.id}" for item in items]


def indicators(name: str, items: Sequence[Scored]) -> tuple[Floats, Floats]:
    """The metric as a ratio over items: sum(first) / sum(second)."""
    asked, hit = DEFINITIONS[name]
    in_question = np.array([asked(item) for item in items], dtype=float)
    hits = np.array([asked(item) and hit(item) for item in items], dtype=float)
    return hits, in_question
