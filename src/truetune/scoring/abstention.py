"""What counts as an abstention: the phrases of `measure.abstention_phrases`, where they stand in an answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from truetune.scoring.answers import normalise
from truetune.scoring.normalisation import stands_in


def abstained(text: str, question: str, phrases: Sequence[str]) -> tuple[bool, str]:
    """(whether a clause of the text is an abstention, what the other clauses say).

    The second is empty where the last clause abstains, for that takes back what stands before. A clause that repeats
    the question is no abstention, whatever its words.
    """
    pattern, other_clauses, abstains = _pattern(tuple(phrases)), list[str](), False
    clauses = [part for part in re.split(r"(?<=[.,;:!?])\s+|\bbut\b|[\u2014\n]", text) if part.strip()]
    for clause in clauses:
        words = normalise(clause)
        is_echo = words.count(" ") > 1 and stands_in(question, clause)
        abstains = bool(words and pattern.search(f" {words} ")) and not is_echo if words else abstains
        other_clauses += [] if abstains else [clause]
    return (False, text) if len(other_clauses) == len(clauses) else (True, "" if abstains else ". ".join(other_clauses))


@lru_cache(maxsize=8)
def _pattern(phrases: tuple[str, ...]) -> re.Pattern[str]:
    """A phrase of three or more words may stand anywhere in a clause; two words open or end it, one is all of it."""
    shapes = {0: "^ {0} $", 1: "^ {0} | {0} $"}
    texts = [text for text in map(normalise, phrases) if text]
    return re.compile(
        "|".join(shapes.get(text.count(" "), " {0} ").format(re.escape(text)) for text in texts) or "(?!)"
    )
