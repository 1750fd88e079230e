"""Does an answer state a true value, abstain, or is it wrong? Measured by tests/benchmarks/judge.py."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from statistics import median
from typing import Literal

from truetune.scoring.abstention import abstained
from truetune.scoring.answers import end_in_numbers, exact_match
from truetune.scoring.claims import Place, is_claimed, is_listed, replaces, within
from truetune.scoring.normalisation import Text, alike, read

Outcome = Literal["right", "abstained", "wrong"]

# Marks of the end and of turns, in the words of the templates of today's models; a base may write them as text.
_MARKS = re.compile(
    r"(?:<\|[^|<>\n]*\|>|</?s>|<(?:eos|bos|pad|unk)>|<(?:start|end)_of_turn>|\[/?INST\])(?:assistant\b|model\b)?"
)
_LONG = 6  # words: true answers that are longer are sentences, which matching can not judge
_QUESTION = 30  # words of a question without a mark; what is longer opens with a text to be read
_KINDS = re.compile(
    "continent|country|nation|state|city|town|province|region|village|island|territory|district|mainland"
)
_OPPOSITES = frozenset(("yes", "no", "true", "false"))
# Other names of one thing, `=` between them. Of a short name in capitals only the capitals count.
_SAME = """
United States=United States of America=USA=US=America; United Kingdom=UK=Great Britain=Britain; Czech Republic=Czechia
South Korea=Republic of Korea=ROK=Korea; North Korea=Democratic People's Republic of Korea=DPRK
China=People's Republic of China=PRC=Mainland China; Taiwan=Republic of China=ROC; Myanmar=Burma; Eswatini=Swaziland
Democratic Republic of the Congo=Democratic Republic of Congo=DR Congo=DRC=Congo-Kinshasa=Zaire; Cape Verde=Cabo Verde
Republic of the Congo=Republic of Congo=Congo-Brazzaville; East Timor=Timor-Leste; North Macedonia=Macedonia
Ivory Coast=Côte d'Ivoire; Turkey=Türkiye; Netherlands=Holland; Kyiv=Kiev; European Union=EU; United Nations=UN
Russia=Russian Federation; Iran=Islamic Republic of Iran=Persia
United Arab Emirates=UAE=Emirates; Vatican City=Vatican=Holy See; Bosnia and Herzegovina=Bosnia; Beijing=Peking
Syria=Syrian Arab Republic; Belgrade=Belgrad=Beograd; Bucharest=Bucuresti; Chisinau=Kishinev; Warsaw=Warszawa
Mumbai=Bombay; Kolkata=Calcutta; Chennai=Madras; Yangon=Rangoon; Prague=Praha; New York City=New York=NYC; Lisbon=Lisboa
Washington, D.C.=Washington=Washington DC; Ho Chi Minh City=Saigon; Astana=Nur-Sultan; Mexico City=Ciudad de México
Vienna=Wien; Rome=Roma; Copenhagen=København; Moscow=Moskva; Munich=München; Cologne=Köln; Persian=Farsi
Mandarin=Mandarin Chinese; World War 1=First World War=WWI=WW1; World War 2=Second World War=WWII=WW2
"""
_GROUPS = [[name.strip() for name in group.split("=")] for group in _SAME.strip().replace("\n", ";").split(";")]
_APART = frozenset({  # names that hold another name
    *("South Sudan", "South Africa", "Northern Ireland", "West Virginia", "Equatorial Guinea", "Papua New Guinea"),
    *("Guinea-Bissau", "American Samoa", "South America", "North America", "Latin America", "Central America"),
    *("Dominican Republic", *(name for group in _GROUPS for name in group)),
})  # fmt: skip


def judged(
    answer: str,
    answers: Sequence[str],
    *,
    question: str = "",
    rivals: Collection[str] = (),
    phrases: Sequence[str] = (),
    exact: bool = False,
) -> Outcome:
    """`rivals` are the values of the same kind that could have been said; the true ones may be among them.

    With `exact` the right answer is a true one and no other word. An answer that ends in one of the phrases has taken
    back what it says before; one that states a true value outside of its refusals is right. Without a true answer all
    but an abstention is wrong.
    """
    truths = [_MARKS.sub("", alias).strip() for alias in answers]
    if exact or end_in_numbers(truths):
        return "abstained" if abstained(answer, "", phrases)[0] else "right" if exact_match(answer, truths) else "wrong"
    text = first_line(answer, any("\n" in truth for truth in truths))
    abstains, rest = abstained(text, question, phrases)
    if abstains and not read(rest).words:
        return "abstained"
    is_right = bool(truths) and _states(rest, truths, question, frozenset(rivals))
    return "right" if is_right else "abstained" if abstains else "wrong"


def first_line(answer: str, whole: bool = False) -> str:
    """The text up to its first line end or mark of an end; a line that ends in a colon announces the next one."""
    text = re.sub(rf"^(?:\s|{_MARKS.pattern})+", "", answer)
    text = re.split(rf"{_MARKS.pattern}|\bQuestion:", text, maxsplit=1)[0].strip()
    if whole:
        return text
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    announces = len(lines) > 1 and lines[0].endswith(":")
    return " ".join(lines[: 1 + announces])


def too_long(answers: Sequence[Sequence[str]]) -> bool:
    """Whether true answers are sentences, which no matching of words can judge: the median is over six words."""
    judged_by_words = [aliases for aliases in answers if not end_in_numbers(aliases)]
    lengths = [len(read(alias).words) for aliases in judged_by_words for alias in aliases]
    return bool(lengths) and median(lengths) > _LONG


def _states(text: str, truths: Sequence[str], question: str, rivals: frozenset[str]) -> bool:
    """Whether the text gives a true value, and none of its rivals in its stead or beside it."""
    answer, query = read(text), read(_sentences_that_ask(question))
    if not answer.words:
        return any(text.strip().lower() == truth.lower() for truth in truths if truth)
    names = [name for truth in truths for name in _names(truth)]
    if any(_equal(answer, name) for name in names):
        return True
    true_words = {name.words for name in names}
    places = [place for name in names for place in answer.places(name) if _is_as_written(answer, place, name)]
    places += [place for name in names for place in _adjectives(answer, name)]
    if not places:
        return False
    mentions = [*_others(answer, _APART), *_others(answer, rivals)]
    other_names = [place for name, place in mentions if name.words not in true_words]
    claims = [place for place in places if not any(within(place, other) for other in other_names)]
    claims = sorted(place for place in claims if is_claimed(answer, place, query))
    if not claims or any(is_listed(answer, place, claims) for place in claims):
        return False
    opposites = _OPPOSITES if {truth.lower() for truth in truths} <= _OPPOSITES else frozenset[str]()
    for name, place in _others(answer, rivals | opposites):
        is_true = name.words in true_words or any(within(place, other) for other in (*places, *other_names))
        is_of_question = next(query.places(name), None) is not None
        if not is_true and not is_of_question and is_claimed(answer, place, query) and replaces(answer, place, claims):
            return False
    return True


def _sentences_that_ask(question: str) -> str:
    """The question's sentences with a question mark, or its last: a text to be read before it holds the answer, too."""
    sentences = re.split(r"(?<=[a-z)]{3}[.!?])\s+|\n+", question)
    with_mark = " ".join(sentence for sentence in sentences if "?" in sentence)
    return with_mark or (question if len(question.split()) <= _QUESTION else sentences[-1])


@lru_cache(maxsize=20_000)
def _names(truth: str) -> tuple[Text, ...]:
    """The true value without an article at its start or a remark in brackets, and its other names."""
    name_alone = re.sub(r"^(?:an?|the)\s+(?=\w)", "", truth.strip(), flags=re.IGNORECASE)
    names = [name for name in map(read, (name_alone, re.sub(r"\s*\([^()]*\)\s*$", "", name_alone))) if name.words]
    words = {name.words for name in names}
    others = [
        name for group in _GROUPS if words & {read(member).words for member in group} for name in map(read, group)
    ]
    return tuple(dict.fromkeys([*names, *others]))


def _equal(answer: Text, name: Text) -> bool:
    """Whether the whole answer is the name, but for an article before it and the spaces between its words."""
    start = 1 if len(answer.words) > 1 and answer.words[0] in ("a", "an", "the") else 0
    words = answer.words[start:]
    if len(words) == len(name.words) and all(map(alike, words, name.words)):
        return True
    joined = "".join(words)
    return len(joined) > 4 and joined.isalpha() and joined == "".join(name.words)


def _is_as_written(answer: Text, place: Place, name: Text) -> bool:
    """Whether a short name in capitals stands there in capitals: `US` and `WHO` are no pronouns, `A` is no article."""
    is_short = len(name.words) == 1 and len(name.words[0]) <= 3 and name.raw.strip().isupper()
    is_article = name.words[:1] in (("a",), ("i",)) and answer.between(place[0], place[1]).startswith(" ")
    return not is_short or (answer.raw[slice(*answer.spans[place[0]])].isupper() and not is_article)


def _adjectives(answer: Text, name: Text) -> Iterator[Place]:
    """Where an adjective stands for the name: `the African continent` for Africa, `an Indian state` for India."""
    *others, last = name.words
    stem = last[:-1] if last[-1] in "aeiouy" else last
    forms = {stem + ending for ending in ("an", "ian", "ean", "ese", "i")} | {last + "n", last + "an"}
    if not name.raw[:1].isupper() or not last.isalpha() or last.endswith("er"):  # Nigerian is of Nigeria
        return
    for end in range(len(name.words), len(answer.words)):
        start = end - len(name.words)
        is_form = answer.words[end - 1] in forms and list(answer.words[start : end - 1]) == others
        if is_form and _KINDS.fullmatch(answer.words[end]):
            yield start, end


@lru_cache(maxsize=64)
def _by_first_word(names: frozenset[str]) -> dict[str, list[Text]]:
    index: dict[str, list[Text]] = {}
    for name in map(read, sorted(names)):
        if name.words:
            index.setdefault(name.words[0], []).append(name)
    return index


def _others(answer: Text, names: frozenset[str]) -> list[tuple[Text, Place]]:
    index = _by_first_word(names)
    candidates = {name for word in answer.words for name in index.get(word.removesuffix("'s"), ())}
    return [
        (name, place) for name in candidates for place in answer.places(name) if _is_as_written(answer, place, name)
    ]
