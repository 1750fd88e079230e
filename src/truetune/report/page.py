"""One self-contained HTML file: no script, no network, readable in light and dark, on a wide screen and on a phone."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from truetune.records.files import write_atomic
from truetune.report.gate import allowed, measured, why
from truetune.report.summary import change, interval, number, p_value

# What a template prints is escaped, unless it is markup of a template's or a chart's own.
PAGES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
PAGES.filters.update(number=number, interval=interval, p_value=p_value, change=change)
PAGES.filters.update(allowed=allowed, measured=measured, why=why)  # for a limit of the gate


def write_page(target: Path, template: str, **content: Any) -> Path:
    write_atomic(target, PAGES.get_template(template).render(content))
    return target
