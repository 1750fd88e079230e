"""What every probe is: it asks one model the same questions each time and keeps every answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from truetune.data.dataset import Dataset, Example, Question
from truetune.errors import UserError
from truetune.models.frozen import Frozen
from truetune.models.language_model import LanguageModel
from truetune.probes.decoding import Decoding
from truetune.probes.respondent import Answer, Respondent
from truetune.scoring.item import Measurement


@dataclass(frozen=True)
class Subject:
    """The model under measurement, and the untouched base that some metrics compare with (None: it is the base).

    `lm` is the respondent whose weights are here: what measures more than answers needs `has_weights`.
    `decoding` is part of the model as it is used. `memory` holds the answers given within one measurement: probes that
    ask the same questions share them (None: nothing is remembered, since weights change between measurements).
    `resamples` is the number of bootstraps behind an interval: 0 where none is kept. Without `drifts` no KL to the
    base is reported: there is no base to measure it by.
    """

    respondent: Respondent
    base: Frozen | None = None
    decoding: Decoding | None = None
    memory: dict[Any, list[Answer]] | None = None
    resamples: int = 400
    drifts: bool = True

    @property
    def has_weights(self) -> bool:
        return isinstance(self.respondent, LanguageModel)

    @property
    def lm(self) -> LanguageModel:
        if isinstance(self.respondent, LanguageModel):
            return self.respondent
        raise UserError(
            f"{self.respondent.origin}: its weights are not here, and a probe reads them; take that probe out, or let "
            "its class say needs_weights = True"
        )


class Probe(Protocol):
    """Measures one model; it is made from its YAML and `asking`, and never knows what another model answered.

    `name` prefixes the metrics and the items' file. Four members are optional: `asks(data)` returns the questions that
    are answered in words, which are looked through for those that are too long; `notes(lm, data)` what else the user
    should know before anything is measured; `selects = True` says that the probe asks as the selection questions are
    asked, so that with it there is a `val/score` to choose checkpoints by; `needs_weights = True` that it measures more
    than answers, so that it is left out where a model is served.
    """

    name: str

    def measure(self, subject: Subject, data: Dataset) -> Measurement: ...


def true_answers(questions: Sequence[Question]) -> list[Example]:
    """Each answerable question with its first true answer, as a training row would have it."""
    return [question.as_row() for question in questions if question.answers]
