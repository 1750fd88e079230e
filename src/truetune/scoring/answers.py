"""How answers are compared as published benchmarks do: SQuAD's match and overlap, ROUGE-L, GSM8K's last number."""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal

from truetune.scoring.normalisation import SPACELESS

_PUNCTUATION = dict.fromkeys(map(ord, string.punctuation))
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NUMBER = r"(?:(?<!\d)-)?(?:\d[\d,]*(?:\.\d+)?|\.\d+)"
_MARKED = rf"####\s*\$?({_NUMBER})"


def normalise(text: str) -> str:
    """The text by SQuAD's rule, with curly marks stripped like straight ones; as there, 3.5 equals 35 and -5 equals 5.

    A letter with its accent is the same whether it is written as one character or as two (Unicode's NFC).
    """
    letters = unicodedata.normalize("NFC", text).lower().translate(_PUNCTUATION)
    if not letters.isascii():
        letters = "".join(letter for letter in letters if not unicodedata.category(letter).startswith("P"))
        letters = unicodedata.normalize("NFC", letters)
    return " ".join(_ARTICLES.sub(" ", letters).split())


def exact_match(answer: str, answers: Sequence[str]) -> bool:
    """True if any alias matches; an answer of no words matches nothing.

    Where the true answers end in a number behind `####`, that number decides, not the way to it.
    """
    if end_in_numbers(answers):
        number = final_number(answer)
        return number is not None and number in map(final_number, answers)
    return any(key(answer) == key(alias) for alias in answers if key(answer))


def token_f1(answer: str, answers: Sequence[str]) -> float:
    """SQuAD's overlap of words with the nearest of the true answers (Rajpurkar et al. 2016).

    2 * shared / all words, the harmonic mean of precision and recall; in scripts without spaces, characters are words.
    """
    scores: list[float] = []
    for alias in answers:
        words, true_words = _words(answer), _words(alias)
        shared = sum((Counter(words) & Counter(true_words)).values())
        scores.append(2 * shared / (len(words) + len(true_words)) if shared else float(words == true_words))
    return max(scores, default=0.0)


def rouge_l(answer: str, answers: Sequence[str]) -> float:
    """F1 of the longest common subsequence of words with the nearest of the true answers (ROUGE-L, Lin 2004)."""
    scores: list[float] = []
    for alias in answers:
        words, true_words = _words(answer), _words(alias)
        longest = [0] * (len(true_words) + 1)  # common to the words so far and the first n of `true_words`
        for word in words:
            previous = longest.copy()
            for n, other in enumerate(true_words):
                longest[n + 1] = previous[n] + 1 if word == other else max(previous[n + 1], longest[n])
        scores.append(2 * longest[-1] / (len(words) + len(true_words)) if longest[-1] else float(words == true_words))
    return max(scores, default=0.0)


def final_number(text: str) -> Decimal | None:
    """The number behind `####`, as GSM8K marks a result (Cobbe et al. 2021), or else the last one; 10-18 ends in 18."""
    match, numbers = re.search(_MARKED, text), re.findall(_NUMBER, text)
    last = match[1] if match else numbers[-1] if numbers else None
    return None if last is None else Decimal(last.replace(",", ""))


def end_in_numbers(answers: Sequence[str]) -> bool:
    """Whether each true answer is GSM8K's: a working, then `####` and its result."""
    return bool(answers) and all(re.search(rf"{_MARKED}\s*$", answer) for answer in answers)


def key(text: str) -> str:
    """The answer in the form to compare: `A` (a choice) and `+`, which normalising would erase, stay as they are."""
    return normalise(text) or text.strip().lower()


def _words(text: str) -> list[str]:
    return re.findall(rf"[{SPACELESS}]|[^\s{SPACELESS}]+", key(text))
