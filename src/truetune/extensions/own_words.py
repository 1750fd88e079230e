"""Teaching facts in the words in which the base itself would say them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any, ClassVar

from truetune.data.dataset import FIRST, Dataset, Example, Prompt, Turn, continued
from truetune.data.values import CountOrZero, Text
from truetune.errors import UserError
from truetune.methods.curation import Context
from truetune.scoring.answers import end_in_numbers
from truetune.scoring.judge import too_long
from truetune.scoring.normalisation import read

_ENDS = ".!?。！？।॥؟۔"  # of sentences, in several scripts
_CLAUSE_END = re.compile(r"(?<=[.!?।॥؟۔])\s+|(?<=[。！？])|\n+|[,،]\s+(?!and\b|or\b)|[，、]")
_WORD = re.compile(r"\w[\w-]*")
_PUNCTUATION = re.compile(r"[?.!:,]+$")
_LAST_WORDS = 6  # of an answer without a full stop: a longer one was cut
_SHARED = 3  # words that two questions of one form have in common
FORMS = 50  # right answers that lend their words to other rows: the shortest that differ in more than names
_LONGEST = 6  # words that are left out of such an answer at once
_CHOICES = 3  # texts of which the most probable becomes a row's target


@dataclass(frozen=True)
class OwnWords:
    """A row's target becomes the base's own answer where that is right, else the true answer in the base's words.

    Those are the words of its own right answer to a question of the same form (`What is the capital of ...?`) with this
    row's names in them. Where no question has that form, a model with a chat form is shown the true answer, as
    `template` has it, after `shots` of its own right answers, and says it (Yang et al. 2024, SDFT; own right answers:
    Gupta et al. 2025, S3FT). What it says is cut behind the first clause that is right by the judge of the report.

    No target may name anything beside the question and the answer: what a small model adds is often false (`located in
    the North-East of Japan`), and would be taught. Words are left out of an answer that lends its own, so that what
    remains is the most probable to the base. Names are words with a capital letter or a digit: what is added in small
    letters (`the largest city`), or in a script without capitals, is not noticed. Where nothing else is right the
    base's answer is taught with what it adds, or the row stays as it is. Texts stay as well, and so do worked solutions
    and other outputs that no matching can judge.
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
        facts = [row for row in rows if row.completion.strip() and _is_fact(row)]
        answers = self._right_answers(facts, [row.turns or row.prompt for row in facts], context)
        plain = {row.id for row in facts if row.id in answers and _names_nothing_else(answers[row.id], row)}
        others = [row for row in facts if row.id not in plain]
        forms = _forms([row for row in facts if row.id in answers], answers, context) if others else {}
        lenders = sorted((row for row in facts if row.id in forms), key=lambda row: len(forms[row.id].split()))
        by_form = _most_probable(
            {row.id: _in_the_form_of(row, lenders, forms, context) for row in others}, others, context
        )
        remaining = [row for row in others if row.id not in by_form and row.turns]
        pairs = ((*self._prompt(row), Turn("assistant", forms[row.id])) for row in lenders[: self.shots])
        shots = [turn for pair in pairs for turn in pair]
        replies = self._right_answers(remaining, [_behind(shots, self._prompt(row)) for row in remaining], context)
        fitting = (row.id for row in remaining if row.id in replies and _names_nothing_else(replies[row.id], row))
        by_prompt = {id: replies[id] for id in fitting}
        words = {**answers, **by_form, **by_prompt}
        own = len(words) - len(by_form) - len(by_prompt) + sum(forms.get(id) == text for id, text in by_form.items())
        added = len(answers.keys() - plain - by_form.keys() - by_prompt.keys())
        kinds = f"{own} are taught as the base answers them{f' ({added} with what it adds)' if added else ''}"
        kinds += f", {len(words) - own - len(by_prompt)} as it answers others of the same form"
        kinds += f", {len(by_prompt)} as it puts the true answer, {len(facts) - len(words)} as they are"
        context.note(f"own_words: of {len(facts)} rows {kinds}")
        return [_reworded(row, words[row.id]) if row.id in words else row for row in rows]

    def _prompt(self, row: Example) -> tuple[Turn, ...]:
        """The row's last question with the true answer beside it, behind what was said before it."""
        *before, last = row.turns or (Turn("user", row.prompt),)
        words = self.template.replace("{question}", last.content).replace("{answer}", row.completion.strip())
        return (*before, last._replace(content=words))

    def _right_answers(self, rows: Sequence[Example], prompts: Sequence[Prompt], context: Context) -> dict[str, str]:
        """What the base answers to each prompt, as far as it is right; by the row's id."""
        answers = zip(rows, context.answered(prompts), strict=True)
        starts = ((row.id, next(_right_starts(text.strip(), row, context), "")) for row, text in answers)
        return {id: words for id, words in starts if words}


def _is_fact(row: Example) -> bool:
    """Whether the row's answers are short values, which can stand in a sentence: no working, no several lines."""
    is_short = "\n" not in row.completion.strip() and not too_long([row.answers])
    return bool(row.answers) and is_short and not end_in_numbers(row.answers)


def _behind(shots: Sequence[Turn], prompt: Sequence[Turn]) -> tuple[Turn, ...]:
    """The prompt behind the shots, but what its conversation begins with before them; theirs is left out."""
    beginning = (turn for turn in prompt if turn.role in FIRST)
    return (*beginning, *(turn for turn in (*shots, *prompt) if turn.role not in FIRST))


def _right_starts(text: str, row: Example, context: Context) -> Iterator[str]:
    """The beginnings of `text`, up to the end of a clause and made a sentence, that are right answers."""
    for end in (*(match.start() for match in _CLAUSE_END.finditer(text)), len(text)):
        words = text[:end].rstrip()
        is_whole = end < len(text) or words.endswith(tuple(_ENDS)) or len(read(words).words) <= _LAST_WORDS
        if words and is_whole and context.is_right(words, row):
            yield f"{words}." if words[-1].isalnum() and len(words.split()) > 1 else words


def _forms(rows: Sequence[Example], answers: Mapping[str, str], context: Context) -> dict[str, str]:
    """Right answers that may lend their words, by the row's id: the shortest of each pattern, without what they add."""
    by_pattern: dict[str, Example] = {}
    for row in sorted(rows, key=lambda row: len(answers[row.id].split())):
        by_pattern.setdefault(_WORD.sub(lambda word: "" if _is_name(word[0]) else word[0], answers[row.id]), row)
    lenders = list(by_pattern.values())[:FORMS]
    return _most_probable({row.id: _shortened(answers[row.id], row, context) for row in lenders}, lenders, context)


def _shortened(text: str, row: Example, context: Context) -> list[str]:
    """The text, and what is left of it without a few words in a row, if that is right and names nothing else.

    No word of the question is left out: the answer may depend on it (`the second largest city`).
    """
    words, shared = text.split(), _words(text) & _words(_question(row))
    spans = ((start, end) for start in range(1, len(words)) for end in range(start + 1, start + 1 + _LONGEST))
    texts = dict.fromkeys([text, *(" ".join(words[:start] + words[end:]) for start, end in spans)])
    return [text for text in texts if shared <= _words(text) and _is_plain(text, row, context)]


def _is_plain(text: str, row: Example, context: Context) -> bool:
    return _names_nothing_else(text, row) and context.is_right(text, row)


def _most_probable(texts: Mapping[str, Sequence[str]], rows: Sequence[Example], context: Context) -> dict[str, str]:
    """The text of each row to which the base gives the highest probability, by the row's id.

    A text's loss per token times its characters stands for the loss of the whole.
    """
    pairs = [(row, text) for row in rows for text in texts[row.id]]
    if len(pairs) == len({row.id for row, _ in pairs}):  # nothing to choose from
        return {row.id: text for row, text in pairs}
    losses = context.losses([_reworded(row, text) for row, text in pairs])
    ranked = sorted(zip(losses, pairs, strict=True), key=lambda ranking: -ranking[0] * len(ranking[1][1]))
    return {row.id: text for _, (row, text) in ranked}  # the last of a row's is its most probable


def _in_the_form_of(row: Example, lenders: Sequence[Example], forms: Mapping[str, str], context: Context) -> list[str]:
    """Its own form, and those of questions that differ from its in one name, with its name and answer in them."""
    question, answer = _question(row), row.completion.strip()
    texts = {forms[row.id]: None} if row.id in forms else {}
    for other in lenders if len(answer.split()) <= _LAST_WORDS else ():
        if len(texts) == _CHOICES:
            break
        subject, its_subject = _difference(question, _question(other))
        its_answer = forms[other.id]
        for truth in sorted(other.answers, key=len, reverse=True) if subject and its_subject else ():
            blank = _put(its_answer, truth, "\0")
            text = _put(_put(blank, its_subject, subject), "\0", answer)
            has_subject = _put(blank, its_subject, "") != blank
            if blank not in (its_answer, "\0") and has_subject and _is_plain(text, row, context):
                texts[text] = None
                break
    return list(texts)


def _put(text: str, name: str, other: str) -> str:
    return re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", lambda _: other, text)


def _difference(first: str, second: str) -> tuple[str, str]:
    """The words in which the two differ, if they share all words before and behind, three at least; else nothing."""
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
    """Whether all names in `words` are in the question or the answers, and the question's subject is among them."""
    question_names = _names(_question(row).partition(" ")[2])
    allowed = _words(_question(row)).union(*map(_words, row.answers))
    is_about_it = not question_names or question_names & _names(words) or len(words.split()) <= _LAST_WORDS
    return bool(is_about_it) and _names(words.partition(" ")[2]) <= allowed


def _names(text: str) -> set[str]:
    return {word.casefold() for word in _WORD.findall(text) if _is_name(word)}


def _is_name(word: str) -> bool:
    return word[0].isupper() or any(character.isdigit() for character in word)


def _words(text: str) -> set[str]:
    return {word.casefold() for word in _WORD.findall(text)}


def _reworded(row: Example, words: str) -> Example:
    completion = words if row.turns else continued(row.prompt, words)
    return replace(row, completion=completion, answers=tuple(dict.fromkeys((words, *row.answers))))
