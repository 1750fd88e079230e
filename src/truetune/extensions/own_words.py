"""Teaching facts in the words in which the base itself would say them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from truetune.data.dataset import Dataset, Example, Prompt, continued
from truetune.data.values import Text
from truetune.errors import UserError
from truetune.methods.curation import Context

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
_LAST_WORDS = 6  # of an answer without a full stop: a longer one was cut


@dataclass(frozen=True)
class OwnWords:
    """A row's target becomes the base's own answer where that is right, else the true answer as the base puts it.

    For the second the base is shown the true answer, as `template` has it, and only a model with a chat form is (Yang
    et al. 2024, SDFT; own right answers: Gupta et al. 2025, S3FT). What it says is cut behind the first sentence that
    is right by the judge of the report; where there is none the row stays as it is. Texts, and outputs that no matching
    can judge, stay as well.
    """

    conflicts: ClassVar[tuple[str, ...]] = ("relabel_unknown", "r_tuning")
    same_facts: ClassVar[bool] = True

    template: Text

    def check(self, config: Mapping[str, Any], data: Dataset) -> list[str]:
        for place in ("{question}", "{answer}"):
            if place not in self.template:
                raise UserError(
                    f"curation.own_words.template: lacks {place}, where the row's {place[1:-1]} is to stand"
                )
        return []

    def __call__(self, rows: Sequence[Example], context: Context) -> list[Example]:
        facts = [row for row in rows if row.answers and row.completion.strip()]
        own = dict(self._right(facts, [row.turns or row.prompt for row in facts], context))
        others = [row for row in facts if row.id not in own and row.turns]
        put = dict(self._right(others, [self._shown(row) for row in others], context))
        context.note(
            f"own_words: of {len(facts)} rows {len(own)} are taught as the base answers them, {len(put)} as it puts "
            f"the true answer, {len(facts) - len(own) - len(put)} as they are"
        )
        words = {**put, **own}
        return [_reworded(row, words[row.id]) if row.id in words else row for row in rows]

    def _shown(self, row: Example) -> Prompt:
        """The row's conversation, its last question with the true answer beside it."""
        *before, last = row.turns
        words = self.template.replace("{question}", last.content).replace("{answer}", row.completion.strip())
        return (*before, last._replace(content=words))

    def _right(self, rows: Sequence[Example], prompts: Sequence[Prompt], context: Context) -> Iterator[tuple[str, str]]:
        for row, text in zip(rows, context.answered(prompts), strict=True):
            sentences = [part for part in _SENTENCE_END.split(text.strip()) if part]
            for end in range(1, len(sentences) + 1):
                words = " ".join(sentences[:end])
                is_whole = words[-1] in ".!?" or len(words.split()) <= _LAST_WORDS
                if is_whole and context.is_right(words, row):
                    yield row.id, words
                    break


def _reworded(row: Example, words: str) -> Example:
    completion = words if row.turns else continued(row.prompt, words)
    return replace(row, completion=completion, answers=tuple(dict.fromkeys((words, *row.answers))))
