"""What the base knows of the facts that a fine-tune will teach: the categories of SliCK (Gekhman et al. 2024)."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from truetune.data.dataset import Example, Prompt
from truetune.data.values import Count, CountOrZero, Positive, YesOrNo
from truetune.models.language_model import LanguageModel
from truetune.probes.asking import BETWEEN, SENTENCE, STEPS, Asking, longest_answer
from truetune.probes.decoding import greedy_answers, sampled_answers
from truetune.scoring.answers import exact_match
from truetune.scoring.judge import judged

Category = Literal["HighlyKnown", "MaybeKnown", "WeaklyKnown", "Unknown"]
NAMES: dict[Category, str] = {  # in the names of metrics
    "HighlyKnown": "highly_known",
    "MaybeKnown": "maybe_known",
    "WeaklyKnown": "weakly_known",
    "Unknown": "unknown",
}


@dataclass(frozen=True)
class Knowledge:
    """`greedy` and `sampled` are the shares of right answers over all the ways to ask for the fact."""

    id: str
    greedy: float
    sampled: float

    @property
    def category(self) -> Category:
        if self.greedy == 1:
            return "HighlyKnown"
        if self.greedy > 0:
            return "MaybeKnown"
        return "WeaklyKnown" if self.sampled > 0 else "Unknown"


@dataclass(frozen=True)
class Examiner:
    """Asks for each fact greedily in every wording, then `samples` times in each at `temperature`.

    A question that comes without wordings is asked after `shots` other rows and their answers, `prompts` times with
    other ones (Gekhman et al. 2024, section 3). A conversation is asked as it is, and what is said in reply is a
    sentence: it is judged as the report does, not compared word by word. With `label`, what the base knows is recorded
    even if no method asks for it.
    """

    label: YesOrNo = False
    samples: Count = 4
    temperature: Positive = 0.5
    shots: CountOrZero = 4
    prompts: Count = 4

    def examine(self, lm: LanguageModel, examples: Sequence[Example], asking: Asking, seed: int) -> list[Knowledge]:
        """What the base knows of each example, in their order; a text asks nothing and is left out."""
        facts = [example for example in examples if example.answers]
        demonstrations = self._demonstrations([fact for fact in facts if not fact.asks and not fact.turns], seed)
        wordings = [fact.asks or _few_shot(fact, demonstrations) for fact in facts]
        prompts = list(dict.fromkeys(prompt for asks in wordings for prompt in asks))
        margin = SENTENCE if any(fact.turns for fact in facts) else 8
        room = asking.max_new_tokens or min(longest_answer(lm, (fact.answers for fact in facts)) + margin, STEPS)
        size: dict[str, Any] = {"max_new_tokens": room, **asking.size}
        greedy = greedy_answers(lm, prompts, **size)
        sampled = sampled_answers(lm, prompts, samples=self.samples, temperature=self.temperature, seed=seed, **size)
        texts = {
            prompt: (answer.text, [sample.text for sample in samples])
            for prompt, answer, samples in zip(prompts, greedy, sampled, strict=True)
        }
        phrases = asking.abstention_phrases
        return [
            Knowledge(
                fact.id,
                _share([texts[prompt][0] for prompt in asks], fact, phrases),
                _share([text for prompt in asks for text in texts[prompt][1]], fact, phrases),
            )
            for fact, asks in zip(facts, wordings, strict=True)
        ]

    def _demonstrations(self, rows: Sequence[Example], seed: int) -> list[list[Example]]:
        """The rows that each prompt shows, and a spare one in case one of them is itself asked."""
        draws = (random.Random(f"shots-{seed}-{n}") for n in range(self.prompts if self.shots else 0))
        return [rng.sample(rows, min(self.shots + 1, len(rows))) for rng in draws] or [[]]


def groups(facts: Sequence[Knowledge], rows: Sequence[Example]) -> dict[str, list[Example]]:
    """The rows of each category that has any, under names such as `unknown`."""
    categories: dict[str, Category] = {fact.id: fact.category for fact in facts}
    rows_of: dict[Category, list[Example]] = {category: [] for category in NAMES}
    for row in rows if categories else ():
        if row.id in categories:
            rows_of[categories[row.id]].append(row)
    return {NAMES[category]: members for category, members in rows_of.items() if members}


def summary(facts: Sequence[Knowledge]) -> str:
    counts = Counter(fact.category for fact in facts)
    return f"of {len(facts)} rows: {', '.join(f'{n} {name}' for name, n in counts.most_common())}"


def _few_shot(example: Example, demonstrations: Sequence[Sequence[Example]]) -> tuple[Prompt, ...]:
    if example.turns:
        return (example.turns,)
    prompts: list[str] = []
    for rows in demonstrations:
        # A row is not shown its own answer: the spare one takes its place.
        others = [row for row in rows if row.prompt != example.prompt][: max(len(rows) - 1, 1)]
        prompts.append(BETWEEN.join([*(f"{row.prompt}{row.completion}" for row in others), example.prompt]))
    return tuple(dict.fromkeys(prompts))


def _share(answers: Sequence[str], fact: Example, phrases: Sequence[str]) -> float:
    """The share that is right. What a model adds after the answer, in the manner of the rows shown to it, is cut."""
    paragraphs = 1 + max(truth.count(BETWEEN) for truth in fact.answers)
    texts = [BETWEEN.join(answer.split(BETWEEN)[:paragraphs]) for answer in answers]
    if fact.turns:
        question = fact.words or fact.turns[-1].content
        is_right = [judged(text, fact.answers, question=question, phrases=phrases) == "right" for text in texts]
    else:
        is_right = [exact_match(text, fact.answers) for text in texts]
    return sum(is_right) / len(is_right) if is_right else 0.0
