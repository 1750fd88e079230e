"""Do several answers to one question say the same?"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from truetune.scoring.answers import key

Same = Callable[[str, str], bool]


@dataclass(frozen=True)
class NormalisedMatch:
    """Equal after normalisation; answers of no words are compared as they stand."""

    def __call__(self, one: str, other: str) -> bool:
        return key(one) == key(other)


same_answer = NormalisedMatch()


def meanings(answers: Sequence[str], same: Same = same_answer) -> list[int]:
    """The number of each answer's meaning; an answer joins the first meaning whose first answer says the same."""
    first: list[str] = []
    found: list[int] = []
    for answer in answers:
        place = next((index for index, other in enumerate(first) if same(other, answer)), len(first))
        if place == len(first):
            first.append(answer)
        found.append(place)
    return found


def semantic_entropy(answers: Sequence[str], same: Same = same_answer) -> float:
    """Of the shares of meanings, in nats, from 0 to ln(answers) (Farquhar et al. 2024, discrete); too low for few."""
    if not answers:
        raise ValueError("semantic_entropy() needs at least one answer")
    shares = [count / len(answers) for count in Counter(meanings(answers, same)).values()]
    return max(0.0, -math.fsum(share * math.log(share) for share in shares))


def self_agreement(answer: str, samples: Sequence[str], same: Same = same_answer) -> float:
    """The share of samples that say what the answer says (Manakul et al. 2023, for short answers)."""
    if not samples:
        raise ValueError("self_agreement() needs at least one sample")
    return sum(same(answer, sample) for sample in samples) / len(samples)
