"""Pages and tables made from what runs recorded; no model is ever touched."""

from pathlib import Path

from truetune.report import run_report, sweep_report


def render(folder: Path) -> Path:
    """The page of a run (a folder with run.json) or of a sweep (anything else)."""
    return run_report.render(folder) if (folder / "run.json").exists() else sweep_report.render(folder)
