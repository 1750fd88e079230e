"""Makes pages and tables from what runs recorded, and holds limits against it; no model is loaded."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from truetune.errors import GateBroken, GateUndecided, UserError
from truetune.records.files import LOCK, remove_torn
from truetune.records.record import read_run
from truetune.records.run_folder import RECORD
from truetune.report import run_page, sweep_page


def render(folder: Path) -> Path:
    """The page of a run (a folder with run.json) or of a sweep (anything else)."""
    if not (folder / RECORD).exists():
        return sweep_page.render(folder)
    read_run(folder)  # a folder that is no run's is refused before a lock is left in it
    with suppress(Timeout, OSError), FileLock(folder / LOCK).acquire(timeout=0):
        remove_torn(folder)  # left by a run that was killed while it wrote its record or its page
    return run_page.render(folder)


def judge(folders: Sequence[Path], words: Sequence[str]) -> None:
    """Holds each run to the limits typed; raises as `gate.judge` does, for the worst result of all runs."""
    from omegaconf import OmegaConf

    from truetune.commands import gate
    from truetune.commands.launch import CONF
    from truetune.config import compose, instantiation
    from truetune.config.gate import Gate

    for folder in folders:
        read_run(folder)
    cfg = compose.compose(CONF, list(words), compose.parse(list(words)), "measure")
    node: Any = OmegaConf.to_container(cfg.gate, resolve=True)
    limits: Gate = instantiation.make(node, "gate")
    if not folders or not limits.typed():
        raise UserError("truetune-report RUN_DIR gate.max.lost_rate=0.05: a run and a limit are needed")
    results: list[GateBroken | GateUndecided] = []
    for folder in folders:
        try:
            gate.judge(folder, limits)
        except (GateBroken, GateUndecided) as result:
            results.append(result)
    if results:
        raise min(results, key=lambda result: result.exit_code)  # broken before undecided
