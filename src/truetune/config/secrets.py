"""No secret reaches a file, a page or a message: it is read from the environment where it is used."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from truetune.errors import UserError

VARIABLE = re.compile(r"(^|_)(TOKEN|KEY|APIKEY|SECRET|PASSWORD|PASSWD|CREDENTIALS?)$")
KEY = re.compile(
    r"(^|[._])((api|auth|access|hf|hub|private|secret)_?(key|token)|token|secret|password|passwd|credentials?)$", re.I
)
VALUE = re.compile(r"\b(hf_|sk-|ghp_|github_pat_|xox[abp]-|AKIA)[\w-]{16,}")
NAMED = re.compile(r"\bapi_key_variable'?\s*:\s*'?(\w+)")  # variables that a setting of ours names
FROM_ENVIRONMENT = re.compile(r"\$\{\s*oc\.env\s*:\s*(\w+)")
SHORTEST = 8  # characters; a shorter value would be found in innocent words

_named: set[str] = set()


def refuse(overrides: Sequence[str]) -> None:
    """What is typed is written to .hydra and run.json: raises UserError for a secret, without repeating it."""
    for word in overrides:
        key, _, value = word.partition("=")
        last_part = key.rpartition(".")[2]
        has_secret_name = (KEY.search(key) or VARIABLE.search(last_part)) and value not in ("", "null", "???")
        has_secret_name = has_secret_name and not key.lstrip("+").startswith("gate.")  # a metric per token is no secret
        if (has_secret_name or VALUE.search(value) or hide(value) != value) and not FROM_ENVIRONMENT.search(value):
            name = re.sub(r"\W+", "_", last_part.lstrip("+")).upper()
            raise UserError(
                f"{key}: looks like a secret, and what is typed is written to the run folder; "
                f"put it into the environment and type {key}='${{oc.env:{name}}}'"
            )


def note(text: str) -> None:
    """Treats the environment variables that an unresolved configuration reads, except ours, as secrets from here on."""
    names = FROM_ENVIRONMENT.findall(text) + NAMED.findall(text)
    _named.update(name for name in names if not name.startswith("TRUETUNE_"))


def hide(value: Any) -> Any:
    """The value with every secret in it replaced by where it comes from; keys, lists and mappings are kept."""
    if isinstance(value, str):
        for name, secret in _secrets():
            value = value.replace(secret, f"${{oc.env:{name}}}")
        return value
    if isinstance(value, Mapping):
        return {key: hide(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [hide(inner) for inner in value]
    # A secret of digits alone is read as a number.
    return next((f"${{oc.env:{name}}}" for name, secret in _secrets() if str(value) == secret), value)


def _secrets() -> list[tuple[str, str]]:
    """The secret variables and their values, the longest first, so that none is cut by one that it contains."""
    pairs = [(n, v) for n, v in os.environ.items() if (n in _named or VARIABLE.search(n)) and len(v) >= SHORTEST]
    return sorted(pairs, key=lambda pair: -len(pair[1]))
