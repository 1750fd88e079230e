"""One self-contained HTML file: no script, no network, readable in light and dark, on a wide screen and on a phone."""

from collections.abc import Sequence
from html import escape

from truetune.report.style import STYLE
from truetune.report.summary import Row, change, interval, number, p_value
from truetune.scoring.estimates import Estimate
from truetune.scoring.metrics import Direction

GOOD: dict[Direction, tuple[str, str]] = {
    "higher": (" ↑", "higher is better"),
    "lower": (" ↓", "lower is better"),
    "": ("", "neither way is better in itself"),
}


def page(title: str, body: Sequence[str]) -> str:
    """The body's parts are HTML already; the title is text."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<meta name="generator" content="truetune">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in body if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def header(name: str, facts: Sequence[str], verdict: str, warning: str = "") -> str:
    """The verdict is the page's headline."""
    line = " · ".join(escape(fact) for fact in facts if fact)
    warn = f'<p class="warning">{escape(warning)}</p>' if warning else ""
    return (
        f'<header><p class="overline"><b>truetune</b> {escape(name)}</p><h1>{escape(verdict)}</h1>'
        f'{warn}<p class="facts">{line}</p></header>'
    )


def section(title: str, content: str, note: str = "") -> str:
    """Left out altogether when there is nothing to show."""
    if not content:
        return ""
    below = f'<p class="note">{escape(note)}</p>' if note else ""
    return f"<section><h2>{escape(title)}</h2>{below}{content}</section>"


def table(headings: Sequence[str], body: Sequence[Sequence[str]], style: str = "") -> str:
    """Cells are HTML; on a phone each row becomes a card that repeats the headings."""
    if not body:
        return ""
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in headings)
    lines: list[str] = []
    for cells in body:
        named = zip(headings, cells, strict=True)
        lines.append("".join(f'<td data-label="{escape(heading)}">{cell}</td>' for heading, cell in named))
    rows = "".join(f"<tr>{line}</tr>" for line in lines)
    return (
        f'<div class="scroll"><table class="{style}"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def balance_table(rows: Sequence[Row]) -> str:
    """Value over interval and n, so that four columns say everything; two do where no base was measured."""
    compared = any(row.base for row in rows)
    body: list[list[str]] = []
    for row in rows:
        arrow, hint = GOOD[row.good]
        name = f'<span title="{hint}">{escape(row.label)}<span class="arrow">{arrow}</span></span>'
        label = f"{name}<code>{escape(row.metric)}</code>"
        judged = change(row)
        word = f'<em class="{judged.split(" ")[0]}">{judged}</em>' if judged else ""
        cells = [_measured(row.base), _measured(row.tuned), _difference(row.difference, word)]
        body.append([label, *(cells if compared else cells[1:2])])
    return table(["Measure", *(("Base", "Tuned", "Difference") if compared else ("Value",))], body, "balance")


def _measured(estimate: Estimate | None) -> str:
    if estimate is None:
        return "–"
    return f"<b>{number(estimate.value)}</b>{_small(interval(estimate), f'n {estimate.n:,}' if estimate.n else '')}"


def _difference(estimate: Estimate | None, word: str) -> str:
    if estimate is None:
        return f"– {word}"
    value = number(estimate.value, signed=True)
    p = "" if estimate.p is None else f"p {p_value(estimate.p)}"
    return f"<b>{value}</b> {word}{_small(interval(estimate, signed=True), p)}"


def _small(*texts: str) -> str:
    """On a narrow screen each text has its own line."""
    spans = " ".join(f"<span>{escape(text)}</span>" for text in texts if text)
    return f"<small>{spans}</small>" if spans else ""


def definitions(pairs: Sequence[tuple[str, str]]) -> str:
    """Names and values, such as a configuration's."""
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs)
    return f"<dl>{rows}</dl>" if pairs else ""


def details(summary: str, content: str) -> str:
    """Closed until asked for."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>" if content else ""
