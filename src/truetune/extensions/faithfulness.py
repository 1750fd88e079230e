"""Does the model keep to what it is given? Questions with a context, some of which contradicts what was learnt."""

from __future__ import annotations

from dataclasses import dataclass, replace

from truetune.data.dataset import Dataset, Question
from truetune.probes.probe import Asking, Subject
from truetune.scoring.answers import contains, exact_match
from truetune.scoring.item import Item, Measurement
from truetune.scoring.rates import rates


@dataclass(frozen=True)
class Faithfulness:
    """Share of the answers given that the context does not hold; where context and memory contradict, which was
    followed. The kinds are `unsupported` and `from_memory`.
    """

    asking: Asking
    name: str = "faithfulness"

    def measure(self, subject: Subject, data: Dataset) -> Measurement:
        if not data.contexts:
            return Measurement()
        asked = [below_context(question) for question in data.contexts]
        answered = self.asking.ask(subject, asked, data)
        items = [_marked(item, question) for item, question in zip(answered, data.contexts, strict=True)]
        return Measurement(rates(self.name, items), {self.name: items})


def below_context(question: Question) -> Question:
    turns = question.turns
    if turns:
        turns = (*turns[:-1], turns[-1]._replace(content=f"{question.context}\n{turns[-1].content}"))
    return replace(question, question=f"{question.context}\n{question.question}", turns=turns)


def _marked(item: Item, question: Question) -> Item:
    if item.outcome == "abstained":
        return item
    found = {
        "unsupported": not contains(question.context, item.answer),
        "from_memory": exact_match(item.answer, question.memory),
    }
    return replace(item, kind=(*item.kind, *(kind for kind, present in found.items() if present)))
