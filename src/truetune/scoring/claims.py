"""Is what stands in an answer claimed there: not denied, not a neighbour, not a part of a name, not an echo?"""

from __future__ import annotations

import re
from collections.abc import Sequence

from truetune.scoring.normalisation import Text

Place = tuple[int, int]  # first word of an answer, and the one behind the last

_NEGATED = re.compile(
    r"(?:\b(?:not|never|neither|nor|cannot|no longer|(?:rather|other) than|instead of|except(?: for)?|unlike|without)"
    r"|n['\u2019]t)\b(?!\s+(?:only|until|just|merely|to mention)\b)(?:\W+[\w'\u2019]+){0,8}\W*$",
    re.IGNORECASE,
)
_NEGATED_BEHIND = re.compile(
    r"\s+(?:(?:is|was|are|were|does|did|do|has)\s+not|(?:is|was|are|were|does|did|do)n['\u2019]t)\b(?! only)"
)
_DIRECTION = r"(?:north|south|east|west)\w*(?:[ -](?:north|south|east|west)\w*)?\s+of"
_BESIDE = re.compile(
    r"(?:\b(?:near|nearby|close to|next to|adjacent to|outside|between|far from|opposite|across from|than)"
    rf"|\bto the {_DIRECTION}|(?<!\bthe)(?<!north)(?<!south)(?:^|\s){_DIRECTION})"
    r"\s+(?:(?!(?:in|is|was|are|were|which|that|located)\b)[^\s]+\s+){0,5}$",
    re.IGNORECASE,
)
_BORDER = re.compile(
    r"\b(?:border(?:s|ed|ing)?|neighbou?r(?:s|ed|ing)?|surrounded)\b"
    r"(?:(?!\b(?:is|are|was|were|in|which|that|located)\b)[^.;!?])*$",
    re.IGNORECASE,
)
_CONTRAST = re.compile(r"\b(?:but|however|actually|instead|rather|no|correct)\b", re.IGNORECASE)
_CONCESSION = re.compile(r"\b(?:although|though|while|whereas|despite)\b[^.;!?]*$", re.IGNORECASE)
_BESIDE_ANOTHER = re.compile(r"\s*(?:,|/|,?\s*(?:and|or|&))\s*(?:the\s+)?")
_FEATURES = re.compile(
    "sea|ocean|river|gulf|bay|lake|strait|channel|canal|islands?|street|road|avenue|university|college|school|institute"
    "|airport|airlines|airways|station|bridge|museum|hotel|hospital|stadium|bank|post|times|herald|tribune|club|fc|united"
    "|city"
)
_FIRST_PARTS = re.compile("new|san|santa|port|fort|mount|lake|cape|gulf|los|las")
_OF = re.compile(
    "(?:Sea|Gulf|Bay|Lake|Straits?|Cape|Mount|Port|Isle|University|College|School|Institute|Bank|Museum) of (?:the )?$"
)
_FUNCTION = re.compile("the|a|an|of|is|was|are|were|in|at|by|to")
_LINKS = re.compile("is|was|are|were|be|in|at|by|from|of|to|as|called|named|city|town|capital|country")
_PRONOUNS = re.compile("the|it|he|she|they|this|that|these|its|his|her|their|is|was|has|are|were|have|which|who|i")


def within(place: Place, other: Place) -> bool:
    """Whether the other place is a longer one that holds this one."""
    return other[0] <= place[0] and place[1] <= other[1] and place != other


def is_claimed(answer: Text, place: Place, question: Text) -> bool:
    """Whether the answer claims the words there, in reply to the question."""
    before, rest = answer.before(place[0]), answer.behind(place[1] - 1)
    clause = re.split(r"[.;:!?](?=\s)|,|\bbut\b", before)[-1]
    if _NEGATED.search(clause) or _NEGATED_BEHIND.match(rest) or _BESIDE.search(clause) or _BORDER.search(before):
        return False
    if place == (0, 1) and answer.words[0].isdecimal() and re.match(r"[.)]\s+\S", rest):
        return False  # the number of a list's first line
    return not _is_part(answer, place) and not _repeats(answer, place, question)


def _is_part(answer: Text, place: Place) -> bool:
    """Whether the words next to it make it another name (`South China Sea`, `New Mexico`) or another number."""
    start, end = place
    gap_before, gap_behind = answer.between(start - 1, start), answer.between(end - 1, end)
    prior_word = answer.words[start - 1] if start and gap_before in (" ", "-", "\u2013") else ""
    next_word = answer.words[end] if end < len(answer.words) and gap_behind in (" ", "-", "\u2013", "") else ""
    if prior_word[-1:].isdigit() and answer.words[start][0].isdigit():
        return True
    if answer.words[end - 1][-1].isdigit() and (next_word == "^" or next_word[:1].isdigit()):
        return True
    is_lower = answer.raw.islower()
    if _FIRST_PARTS.fullmatch(prior_word) and (is_lower or answer.is_upper(start - 1)):
        return True
    if next_word and (is_lower or answer.is_upper(end)):
        is_letter = len(next_word) == 1 and next_word.isalpha() and not re.match(r"\s\w\.\s*\w", answer.behind(end - 1))
        if _FEATURES.fullmatch(next_word) or (not is_lower and (is_letter or gap_behind == "-")):
            return True
    return bool(_OF.search(answer.before(start)))


def _repeats(answer: Text, place: Place, question: Text) -> bool:
    """Whether words that the question holds too only repeat it; of its own choices (`A or B?`) one is an answer."""
    words, question_words = answer.words, question.words
    size = place[1] - place[0]
    starts = [n for n in range(len(question_words)) if question_words[n : n + size] == words[place[0] : place[1]]]
    if not starts or any("or" in question_words[max(n - 2, 0) : n] + question_words[n + size :][:1] for n in starts):
        return False
    for n in starts:
        runs = (
            zip(reversed(words[: place[0]]), reversed(question_words[:n]), strict=False),
            zip(words[place[1] :], question_words[n + size :], strict=False),
        )
        for run in runs:
            for word, other in run:
                if word != other:
                    break
                if not _FUNCTION.fullmatch(word):
                    return True
    return place[0] > 0 and not _LINKS.fullmatch(words[place[0] - 1])


def is_listed(answer: Text, place: Place, true_places: Sequence[Place]) -> bool:
    """Whether another value stands beside it (`Michigan and Ohio State`), which is none of the true ones."""
    words = answer.words
    next_value = place[1] + 1 + (words[place[1] + 1 : place[1] + 2] == ("the",))
    for link, other, verb in ((place[1], next_value, next_value + 1), (place[0] - 1, place[0] - 2, place[1])):
        if min(link, other) < 0 or max(link, other) >= len(words) or words[link] not in ("and", "or", "to"):
            continue
        is_clause = "," in answer.between(link - 1, link)
        opens_clause = is_clause and verb < len(words) and bool(_PRONOUNS.fullmatch(words[verb]))
        if opens_clause or _PRONOUNS.fullmatch(words[other]) or any(start <= other < end for start, end in true_places):
            continue
        is_name = answer.is_upper(other) and answer.is_upper(place[0])
        is_value = is_name or len(words) <= 6 or (is_clause and other < link)
        if (words[other][-1].isdigit() and words[place[0]][0].isdigit()) or (is_value and words[link] != "to"):
            return True
    return False


def replaces(answer: Text, rival: Place, true_places: Sequence[Place]) -> bool:
    """Whether a rival stands before all true values, and is not given up for them, or beside one of them."""
    for true_place in true_places:
        first, second = min(rival, true_place), max(rival, true_place)
        between = answer.raw[answer.spans[first[1] - 1][1] : answer.spans[second[0]][0]]
        if _BESIDE_ANOTHER.fullmatch(between):
            return True
        if true_place == true_places[0] and first == rival:
            return not _CONTRAST.search(between) and not _CONCESSION.search(answer.before(rival[0]))
    return False
