"""Teaching facts in the words in which the base itself would say them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any, ClassVar

from truetune.data.dataset import Dataset, Example, Prompt, Turn, continued
from truetune.data.values import CountOrZero, Text
from truetune.errors import UserError
from truetune.methods.curation import Context

_CLAUSE_END = re.compile(r"(?<=[.!?])\s+|\n+|,\s+(?!and\b|or\b)")
_WORD = re.compile(r"[^\W\d_][\w-]*")
_PUNCTUATION = re.compile(r"[?.!:,]+$")
_LAST_WORDS = 6  # of an answer without a full stop: a longer one was cut
_SHARED = 3  # words that two questions of one form have in common
FORMS = 100  # answers whose form is tried, the shortest


@dataclass(frozen=True)
class OwnWords:
    """A row's target becomes the base's own answer where that is right, else the true answer in the base's words.

    Those are the words of its own right answer to a question of the same form (`What is the capital of ...?`) with this
    row's names in them. Where no question has that form, a model with a chat form is shown the true answer, as
    `template` has it, after `shots` of its own right answers, and says it (Yang et al. 2024, SDFT; own right answers:
    Gupta et al. 2025, S3FT). What it says is cut behind the first clause that is right by the judge of the report, and
    must name nothing else: what a small model adds is often false. Where nothing is right the row stays as it is.
    Texts, and outputs that no matching can judge, stay as well.
    """

    conflicts: ClassVar[tuple[str, ...]] = ("relabel_unknown", "r_tuning")
    same_facts: ClassVar[bool] = True

    template: Text
    shots: CountOrZero = 6

    def check(self, config: Mapping[str, Any], data: Dataset) -> list[str]:
        for place in ("{question}", "{answer}"):
            if place not in self.template:
                raise UserError(
                    f"curation.own_words.template: lacks {place}, where the row's {place[1:-1]} is to stand"
                )
        return []

    def __call__(self, rows: Sequence[Example], context: Context) -> list[Example]:
        facts = [row for row in rows if row.answers and row.completion.strip()]
        own = self._said(facts, [row.turns or row.prompt for row in facts], context)
        forms = sorted((row for row in facts if row.id in own), key=lambda row: len(own[row.id].split()))[:FORMS]
        others = [row for row in facts if row.id not in own]
        alike = {row.id: words for row in others if (words := _in_the_form_of(row, forms, own, context))}
        asked = [row for row in others if row.id not in alike and row.turns]
        before = [turn for row in forms[: self.shots] for turn in (*self._shown(row), Turn("assistant", own[row.id]))]
        put = self._said(asked, [(*before, *self._shown(row)) for row in asked], context)
        put = {row.id: put[row.id] for row in asked if row.id in put and _names_nothing_else(put[row.id], row)}
        words = {**own, **alike, **put}
        kinds = f"{len(own)} are taught as the base answers them, {len(alike)} as it answers others of the same form"
        left = len(facts) - len(words)
        context.note(
            f"own_words: of {len(facts)} rows {kinds}, {len(put)} as it puts the true answer, {left} as they are"
        )
        return [_reworded(row, words[row.id]) if row.id in words else row for row in rows]

    def _shown(self, row: Example) -> tuple[Turn, ...]:
        """The row's last question with the true answer beside it, behind what was said before it."""
        *before, last = row.turns or (Turn("user", row.prompt),)
        words = self.template.replace("{question}", last.content).replace("{answer}", row.completion.strip())
        return (*before, last._replace(content=words))

    def _said(self, rows: Sequence[Example], prompts: Sequence[Prompt], context: Context) -> dict[str, str]:
        """What the base says to each, as far as it is right."""
        answers = zip(rows, context.answered(prompts), strict=True)
        starts = ((row.id, next(_right_starts(text.strip(), row, context), "")) for row, text in answers)
        return {id: words for id, words in starts if words}


def _right_starts(text: str, row: Example, context: Context) -> Iterator[str]:
    """What is said up to the end of a clause, made a sentence, wherever that is right."""
    for end in (*(match.start() for match in _CLAUSE_END.finditer(text)), len(text)):
        words = text[:end].rstrip()
        is_whole = end < len(text) or words[-1:] in (".", "!", "?") or len(words.split()) <= _LAST_WORDS
        if words and is_whole and context.is_right(words, row):
            yield f"{words}." if words[-1].isalnum() and len(words.split()) > 1 else words


def _in_the_form_of(row: Example, forms: Sequence[Example], own: Mapping[str, str], context: Context) -> str:
    """The base's answer to a question that differs from the row's in one name, with the row's name and answer in it."""
    question, answer = _question(row), row.completion.strip()
    for other in forms if len(answer.split()) <= _LAST_WORDS else ():
        subject, its = _difference(question, _question(other))
        said = own[other.id]
        for true in sorted(other.answers, key=len, reverse=True) if subject and its else ():
            without = _put(said, true, "\0")
            words = _put(_put(without, its, subject), "\0", answer)
            if without not in (said, "\0") and _put(without, its, "") != without and context.is_right(words, row):
                return words
    return ""


def _put(text: str, name: str, other: str) -> str:
    return re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", lambda _: other, text)


def _difference(first: str, second: str) -> tuple[str, str]:
    """The words in which the two differ, if all others stand before or behind those in both, three at least."""
    one, other = first.split(), second.split()
    head = _shared(one, other)
    tail = _shared(one[head:][::-1], other[head:][::-1])
    if head + tail < _SHARED:
        return "", ""
    ends = [_PUNCTUATION.sub("", " ".join(words[head : len(words) - tail])) for words in (one, other)]
    return ends[0], ends[1]


def _shared(first: Sequence[str], second: Sequence[str]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))


def _question(row: Example) -> str:
    return row.turns[-1].content if row.turns else row.words or row.prompt


def _names_nothing_else(words: str, row: Example) -> bool:
    """Whether all names in it are those of the question or the answer, and it names what the question is about."""
    of_question = _names(_question(row).partition(" ")[2])
    known = _names(_question(row)).union(*map(_names, row.answers))
    is_about_it = not of_question or of_question & _names(words) or len(words.split()) <= _LAST_WORDS
    return bool(is_about_it) and _names(words.partition(" ")[2]) <= known


def _names(text: str) -> set[str]:
    return {word for word in _WORD.findall(text) if word[0].isupper()}


def _reworded(row: Example, words: str) -> Example:
    completion = words if row.turns else continued(row.prompt, words)
    return replace(row, completion=completion, answers=tuple(dict.fromkeys((words, *row.answers))))
