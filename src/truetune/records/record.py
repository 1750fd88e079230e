"""What a run leaves on disk: run.json and the items, written whole or not at all."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np

from truetune.errors import UserError
from truetune.records.earlier import with_names_of_today
from truetune.records.files import write_atomic
from truetune.records.run_folder import RECORD
from truetune.scoring.estimates import Estimate
from truetune.scoring.item import Item

SCHEMA = 1
KEYS = (
    *("schema", "truetune_version", "git_sha", "created", "seconds", "command", "config", "versions", "machine"),
    *("status", "base", "final", "delta", "history", "files"),
)


def write_items(path: Path, items: Iterable[Item]) -> None:
    """Writes one JSON object per line, in the order in which the questions were asked."""
    write_atomic(path, "".join(_dumps(asdict(item)) + "\n" for item in items))


def read_items(path: Path) -> list[Item]:
    """Reads the items of a file; fields that this version does not know are ignored, so a newer writer can add some."""
    items: list[Item] = []
    # Not str.splitlines: an answer may hold U+2028, which JSON leaves as it is.
    for number, line in enumerate(_read(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            items.append(item_from_json(json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path}, line {number}: not an item of a truetune measurement ({error!r})") from None
    return items


def items_if_any(path: Path) -> list[Item]:
    return read_items(path) if path.exists() else []


def item_from_json(row: dict[str, Any]) -> Item:
    return Item(
        id=str(row["id"]),
        question=str(row["question"]),
        answers=tuple(str(answer) for answer in row["answers"]),
        answer=str(row["answer"]),
        outcome=str(row["outcome"]),
        kind=tuple(str(kind) for kind in row.get("kind") or ()),
        confidence=row.get("confidence"),
        population=str(row.get("population", "")),
        cluster=str(row.get("cluster", "")),
        domain=str(row.get("domain", "")),
        forms={str(form): str(outcome) for form, outcome in (row.get("forms") or {}).items()},
        wrong=tuple(str(answer) for answer in row.get("wrong") or ()),
    )


def write_run(run_dir: Path, run: dict[str, Any]) -> None:
    """Writes run.json. It is a public contract: a missing key is our mistake and is refused here."""
    if missing_keys := [key for key in KEYS if key not in run]:
        raise ValueError(f"run.json needs the keys {missing_keys}")
    write_atomic(run_dir / RECORD, _dumps(run, indent=1) + "\n")


def files_of(run_dir: Path) -> list[str]:
    """The relative paths that `files` of run.json lists, without locks and files that are still being written."""
    files = (path for path in run_dir.rglob("*") if path.is_file() and not path.name.startswith("."))
    return sorted(str(path.relative_to(run_dir)) for path in files)


def read_run(run_dir: Path) -> dict[str, Any]:
    """What run.json holds, under today's names. Metrics stay plain dictionaries: what is on disk is the contract."""
    path = run_dir / RECORD
    try:
        content: object = json.loads(_read(path))
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}); was the file edited or cut short?") from None
    run = cast("dict[str, Any]", content) if isinstance(content, dict) else {}
    schema = run.get("schema")
    if not isinstance(schema, int):
        raise UserError(f"{path} is not the record of a truetune run: it has no schema number")
    if schema > SCHEMA:
        newer = f"{run.get('truetune_version')}, schema {schema}; this one reads up to {SCHEMA}"
        raise UserError(f"{path} was made by a newer truetune ({newer}). Try: pip install --upgrade truetune")
    if missing_keys := [key for key in KEYS if key not in run]:
        raise UserError(f"{path} lacks {', '.join(missing_keys)}: it is not a whole record of a run")
    return with_names_of_today(run)


def metrics_to_json(metrics: dict[str, Estimate]) -> dict[str, dict[str, Any]]:
    """The `base`, `final` and `delta` blocks of run.json."""
    return {name: estimate.to_json() for name, estimate in metrics.items()}


def metrics_from_json(block: dict[str, Any]) -> dict[str, Estimate]:
    """The inverse of `metrics_to_json`."""
    return {name: Estimate.from_json(row) for name, row in block.items()}


def has_base(config: Mapping[str, Any]) -> bool:
    """Whether there is a base to compare with: a run has its own, and an audit has one if its baseline has a path."""
    return config.get("baseline", {}).get("name_or_path", "") is not None


def leaves(config: Mapping[str, Any], prefix: str = "", *, empty: bool = False) -> Iterator[tuple[str, Any]]:
    """Every dotted key with its value. A list is a value; a mapping is none, but if `empty` is set, an empty one is."""
    for name, value in config.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and (value or not empty):
            yield from leaves(value, f"{key}.", empty=empty)  # pyright: ignore[reportUnknownArgumentType]
        else:
            yield key, value


def changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The keys whose values differ, with the old and the new value; None where there is no such key."""
    old, new = dict(leaves(then)), dict(leaves(now))
    keys = [key for key in [*new, *old] if key != "resume" and not key.startswith("hydra.")]
    return {key: (old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: {path.parent} is not a finished truetune run") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None


def _dumps(value: Any, indent: int | None = None) -> str:
    return json.dumps(_plain(value), indent=indent, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    """The value for JSON, which knows neither NaN nor numpy: null and plain numbers instead."""
    if isinstance(value, Estimate):
        return value.to_json()
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in cast("dict[Any, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in cast("list[Any]", value)]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
