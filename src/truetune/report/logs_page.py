"""Writes the folder of a comparison of logs: the page, compare.json and every flip."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from truetune import __version__
from truetune.data.eval_logs.log import Log
from truetune.data.eval_logs.pair import Task
from truetune.records.files import replacing, write_atomic
from truetune.records.run_folder import REPORT
from truetune.report.logs import Comparison, flips, items, verdict
from truetune.report.page import write_page
from truetune.scoring.item import Item

RECORD, FLIPS = "compare.json", "flips.jsonl"
SHOWN = 20  # flips of each sort on the page
LONGEST = 400  # characters of a question there


def write(out: Path, tasks: Sequence[Task], table: Sequence[Comparison], notes: Sequence[str], created: str) -> Path:
    """Writes the folder whole or not at all; returns its page."""
    out.parent.mkdir(parents=True, exist_ok=True)
    sides: dict[str, dict[str, Any]] = {"a": _side([t.first for t in tasks]), "b": _side([t.second for t in tasks])}
    record = {
        "schema": 1,
        "truetune_version": __version__,
        "created": created,
        **sides,
        "verdict": verdict(table),
        "notes": list(notes),
        "metrics": [comparison.to_json() for comparison in table],
    }
    with replacing(out, manifest=False) as folder:
        write_atomic(folder / RECORD, json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        rows = (json.dumps(row, ensure_ascii=False) + "\n" for row in flips(table))
        write_atomic(folder / FLIPS, "".join(rows))
        write_page(
            folder / REPORT,
            "logs.html",
            title="comparison of two logs",
            verdict=verdict(table),
            warning="",
            notes=notes,
            facts=[
                *(f"{name.upper()}: {side['model']}" for name, side in sides.items()),
                created,
                f"truetune {__version__}",
            ],
            table=table,
            files=[(name.upper(), path) for name, side in sides.items() for path in side["files"]],
            sorts=list(_sorts(table)),
        )
    return out / REPORT


def _side(logs: Sequence[Log]) -> dict[str, Any]:
    models = list(dict.fromkeys(log.model for log in logs if log.model))
    return {"model": ", ".join(models), "files": [str(log.path) for log in logs]}


def _sorts(table: Sequence[Comparison]) -> Iterator[tuple[str, int, list[list[Item]]]]:
    """What each metric lost and gained, with the first examples."""
    for comparison in table:
        for sort, pairs in (("only A is right", comparison.lost), ("only B is right", comparison.gained)):
            if pairs:
                heading = f"{comparison.task} {comparison.row.label}, {sort}"
                yield heading, len(pairs), [items(pair, comparison, LONGEST) for pair in pairs[:SHOWN]]
