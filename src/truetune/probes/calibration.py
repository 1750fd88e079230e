"""Does the model know when it is right? Its confidence against the outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from truetune.data.dataset import Dataset, Question
from truetune.probes.asking import Asking
from truetune.probes.probe import Subject
from truetune.scoring.calibration import auroc, brier, ece
from truetune.scoring.estimates import Estimate, bootstraps
from truetune.scoring.item import Item, Measurement
from truetune.scoring.rates import clusters


@dataclass(frozen=True)
class Calibration:
    """Measured on the answers to the questions of the hallucination probe."""

    asking: Asking
    name: str = "calibration"

    def asks(self, data: Dataset) -> Sequence[Question]:
        return data.hallucination

    def measure(self, subject: Subject, data: Dataset) -> Measurement:
        items = self.asking.ask(subject, data.hallucination, data)
        return Measurement(calibration(items, subject.resamples))


def calibration(items: Sequence[Item], resamples: int) -> dict[str, Estimate]:
    """ECE, Brier score and AUROC of the confidence of answers that are no abstentions.

    The ECE has no interval: noise alone raises it, again in each resample, so a small ECE would lie outside of its own.
    """
    answers = [item for item in items if item.outcome != "abstained" and item.confidence is not None]
    if not answers:
        return {}
    confidences = np.array([item.confidence or 0.0 for item in answers])
    is_right = np.array([item.outcome == "right" for item in answers])

    def statistics(indices: npt.NDArray[np.intp]) -> tuple[float, float | None]:
        return brier(confidences[indices], is_right[indices]), auroc(confidences[indices], is_right[indices])

    estimates = [Estimate(ece(confidences.tolist(), is_right.tolist()), len(answers))]
    estimates += bootstraps(statistics, clusters(answers), np.random.default_rng(0), resamples)
    names = ("calibration/ece", "calibration/brier", "calibration/auroc")
    return {name: estimate for name, estimate in zip(names, estimates, strict=True) if estimate.n}
