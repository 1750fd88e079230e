"""An answer as words that can be compared: numbers, dates, signs, units and scripts without spaces each in one form."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

_MARKS = "".join(chr(code) for code in range(0x300, 0x1100) if unicodedata.category(chr(code)).startswith("M"))
# Thai, Lao, Myanmar, Hangul, Khmer, kana, Han: there a character is a word.
SPACELESS = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3"
    "\U00020000-\U0003ffff"
)
_LETTER = rf"(?:(?![{SPACELESS}])[^\W\d_][{_MARKS}]*)"
_WORD = re.compile(
    rf"""
      [{SPACELESS}]
    | \d+(?:[:/]\d+)+                                               # 10:30, 1/2
    | \d+(?:st|nd|rd|th|s)\b
    | (?:(?<![\w.)\]])[-\u2212\u2013](?=\.?\d))?                         # -5, but not 10-18
      (?:\d{{1,3}}(?:,\d{{3}})+(?!\d)|\d+(?:,\d{{1,2}}(?!\d))?|(?<!\d)\.\d+)(?:\.\d+)*
    | (?<!\w){_LETTER}{{1,2}}[-\u2212](?=[\s.,;:!?)"'\u2019]|$)   # AB-, A-
    | {_LETTER}(?:{_LETTER}|\d|['\u2019\u2018`](?={_LETTER}))*(?:\++|[\#\u266f])?       # B12, O'Brien, C++, F#
    | [%\u00b0^+\#]
    """,
    re.VERBOSE | re.IGNORECASE,
)
_UP_TO_TWELVE = "zero one two three four five six seven eight nine ten eleven twelve"
_TEENS, _TENS_BEGIN = "thir four fif six seven eigh nine", "twen thir for fif six seven eigh nine"
_TENS = {f"{name}ty": value for name, value in zip(_TENS_BEGIN.split(), range(20, 100, 10), strict=True)}
_PLAIN = {
    **{name: value for value, name in enumerate(_UP_TO_TWELVE.split())},
    **{f"{name}teen": value for value, name in enumerate(_TEENS.split(), 13)},
    **_TENS,
}
_SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_ORDINAL_WORDS = "zeroth first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"
_ORDINALS = {
    **{name: value for value, name in enumerate(_ORDINAL_WORDS.split())},
    **{f"{name}th": value for name, value in _PLAIN.items() if name.endswith("teen")},
    **{f"{name[:-1]}ieth": value for name, value in _TENS.items()},
}
_ALL, _BIG = "|".join(sorted(_PLAIN, key=len, reverse=True)), "|".join(_SCALES)
_NUMERAL = re.compile(
    rf"\b(?:(?<!no )(?:{_ALL})(?! of\b)|an?(?= (?:{_BIG})\b)|\d[\d,]*(?:\.\d+)?(?=[ -](?:{_BIG})\b))"
    rf"(?:(?:[ -]|(?<=hundred)\ and\ |(?<=thousand)\ and\ |(?<=million)\ and\ )(?:{_ALL}|{_BIG})\b)*(?![\w+#])",
    re.IGNORECASE,
)
_ORDINAL = re.compile(
    rf"\b(?:({'|'.join(_TENS)})[ -])?({'|'.join(sorted(_ORDINALS, key=len, reverse=True))})\b", re.IGNORECASE
)
_MONTHS = "january february march april may june july august september october november december"
_MONTH = "|".join(f"{name}|{name[:3]}{'t?' if name[0] == 's' else ''}" for name in _MONTHS.split())
_DAY = r"(?P<d>[0-3]?\d)(?:st|nd|rd|th)?"
_DATES = [
    re.compile(rf"\b{_DAY}(?: of)? (?P<m>{_MONTH})\b\.?(?:,? (?P<y>\d{{3,4}})\b)?", re.IGNORECASE),
    re.compile(rf"\b(?P<m>{_MONTH})\b\.? {_DAY}\b(?![:.]\d)(?:,? (?P<y>\d{{3,4}})\b)?", re.IGNORECASE),
    re.compile(rf"\b(?P<m>{_MONTH})\b\.?(?:,| of)? (?P<y>\d{{4}})\b(?P<d>)", re.IGNORECASE),
]
_SUPERSCRIPTS = str.maketrans({mark: f"^{digit}" for digit, mark in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")})
_STROKES = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ı": "i", "æ": "ae", "œ": "oe", "ð": "d", "þ": "th"})
_SPELLED = (
    "percent=% degree=° degrees=° dollars=dollar euros=euro pounds=pound ii=2 iii=3 iv=4 vii=7 viii=8 ix=9 xii=12"
    " st=saint mt=mount bros=brothers hrs=hours kilometers=km kilometres=km"
)
_SPELLINGS = {word: sign for word, _, sign in (pair.partition("=") for pair in _SPELLED.split())}
_CURRENCIES = {"$": "dollar", "€": "euro", "£": "pound", "¥": "yen"}


@dataclass(frozen=True)
class Text:
    """`raw` is the text with its numbers and dates rewritten; word n is `words[n]`, and stands at `spans[n]` of it."""

    raw: str
    words: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]

    def before(self, word: int) -> str:
        return self.raw[: self.spans[word][0]]

    def between(self, first: int, second: int) -> str:
        """What stands between two words that follow each other: spaces, points, dashes."""
        return "." if first < 0 or second >= len(self.words) else self.raw[self.spans[first][1] : self.spans[second][0]]

    def behind(self, word: int) -> str:
        return self.raw[self.spans[word][1] :]

    def is_upper(self, word: int) -> bool:
        """Whether the word begins with a capital."""
        return self.raw[self.spans[word][0]].isupper()

    def places(self, phrase: Text) -> Iterator[tuple[int, int]]:
        """(first word, the one behind the last) wherever the phrase's words stand one after the other."""
        first = phrase.words[0] if phrase.words else None
        for start, word in enumerate(self.words):
            if first and (word[0] == first[0] or word[0] == phrase.raw[phrase.spans[0][0]]):
                end = self._end(start, phrase)
                if end:
                    yield start, end

    def _end(self, start: int, phrase: Text) -> int:
        """The word behind the phrase if it stands at `start`, else 0; either side may lack a middle initial."""
        at, last = start, len(phrase.words) - 1
        for n, word in enumerate(phrase.words):
            current = self.words[at] if at < len(self.words) else ""
            is_initial = at < len(self.words) - 1 and len(current) == 1 and self.between(at, at + 1).startswith(".")
            if 0 < n <= last and is_initial and current != word and not (n < last and current == word[0]):
                at, current = at + 1, self.words[at + 1]
            is_initial_of_phrase = len(word) == 1 and 0 < n < last and phrase.between(n, n + 1).startswith(".")
            stands_for = n < last and is_initial and current == word[0] and phrase.is_upper(n)
            if current and (alike(current, word) or stands_for):
                at += 1
            elif not is_initial_of_phrase:
                return 0
        return at


def alike(first: str, second: str) -> bool:
    """Whether both are one word, with or without an apostrophe or the s of a possessive."""
    if first == second or ("'" not in first and "'" not in second):
        return first == second
    return first.replace("'", "") == second.replace("'", "") or first.removesuffix("'s") == second.removesuffix("'s")


def stands_in(text: str, phrase: str) -> bool:
    """Whether the phrase's words stand in the text one after the other; a phrase of no words stands nowhere."""
    return next(read(text).places(read(phrase)), None) is not None


@lru_cache(maxsize=20_000)
def read(text: str) -> Text:
    """The text's words, folded: case, accents and strokes of letters make no difference, signs and points do."""
    text = re.sub("([½⅓⅔¼¾⅕⅛⅜⅝⅞])", r" \1", text).translate(_SUPERSCRIPTS)
    raw = unicodedata.normalize("NFKC", text).replace("\u2044", "/").replace("&", " and ").replace("♯", "#")
    initials = r"\b(?:[^\W\d_]\. ?)+[^\W\d_]\.(?= ?(?:[^\w.]|$|[A-Z][a-z]))"  # U.S.A. is USA, J. K. is JK
    raw = re.sub(initials, lambda match: re.sub(r"[. ]", "", match[0]), raw)
    raw = re.sub(r"\b(AB|[ABO])[ -](positive|negative)(?=[^\w\s]|$)", lambda m: m[1] + "-+"[m[2] == "positive"], raw)
    raw = re.sub(r"\b([A-Ga-g])[ -]sharp\b", r"\1#", raw)
    raw = re.sub(r"\bper cent\b", "percent", re.sub(r"\bminus (?=\.?\d|(?:" + _ALL + r")\b)", "-", raw))
    raw = _NUMERAL.sub(lambda match: _in_digits(match[0]), _ORDINAL.sub(_ordinal, raw))
    raw = re.sub(r"([$€£¥]) ?(\d[\d,]*(?:\.\d+)?)(?! dollar)", lambda m: f"{m[2]} {_CURRENCIES[m[1]]}", raw)
    raw = re.sub(r"\b(\d{4})-([01]\d)-([0-3]\d)\b", lambda m: _date(m[1], m[2], m[3]) or m[0], raw)
    for pattern in _DATES:
        raw = pattern.sub(lambda m: _date(m["y"], m["m"], m["d"]) or m[0], raw)
    matches = list(_WORD.finditer(raw))
    return Text(raw, tuple(folded(match[0]) for match in matches), tuple(match.span() for match in matches))


def folded(word: str) -> str:
    """One written word in the form in which it is compared."""
    number = re.fullmatch(r"([-\u2212\u2013]?)([\d,]*\d)?((?:\.\d+)*)", word)
    if number:
        whole, points = number[2] or "0", number[3]
        whole = re.sub(r",(?=\d{3})", "", whole) if re.fullmatch(r"\d+(,\d{3})+", whole) else whole.replace(",", ".")
        whole = str(int(whole)) if whole.isdecimal() else whole
        # 100.0 is 100, but 3.10 is no 3.1: a version, a section.
        return ("-" if number[1] else "") + re.sub(r"^(\d+)\.0+$", r"\1", whole + points)
    letters = unicodedata.normalize("NFD", word.casefold().translate(_STROKES))
    letters = re.sub(r"(?<=[^\W\d_])[\u0300-\u036f]+", "", letters)
    letters = re.sub("[\u2018\u2019`]", "'", unicodedata.normalize("NFC", letters)).replace("\u2212", "-")
    return _SPELLINGS.get(letters, letters)


def _ordinal(match: re.Match[str]) -> str:
    value = _TENS.get((match[1] or "").lower(), 0) + _ORDINALS[match[2].lower()]
    ending = {1: "st", 2: "nd", 3: "rd"}.get(value % 10 if value // 10 != 1 else 0, "th")
    return f"{value}{ending}"


def _in_digits(phrase: str) -> str:
    """`two hundred and five`, `1.5 million`, `nineteen eighty-four` (a year) and `one two` in digits."""
    numbers: list[Decimal] = []
    total, current = Decimal(0), None
    for word in re.split(r"[ -]+", phrase.lower()):
        value = _PLAIN.get(word)
        if word in _SCALES and current is not None:
            scaled = current * _SCALES[word]
            total, current = (total, scaled) if word == "hundred" else (total + scaled, Decimal(0))
        elif word in ("a", "an"):
            current = Decimal(1)
        elif value is None:
            current = current if word == "and" or word in _SCALES else Decimal(word.replace(",", ""))
        elif (
            current is None
            or (current % 100 == 0 and (current or total))
            or (current % 100 >= 20 and not current % 10 and 0 < value < 10)
        ):
            current = (current or 0) + Decimal(value)
        elif 10 <= current < 100 and value >= 10:
            current = current * 100 + value
        else:
            numbers, total, current = [*numbers, total + current], Decimal(0), Decimal(value)
    numbers.append(total + (current or 0))
    return " ".join(f"{number.normalize():f}" for number in numbers)


def _date(year: str | None, month: str, day: str | None) -> str:
    """The date as year, month, day: so its year and its month are words that follow each other."""
    names = [name for n, name in enumerate(_MONTHS.split(), 1) if name[:3] == month[:3].lower() or f"{n:02d}" == month]
    return " ".join([*([year] if year else []), *names[:1], *([str(int(day))] if day else [])]) if names else ""
