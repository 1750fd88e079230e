"""Pages and tables made from what runs recorded; no model is ever touched."""

from pathlib import Path

from truetune.atomic import remove_torn
from truetune.report import run_report, sweep_report


def render(folder: Path) -> Path:
    """The page of a run (a folder with run.json) or of a sweep (anything else)."""
    if not (folder / "run.json").exists():
        return sweep_report.render(folder)
    remove_torn(folder, ".report.html.*")
    return run_report.render(folder)
