"""Several models in one audit: `truetune-measure -m model.name_or_path=A,B` or `models=glob(out/checkpoint-*)`."""

from __future__ import annotations

import os
import re
from collections import Counter
from glob import glob
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, Override
from hydra.errors import OverrideParseException

from truetune.commands.sweep import escaped
from truetune.config import compose
from truetune.errors import UserError, first_line
from truetune.models.adapter import last_checkpoint

KEYS = ("models", "model.name_or_path")
MODEL_KEYS = ("model.name_or_path", "model.file")  # these keys may have several values
HOW = "models=[A,B] or models=glob(out/checkpoint-*)"


def expanded(words: list[str]) -> list[str]:
    """Replaces `models=...` by `-m model.name_or_path=A,B`, a glob's in natural order; all else stays as it is.

    Raises UserError for what cannot be compared, before anything is read.
    """
    requests = [word for word in words if word.startswith("models=") or re.match(r"model\.name_or_path=glob\(", word)]
    if len(requests) > 1 or (requests and any(word.startswith(MODEL_KEYS) and word not in requests for word in words)):
        raise UserError(f"{requests[0]}: the models are named twice; leave models=... or model.name_or_path=... out")
    for word in requests:
        flags = [] if compose.is_sweep(compose.parse(words)) else ["-m"]
        values = ",".join(escaped(path) for path in _listed(word))
        words = [*flags, *(each if each != word else f"model.name_or_path={values}" for each in words)]
    arguments = compose.parse(words)
    if compose.is_sweep(arguments) and not (arguments.help or arguments.hydra_help):
        _check(arguments.overrides)
    return words


def _listed(word: str) -> list[str]:
    """The models that a word names."""
    override = _parsed(word)
    value = override.value()
    if isinstance(value, Glob):
        exclusions = {path for pattern in value.exclude for path in glob(os.path.expanduser(pattern))}
        paths = [path for pattern in value.include for path in glob(os.path.expanduser(pattern))]
        paths = sorted((path for path in paths if path not in exclusions), key=_natural)
        if not paths:
            raise UserError(f"{word}: no such folder; nothing here ({os.getcwd()}) has such a name")
        return paths
    return [_text(item) for item in value] if isinstance(value, list) else _values(override)


def _natural(path: str) -> list[tuple[int, str]]:
    """A sort key that puts checkpoint-2 before checkpoint-10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path)]


def _parsed(word: str) -> Override:
    try:
        return OverridesParser.create().parse_overrides([word])[0]
    except OverrideParseException as error:
        problem = f"cannot be read as key=value ({first_line(error)}); quote special characters"
        raise UserError(f"{word}: {problem}") from None


def _check(words: list[str]) -> None:
    """Raises UserError unless at least two models, each once, and a base are named, and only the model varies.

    All models are asked the same questions.
    """
    overrides = [*map(_parsed, words)]
    for override in overrides:
        if override.is_sweep_override() and override.key_or_group not in MODEL_KEYS:
            raise UserError(
                f"{override.input_line}: models are compared on the same questions, so only they may vary; type {HOW}"
            )
    models = [name for each in overrides if each.key_or_group in MODEL_KEYS for name in _values(each) if name]
    if len(models) < 2:
        mention = f" ({models[0]})" if models else ""
        raise UserError(f"-m compares models, and there are fewer than two{mention}; type {HOW}, or leave -m out")
    folders = [os.path.realpath(last_checkpoint(Path(name)) or name) for name in models]
    duplicate, count = Counter(folders).most_common(1)[0]
    if count > 1:
        names = " and ".join(name for name, folder in zip(models, folders, strict=True) if folder == duplicate)
        raise UserError(f"{names}: one model twice; name each once")
    if not any(re.match(r"\+*baseline\.name_or_path=(?!null$).", word) for word in words):
        raise UserError("several models are compared by what each gained and lost; type baseline.name_or_path=BASE")


def _values(override: Override) -> list[str]:
    value = override.value()
    return [_text(item) for item in (value.list if isinstance(value, ChoiceSweep) else [value])]


def _text(value: Any) -> str:
    """The value as text, without the quotes of Hydra's grammar."""
    return str(getattr(value, "text", value))
