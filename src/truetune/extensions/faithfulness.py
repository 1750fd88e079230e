"""Does the model keep to what it is given? Questions with a context, some of which contradicts what was learnt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from truetune.data.dataset import Dataset, Question
from truetune.data.rows.forms import below_context
from truetune.probes.asking import Asking
from truetune.probes.probe import Subject
from truetune.scoring.item import Item, Measurement
from truetune.scoring.judge import first_line, judged
from truetune.scoring.rates import rates
from truetune.scoring.words import stands_in


@dataclass(frozen=True)
class Faithfulness:
    """Share of the answers given that the context does not hold; where context and memory contradict, which was
    followed. The kinds are `unsupported` and `from_memory`.
    """

    asking: Asking
    name: str = "faithfulness"

    def asks(self, data: Dataset) -> Sequence[Question]:
        return [below_context(question) for question in data.contexts]

    def measure(self, subject: Subject, data: Dataset) -> Measurement:
        if not data.contexts:
            return Measurement()
        answered = self.asking.ask(subject, self.asks(data), data)
        items: list[Item] = []
        for item, question in zip(answered, data.contexts, strict=True):
            kind = list(item.kind)
            # A sentence that states a true value is held by the context if the value is.
            claims = [first_line(item.answer), *(item.answers if item.outcome == "right" else ())]
            if item.outcome != "abstained" and not any(stands_in(question.context, claim) for claim in claims):
                kind.append("unsupported")
            memory = judged(item.answer, question.memory, question=question.question, exact=data.exact)
            if item.outcome == "wrong" and memory == "right":
                kind.append("from_memory")
            items.append(replace(item, kind=tuple(kind)))
        return Measurement(rates(self.name, items), {self.name: items})
