"""Refuses a configuration that holds what rules.py does not allow, or what nothing reads."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, reduce
from typing import Any

from pydantic import TypeAdapter, ValidationError

from truetune.config.values import RULES
from truetune.errors import UserError
from truetune.records.record import leaves

# What a run reads by name; all else is checked by the signature of the class that takes it.
REQUIRED = (
    "seed",
    "data.batch_size",
    "data.over_long",
    "data.num_workers",
    "model.pretraining.steps",
    "model.pretraining.warmup_steps",
    "optimizer.lr",
    "trainer.max_epochs",
    "trainer.accumulate_grad_batches",
    *(key for key in RULES if key.startswith("extras.")),
    "paths.cache_dir",
)
OPEN = ("callbacks", "logger", "trainer")  # takes any key that the class behind it takes
# Each key of theirs is an object to make.
COLLECTIONS = ("objective", "probe", "curation", "adaptation", "decoding", "callbacks", "logger")


@cache
def _adapter(pattern: str) -> TypeAdapter[Any]:
    return TypeAdapter(RULES[pattern])


@cache
def _expressions() -> list[tuple[re.Pattern[str], str]]:
    """Exact keys first, then the patterns in the order written."""
    ordered = sorted(RULES, key=lambda pattern: "*" in pattern)
    return [(re.compile(re.escape(p).replace(r"\*", r"[^.]+")), p) for p in ordered]


def rule_for(key: str) -> str | None:
    """The pattern of RULES that a key falls under."""
    if key.split(".")[0] in OPEN and key not in RULES:
        return f"{key.split('.')[0]}.*"
    return next((pattern for expression, pattern in _expressions() if expression.fullmatch(key)), None)


def check(config: Mapping[str, Any], *, needs_loader: bool = True) -> None:
    """Raises UserError naming the first key whose value is not allowed, or that nothing reads."""
    foreign = [key for key, target in _targets(config) if not target.startswith(("truetune.", "torch.", "lightning."))]
    for key, value in leaves(config, empty=True):
        pattern = None if _value_above(key) else rule_for(key)
        if pattern is None:
            if value == {} or any(key.startswith(f"{node}.") for node in foreign):
                continue
            raise UserError(_not_a_key(key, value))
        try:
            _adapter(pattern).validate_python(value)
        except ValidationError as error:
            raise UserError(f"{key}={_shown(value)}: {_reason(error)}") from None
    for key in REQUIRED:
        *parents, name = key.split(".")
        node = reduce(lambda found, parent: found.get(parent, {}), parents, dict(config))
        if node and name not in node and (needs_loader or parents != ["data"]):
            raise UserError(f"{key} is missing, and a run reads it; type {key}=...")
    for group in COLLECTIONS:
        for name, node in (config.get(group) or {}).items():
            if not isinstance(node, Mapping) or "_target_" not in node:
                raise UserError(f"{group}.{name}: names no class; type +{group}.{name}._target_=...")


def _value_above(key: str) -> str | None:
    """The key in RULES, whose value is no mapping, that this key lies in."""
    parts = key.split(".")
    return next((above for end in range(1, len(parts)) if (above := ".".join(parts[:end])) in RULES), None)


def _not_a_key(key: str, value: Any) -> str:
    if parent := _value_above(key):
        return f"{parent}: should be a value, found keys ({key}={_shown(value)}); type {parent}=..."
    inner = [pattern for pattern in RULES if pattern.startswith(f"{key}.")]
    if inner:
        return f"{key}={_shown(value)}: should hold keys of its own; set one of them, such as {inner[0]}"
    return f"{key}: no such key{near(key, [p for p in RULES if '*' not in p])}"


def _targets(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in leaves(config):
        if key.endswith("._target_"):
            yield key.removesuffix("._target_"), str(value)


def near(word: str, known: Sequence[str]) -> str:
    """`; did you mean a, b?` or nothing."""
    found = difflib.get_close_matches(word, known, n=3, cutoff=0.6)
    return f"; did you mean {', '.join(found)}?" if found else ""


def _shown(value: Any) -> str:
    return "" if value is None else str(value)[:80]


def _reason(error: ValidationError) -> str:
    """The library's own words, one line; of a union's complaints, each once."""
    words = dict.fromkeys(problem["msg"].replace("Input should", "should") for problem in error.errors())
    return " or ".join(words)
