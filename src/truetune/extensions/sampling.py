"""Does the model say the same each time it is asked? Uncertainty from repeated answers."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from truetune.data.dataset import Dataset, Question
from truetune.data.values import Count, NotNegative, Seed
from truetune.errors import UserError
from truetune.probes.asking import Asking, resolved
from truetune.probes.decoding import sampled_answers
from truetune.probes.probe import Subject
from truetune.scoring.answers import key
from truetune.scoring.calibration import auroc
from truetune.scoring.estimates import bootstrap, paired_difference
from truetune.scoring.item import Measurement
from truetune.scoring.rates import clusters

Same = Callable[[str, str], bool]


@dataclass(frozen=True)
class NormalisedMatch:
    """Whether two answers are equal after normalisation; answers without words are compared as they stand."""

    def __call__(self, one: str, other: str) -> bool:
        return key(one) == key(other)


same_answer = NormalisedMatch()


@dataclass(frozen=True)
class Sampling:
    """Asks at most `questions` of the hallucination probe: how many of `samples` answers agree with the greedy one, the
    discrete semantic entropy of the samples, and how well each tells right answers from wrong ones.

    `same` says whether two answers mean the same. The items' confidence is the agreement.
    """

    needs_weights: ClassVar[bool] = True

    asking: Asking
    samples: Count
    temperature: NotNegative
    questions: Count
    seed: Seed
    same: Same = same_answer
    name: str = "sampling"

    def check(self, config: Mapping[str, Any], data: Dataset) -> list[str]:
        if self.temperature == 0:
            key = f"probe.{self.name}.temperature={self.temperature}"
            raise UserError(f"{key} draws the same answer {self.samples} times; set one above 0, such as 1")
        return []

    def asks(self, data: Dataset) -> Sequence[Question]:
        questions = list(data.hallucination)
        return random.Random(f"sampling-{self.seed}").sample(questions, min(self.questions, len(questions)))

    def measure(self, subject: Subject, data: Dataset) -> Measurement:
        questions = self.asks(data)
        if not questions:
            return Measurement()
        items = self.asking.ask(subject, questions, data)
        form = resolved(self.asking.how.forms[0], subject.lm, data)
        sampled = sampled_answers(
            subject.lm,
            [self.asking.prompt(question, form, data) for question in questions],
            samples=self.samples,
            temperature=self.temperature,
            seed=self.seed,
            max_new_tokens=self.asking.room(subject.lm, questions, form).tokens,
            **self.asking.size,
        )
        texts = [[answer.text for answer in answers] for answers in sampled]
        agreement = [self_agreement(item.answer, each, self.same) for item, each in zip(items, texts, strict=True)]
        entropy = [semantic_entropy(each, self.same) for each in texts]
        items = [replace(item, confidence=round(share, 6)) for item, share in zip(items, agreement, strict=True)]
        entities, rng, zeros = clusters(items), np.random.default_rng(0), [0.0] * len(items)
        metrics = {
            "sampling/self_agreement": paired_difference(zeros, agreement, entities, rng),
            "sampling/semantic_entropy_nats": paired_difference(zeros, entropy, entities, rng),
        }
        is_answered = np.array([item.outcome != "abstained" for item in items])
        if is_answered.any():
            is_right = np.array([item.outcome == "right" for item in items])[is_answered]
            groups = np.array(entities)[is_answered].tolist()
            for name, signals in (("agreement", np.array(agreement)), ("entropy", -np.array(entropy))):
                signal = signals[is_answered]
                metrics[f"sampling/{name}_auroc"] = bootstrap(
                    lambda rows, signal=signal: auroc(signal[rows], is_right[rows]), groups, rng, subject.resamples
                )
        return Measurement({name: e for name, e in metrics.items() if e.n}, {self.name: items})


def meanings(answers: Sequence[str], same: Same = same_answer) -> list[int]:
    """The number of each answer's meaning; an answer joins the first meaning whose first answer says the same."""
    first: list[str] = []
    numbers: list[int] = []
    for answer in answers:
        number = next((index for index, other in enumerate(first) if same(other, answer)), len(first))
        if number == len(first):
            first.append(answer)
        numbers.append(number)
    return numbers


def semantic_entropy(answers: Sequence[str], same: Same = same_answer) -> float:
    """Entropy of the shares of meanings in nats, 0 to ln(answers) (Farquhar et al. 2024, discrete); too low for few."""
    if not answers:
        raise ValueError("semantic_entropy() needs at least one answer")
    shares = [count / len(answers) for count in Counter(meanings(answers, same)).values()]
    return max(0.0, -math.fsum(share * math.log(share) for share in shares))


def self_agreement(answer: str, samples: Sequence[str], same: Same = same_answer) -> float:
    """The share of samples that say what the answer says (Manakul et al. 2023, for short answers)."""
    if not samples:
        raise ValueError("self_agreement() needs at least one sample")
    return sum(same(answer, sample) for sample in samples) / len(samples)
