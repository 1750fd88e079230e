"""Compares two models by the logs that other tools wrote of them; no model is loaded."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from rich.console import Console

from truetune.data.eval_logs.log import FILES
from truetune.data.eval_logs.pair import tasks
from truetune.data.eval_logs.read import read_logs
from truetune.errors import UserError
from truetune.report import logs_page
from truetune.report.logs import comparisons, print_comparisons


def compare(first: Path, second: Path, out: Path | None = None) -> Path:
    """Prints the table and returns the page; `out` is a new folder, below logs/compare unless it is named."""
    for path in (first, second):
        if not path.exists():
            raise UserError(f"{path}: there is no such log; {FILES}")
    now = datetime.now()
    if out is None:
        out = Path(os.environ.get("TRUETUNE_LOGS", "logs"), "compare", f"{now:%Y-%m-%d_%H-%M-%S-%f}")
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: exists and is not empty; name a new folder")
    shared_tasks, notes = tasks(read_logs(first), read_logs(second))
    table = comparisons(shared_tasks)
    page = logs_page.write(out, shared_tasks, table, notes, f"{now:%Y-%m-%d %H:%M}")
    for name, log in (("A", shared_tasks[0].first), ("B", shared_tasks[0].second)):
        print(f"{name}: {log.model or log.path}")
    for note in notes:
        print(f"note: {note}")
    print_comparisons(table, Console())
    return page
