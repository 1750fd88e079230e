"""Pages and tables made from what runs recorded; no model is ever touched."""

from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

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
        remove_torn(folder)  # of a run that was killed while it wrote its record or its page
    return run_page.render(folder)
