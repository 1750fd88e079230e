"""Does the model keep to its context? Some of the contexts contradict what the model has learnt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from truetune.data.dataset import Dataset, Question
from truetune.data.rows.forms import below_context
from truetune.probes.asking import Asking
from truetune.probes.probe import Subject
from truetune.scoring.item import Item, Measurement
from truetune.scoring.judge import first_line, judged
from truetune.scoring.normalisation import stands_in
from truetune.scoring.rates import rates


@dataclass(frozen=True)
class Faithfulness:
    """The share of answers that the context does not support and, where context and memory contradict each other, which
    of them was followed. The kinds are `unsupported` and `from_memory`.
    """

    asking: Asking
    name: str = "faithfulness"

    def asks(self, data: Dataset) -> Sequence[Question]:
        return [below_context(question) for question in data.contexts]

    def measure(self, subject: Subject, data: Dataset) -> Measurement:
        if not data.contexts:
            return Measurement()
        answers = self.asking.ask(subject, self.asks(data), data)
        items: list[Item] = []
        for item, question in zip(answers, data.contexts, strict=True):
            kinds = list(item.kind)
            # The context supports a sentence that states a true value if it holds the value.
            claims = [first_line(item.answer), *(item.answers if item.outcome == "right" else ())]
            if item.outcome != "abstained" and not any(stands_in(question.context, claim) for claim in claims):
                kinds.append("unsupported")
            memory = judged(item.answer, question.memory, question=question.question, exact=data.exact)
            if item.outcome == "wrong" and memory == "right":
                kinds.append("from_memory")
            items.append(replace(item, kind=tuple(kinds)))
        return Measurement(rates(self.name, items), {self.name: items})
