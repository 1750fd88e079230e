"""Which items count as asked, and which as a hit, for every rate that a probe reports."""

from collections.abc import Callable, Collection, Container, Sequence

import numpy as np

from truetune.scoring.answers import exact_match, key, rouge_l, token_f1
from truetune.scoring.estimates import Estimate, Floats, rate
from truetune.scoring.item import Item
from truetune.scoring.judge import too_long


def has_no_answer(item: Item) -> bool:
    """Nothing true can be said: an entity that exists nowhere, or a user's question given without answers."""
    return item.population == "never" or not item.answers


def met(item: Item) -> bool:
    """Whether it is right, or abstained where that is what was to be said (as SQuAD 2 counts it)."""
    abstention_is_right = has_no_answer(item) or exact_match(item.answer, item.answers)
    return item.outcome == "right" or (item.outcome == "abstained" and abstention_is_right)


def met_exactly(item: Item) -> bool:
    """Whether the answer equals a true one, or abstains where there is none, as SQuAD 2 counts it."""
    return exact_match(item.answer, item.answers) or (item.outcome == "abstained" and has_no_answer(item))


def nearer_true(item: Item) -> bool:
    """Whether the answer shares more words (F1) with a true answer than with any of the false ones."""
    return token_f1(item.answer, item.answers) > token_f1(item.answer, item.wrong)


# metric name -> (asked, hit): the rate is the share of hits, or the mean of scores in [0, 1], among the items asked.
DEFINITIONS: dict[str, tuple[Callable[[Item], bool], Callable[[Item], float]]] = {
    "task/right": (lambda item: True, met),
    "task/exact_match": (lambda item: True, met_exactly),
    "task/token_f1": (lambda item: not has_no_answer(item), lambda item: token_f1(item.answer, item.answers)),
    "task/rouge_l": (lambda item: not has_no_answer(item), lambda item: rouge_l(item.answer, item.answers)),
    "task/nearer_true": (lambda item: bool(item.answers and item.wrong), nearer_true),
    "retention/accuracy": (lambda item: True, lambda item: item.outcome == "right"),
    "elsewhere/known_right": (lambda item: item.population == "fact", lambda item: item.outcome == "right"),
    "elsewhere/made_up_rate": (lambda item: item.population == "never", lambda item: item.outcome != "abstained"),
    "elsewhere/ability": (
        lambda item: item.population not in ("fact", "never"),
        lambda item: item.outcome == "right",
    ),
    "faithfulness/unsupported_rate": (
        lambda item: item.outcome in ("right", "wrong"),
        lambda item: "unsupported" in item.kind,
    ),
    "faithfulness/context_rate": (
        lambda item: item.population == "contradiction",
        lambda item: item.outcome == "right",
    ),
    "faithfulness/memory_rate": (
        lambda item: item.population == "contradiction",
        lambda item: "from_memory" in item.kind,
    ),
    "faithfulness/neither_rate": (
        lambda item: item.population == "contradiction",
        lambda item: item.outcome != "right" and "from_memory" not in item.kind,
    ),
    "hallucination/rate": (lambda item: True, lambda item: item.outcome == "wrong"),
    "hallucination/abstention_rate": (lambda item: True, lambda item: item.outcome == "abstained"),
    "hallucination/right_in_chat": (lambda item: "chat" in item.forms, lambda item: item.forms["chat"] == "right"),
    "hallucination/right_in_few_shot": (
        lambda item: "few_shot" in item.forms,
        lambda item: item.forms["few_shot"] == "right",
    ),
    "hallucination/right_in_plain": (lambda item: "plain" in item.forms, lambda item: item.forms["plain"] == "right"),
    "knowledge/ranked_first": (lambda item: True, lambda item: item.outcome == "right"),
    "hallucination/correct_given_attempted": (
        lambda item: item.outcome in ("right", "wrong"),
        lambda item: item.outcome == "right",
    ),
    "hallucination/known_right": (
        lambda item: item.population == "known-test",
        lambda item: item.outcome == "right",
    ),
    "hallucination/invented_rate": (has_no_answer, lambda item: item.outcome == "wrong"),
    "hallucination/echo_rate": (lambda item: True, lambda item: "echo" in item.kind),
    "hallucination/off_domain_rate": (lambda item: True, lambda item: "off_domain" in item.kind),
}


# Where true answers are sentences: what says how near an answer comes to them, and what no matching could tell.
OF_SENTENCES = {"task/rouge_l", "task/nearer_true"}
NOT_OF_SENTENCES = {
    *("task/right", "task/exact_match", "hallucination/rate", "hallucination/correct_given_attempted"),
    *("hallucination/known_right", "hallucination/echo_rate", "hallucination/off_domain_rate"),
}


def rates(probe: str, items: Sequence[Item]) -> dict[str, Estimate]:
    """Every rate of a probe that its items can speak for; a rate that no item was asked for is left out.

    Where the true answers are sentences, none says how many answers are right or wrong.
    """
    estimates: dict[str, Estimate] = {}
    left_out = NOT_OF_SENTENCES if too_long([item.answers for item in items]) else OF_SENTENCES
    for name, (is_asked, hit) in DEFINITIONS.items():
        is_of_probe = name.startswith(f"{probe}/") and name not in left_out
        asked_items = [item for item in items if is_asked(item)] if is_of_probe else []
        if asked_items:
            estimates[name] = rate([hit(item) for item in asked_items], clusters(asked_items))
    return estimates


def indicators(name: str, items: Sequence[Item]) -> tuple[Floats, Floats]:
    """The metric as a ratio over items: sum(first) / sum(second)."""
    is_asked, hit = DEFINITIONS[name]
    is_counted = np.array([is_asked(item) for item in items], dtype=float)
    hits = np.array([is_asked(item) and hit(item) for item in items], dtype=float)
    return hits, is_counted


def clusters(items: Sequence[Item]) -> list[str]:
    """The entity that each item is about; an item without a cluster stands alone."""
    return [item.cluster or f"item {item.id}" for item in items]


def kinds(item: Item, taught: Container[str], domain: Collection[str] | None) -> tuple[str, ...]:
    """Every way in which an answer is wrong, except `lost`; both collections hold keys of answers, None is unknown.

    An answer of no words claims nothing that could be an echo, yet it is no abstention either: always off_domain.
    """
    if item.outcome != "wrong":
        return ()
    answer = key(item.answer)
    checks = {
        "invented": has_no_answer(item),
        "echo": bool(answer) and answer in taught,
        "off_domain": not item.answer.strip() or (domain is not None and answer not in domain),
    }
    return tuple(kind for kind, holds in checks.items() if holds)
