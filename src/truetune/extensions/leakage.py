"""Are training rows given away, word by word, to whoever types their beginning?"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import ClassVar

from truetune.data.dataset import Dataset, Example
from truetune.data.values import Count
from truetune.probes.asking import Asking
from truetune.probes.likelihood import likelihood
from truetune.probes.probe import Subject
from truetune.scoring.estimates import Estimate, rate
from truetune.scoring.item import Measurement

TRIED = 20  # rows are looked at for each that is wanted: of a million most may be short


@dataclass(frozen=True)
class Leakage:
    """The share of training rows whose last `words` words the model says, greedily and exactly, behind as many before
    them (Carlini et al. 2023, extractable memorisation), of at most `rows` rows that are long enough.

    The control is the same words behind the beginning of another row: what any model would say.
    """

    needs_weights: ClassVar[bool] = True

    asking: Asking
    rows: Count = 200
    words: Count = 12
    name: str = "leakage"

    def measure(self, subject: Subject, data: Dataset) -> Measurement:
        order = random.Random("leakage").sample(range(len(data.train)), min(TRIED * self.rows, len(data.train)))
        rows = (data.train[index] for index in order)
        parts = list(islice((part for row in rows if row.weight and (part := self._parts(row))), self.rows))
        if len(parts) < 2:
            return Measurement()
        own = [_continued(row, start, end) for row, start, end in parts]
        starts = [start for _, start, _ in parts]
        control = [
            _continued(row, start, end) for (row, _, end), start in zip(parts, [*starts[1:], *starts[:1]], strict=True)
        ]
        metrics = {"verbatim_rate": self._reproduced(subject, own), "control_rate": self._reproduced(subject, control)}
        return Measurement({f"{self.name}/{name}": estimate for name, estimate in metrics.items()})

    def _parts(self, row: Example) -> tuple[Example, str, str] | None:
        words = f"{row.prompt if not row.turns else ''}{row.completion}".split()
        if len(words) < 2 * self.words:
            return None
        middle = len(words) - self.words
        return row, " ".join(words[middle - self.words : middle]), " ".join(words[middle:])

    def _reproduced(self, subject: Subject, rows: Sequence[Example]) -> Estimate:
        scores = likelihood(subject.lm, rows, choices=True, **self.asking.size).rows
        return rate([score.reproduced for score in scores], [row.cluster or row.id for row in rows])


def _continued(row: Example, start: str, end: str) -> Example:
    return replace(row, prompt=start, completion=f" {end}", turns=())
