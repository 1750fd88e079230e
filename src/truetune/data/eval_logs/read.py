"""Reads a log, or a folder of logs, into one log for each task."""

from __future__ import annotations

import re
from pathlib import Path

from truetune.data.eval_logs import inspect_eval, lm_eval
from truetune.data.eval_logs.log import FILES, Log
from truetune.data.rows.row import named
from truetune.errors import UserError

OF_INSPECT = re.compile(r"\d{4}-\d\d-\d\dT.+\.(json|eval)")  # as inspect_ai names its logs


def read_logs(place: Path) -> dict[str, Log]:
    """Logs by task; of several of one task and model, the newest. Raises UserError if there is none."""
    if not place.is_dir():
        log = _read(place)
        return {log.task: log}
    files = [path for path in sorted(place.rglob("*")) if _is_log(path)]
    if not files:
        raise UserError(f"{place}: the folder holds no logs; {FILES}")
    logs: dict[str, Log] = {}
    for path in sorted(files, key=lambda path: (_date(path), path.name)):  # the newest last
        log = _read(path)
        older_log = logs.get(log.task)
        if older_log and older_log.model != log.model:
            models = named([older_log.model, log.model])
            raise UserError(f"{place}: holds logs of several models ({models}) for {log.task}; name one of them")
        if older_log:
            log.notes.append(f"{log.task}: {place} holds several logs; the newest is read, {path.name}")
        logs[log.task] = log
    return logs


def _date(path: Path) -> str:
    """The date in the file's name; empty, which is older than all dates, where it has none."""
    return lm_eval.date(path) or (path.name if OF_INSPECT.fullmatch(path.name) else "")


def _is_log(path: Path) -> bool:
    return path.is_file() and (
        (path.name.startswith("samples_") and path.suffix == ".jsonl") or bool(OF_INSPECT.fullmatch(path.name))
    )


def _read(path: Path) -> Log:
    log = inspect_eval.read(path) if path.suffix in (".json", ".eval") else lm_eval.read(path)
    if not any(sample.values for sample in log.samples):
        why = "; ".join(log.notes) or f"metrics: {named([*log.no_numbers])}"
        raise UserError(f"{path}: no document has a metric that is a number ({why})")
    return log
