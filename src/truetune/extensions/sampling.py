"""Does the model say the same each time it is asked? Uncertainty from repeated answers."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from truetune.data.dataset import Dataset
from truetune.data.values import Count, NotNegative, Seed
from truetune.extensions.semantic import Same, same_answer, self_agreement, semantic_entropy
from truetune.probes.decoding import sampled_answers
from truetune.probes.probe import Asking, Subject
from truetune.scoring.calibration import auroc
from truetune.scoring.estimates import Estimate, Floats, bootstrap, paired_difference, undefined
from truetune.scoring.item import Measurement
from truetune.scoring.rates import clusters


@dataclass(frozen=True)
class Sampling:
    """Of at most `questions` of the hallucination probe: how many of `samples` answers agree with the greedy one, the
    discrete semantic entropy of the samples, and how well each tells right answers from wrong ones.

    `same` says whether two answers mean the same. The items' confidence is the agreement.
    """

    asking: Asking
    samples: Count
    temperature: NotNegative
    questions: Count
    seed: Seed
    same: Same = same_answer
    name: str = "sampling"

    def measure(self, subject: Subject, data: Dataset) -> Measurement:
        asked = list(data.hallucination)
        asked = random.Random(f"sampling-{self.seed}").sample(asked, min(self.questions, len(asked)))
        if not asked:
            return Measurement()
        items = self.asking.ask(subject, asked, data)
        drawn = sampled_answers(
            subject.lm,
            [question.asked for question in asked],
            samples=self.samples,
            temperature=self.temperature,
            seed=self.seed,
            max_new_tokens=self.asking.max_new_tokens,
            batch_size=self.asking.batch_size,
        )
        texts = [[answer.text for answer in answers] for answers in drawn]
        agreement = [self_agreement(item.answer, said, self.same) for item, said in zip(items, texts, strict=True)]
        entropy = [semantic_entropy(said, self.same) for said in texts]
        items = [replace(item, confidence=round(share, 6)) for item, share in zip(items, agreement, strict=True)]
        entities, rng, zeros = clusters(items), np.random.default_rng(0), [0.0] * len(items)
        metrics = {
            "sampling/self_agreement": paired_difference(zeros, agreement, entities, rng),
            "sampling/semantic_entropy_nats": paired_difference(zeros, entropy, entities, rng),
        }
        said = np.array([item.outcome != "abstained" for item in items])
        right = np.array([item.outcome == "right" for item in items])[said]
        for name, signal in (("agreement", np.array(agreement)), ("entropy", -np.array(entropy))):
            metrics[f"sampling/{name}_auroc"] = _tells(
                signal[said], right, np.array(entities)[said].tolist(), rng, subject.resamples
            )
        return Measurement({name: e for name, e in metrics.items() if e.n}, {self.name: items})


def _tells(
    signal: Floats, right: npt.NDArray[np.bool_], entities: list[str], rng: np.random.Generator, resamples: int
) -> Estimate:
    """AUROC of the signal for being right; undefined without right and wrong answers."""
    if not len(signal):
        return undefined()
    return bootstrap(lambda chosen: auroc(signal[chosen], right[chosen]), entities, rng, resamples)
