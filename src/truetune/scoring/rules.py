"""Whether an answer does what an instruction asked, where a rule can tell: form, sums, copying, no needless refusal."""

import json
import re
from collections.abc import Callable

_REFUSAL = re.compile(
    r"\b(i('m| am) (so )?(sorry|unable|not able)|i (can('?t|not)|won'?t|do(n't| not) (have|know|feel))|i must decline"
    r"|as an ai\b|against my|not (appropriate|comfortable)|i apologi[sz]e)",
    re.IGNORECASE,
)
_MARK = re.compile(r"^\s*(?:[-*+•]|\(?\d{1,2}[.):])\s+", re.MULTILINE)  # what stands before an item of a list


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+(?:['’.-][^\W_]+)*", text.casefold())


def _numbers(text: str) -> list[int]:
    return [int(number.replace(",", "")) for number in re.findall(r"-?\d+(?:,\d{3})*", text)]


def _states(answer: str, phrase: str) -> bool:
    return f" {' '.join(_words(phrase))} " in f" {' '.join(_words(answer))} "


def _json_keys(answer: str, keys: str) -> bool:
    """Whether the first object in the answer, which may stand between other words, has these keys and no others."""
    start = answer.find("{")
    try:
        value, _ = json.JSONDecoder().raw_decode(answer[start:] if start >= 0 else "")
    except ValueError:
        return False
    return isinstance(value, dict) and set(map(str, value)) == set(keys.split())


def _items(answer: str, count: str) -> bool:
    """Whether it has so many marked lines; without marks so many lines, or parts between commas of a single line."""
    lines = [line for line in answer.splitlines() if line.strip()]
    marked_lines = [line for line in lines if _MARK.match(line)]
    if not marked_lines and len(lines) == 1:
        lines = re.split(r",\s*(?:and\s+)?|\s+and\s+", lines[0])
    return len(marked_lines or lines) == int(count)


def _number(answer: str, numbers: str) -> bool:
    """Whether the answer ends in the first number, the true result, or adds only that to the others, the question's."""
    stated_numbers, (result, *operands) = _numbers(answer), map(int, numbers.split())
    return bool(stated_numbers) and (stated_numbers[-1] == result or set(stated_numbers) - set(operands) == {result})


def _picks(answer: str, choices: str) -> bool:
    """Whether the first sentence that states a choice states the right one, and others only behind `not` or `than`."""
    right, *others = choices.split("|")
    text = re.sub(r"[\"“][^\"”]{20,}", " ", answer)  # a long quotation is the question's own text
    sentences = re.split(r"(?<=[.!?])\s+|\n", text)
    claim = next((each for each in sentences if any(_states(each, choice) for choice in choices.split("|"))), "")
    parts = re.split(r"\b(is not|does not|isn't|doesn't|not|than|unlike|while)\b", claim, maxsplit=1)
    is_denied = len(parts) > 1 and parts[1] not in ("not", "than", "unlike", "while")
    return _states(parts[0], right) and not is_denied and not any(_states(parts[0], other) for other in others)


def _helps(answer: str, rest: str) -> bool:
    """Whether it has at least so many words, one of which begins like a word of the topic."""
    least, _, topic = rest.partition(" ")
    words = _words(answer)
    is_on_topic = any(word.startswith(tuple(topic.casefold().split("|"))) for word in words)
    return len(words) >= int(least) and is_on_topic


# The first word of a rule names its check, which is given the answer and the rest of the rule.
RULES: dict[str, Callable[[str, str], bool]] = {
    "words": lambda answer, count: len(_words(answer)) == int(count),
    "words_at_most": lambda answer, count: 0 < len(_words(answer)) <= int(count),
    "sentences": lambda answer, count: len(re.findall(r"[.!?]+(?=\s|$)", _MARK.sub("", answer))) == int(count),
    "capitals": lambda answer, word: bool(re.search(rf"\b{word.upper()}\b", answer)),
    "copies": lambda answer, text: answer.strip("\"'“”‘’` ") == text,
    "states": _states,
    "uses": lambda answer, words: set(words.casefold().split()) <= set(_words(answer)) and len(_words(answer)) > 3,
    "begins": lambda answer, phrase: f"{' '.join(_words(answer))} ".startswith(f"{' '.join(_words(phrase))} "),
    "ends": lambda answer, phrase: f" {' '.join(_words(answer))}".endswith(f" {' '.join(_words(phrase))}"),
    "counts": lambda answer, numbers: _numbers(_MARK.sub("", answer)) == list(map(int, numbers.split())),
    "json_keys": _json_keys,
    "items": _items,
    "number": _number,
    "picks": _picks,
    "helps": _helps,
}


def meets(answer: str, rule: str) -> bool:
    """Whether the answer meets the rule; one that begins as a refusal meets none. KeyError if there is no such rule."""
    name, _, rest = rule.partition(" ")
    check, refuses = RULES[name], _REFUSAL.search(answer.strip()[:80])
    return not refuses and check(answer.strip(), rest)
