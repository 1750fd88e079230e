"""Line and scatter charts as inline SVG, coloured by the page's style sheet so that they follow light and dark."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import product

from truetune.report.axes import Frame, axes, from_zero, span, tick_label, ticks

MOST_POINTS = 300  # of one line: more would not show on a screen
LETTER = 9.5  # width of a name's letter on a phone, where names are largest


@dataclass(frozen=True)
class Series:
    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Point:
    """A run with the ends of its error bars; `front` marks those that no other run beats."""

    name: str
    x: float
    y: float
    x_ends: tuple[float, float] | None = None
    y_ends: tuple[float, float] | None = None
    front: bool = False


def line_chart(
    title: str, series: Sequence[Series], *, x_label: str, y_label: str, y_range: tuple[float, float] | None = None
) -> str:
    """Empty if there is nothing to draw, so that a page can leave the figure out."""
    drawn = [Series(one.name, _thinned(one.points)) for one in series if one.points]
    if not drawn:
        return ""
    xs = [x for one in drawn for x, _ in one.points]
    ys = [y for one in drawn for _, y in one.points]
    x_span, y_span = span([0.0, *xs]), y_range or from_zero(ys)
    right = 16 + round(7.1 * max(len(one.name) for one in drawn)) if len(drawn) > 1 else 16
    frame = Frame(380, 240, 42, right, 24, 38, ticks(*x_span, about=5), ticks(*y_span), x_span, y_span)
    parts = [axes(frame, x_label, y_label), *(_line(frame, one, index, x_label) for index, one in enumerate(drawn))]
    if len(drawn) > 1:
        parts.append(_end_labels(frame, drawn))
    return _figure(title, frame, "".join(parts))


def scatter_chart(title: str, points: Sequence[Point], *, x_label: str, y_label: str) -> str:
    """Error bars, the front joined by a line, and the untouched base at (0, 1) for reference."""
    xs = [value for point in points for value in (point.x, *(point.x_ends or ()))] + [0.0]
    ys = [value for point in points for value in (point.y, *(point.y_ends or ()))] + [1.0]
    x_span, y_span = span(xs, 0.06), span(ys, 0.08)
    frame = Frame(600, 400, 46, 20, 36, 52, ticks(*x_span, about=6), ticks(*y_span, about=6), x_span, y_span)
    front = sorted((point.x, point.y) for point in points if point.front)
    parts = [axes(frame, x_label, y_label)]
    if len(front) > 1:
        parts.append(f'<polyline class="front" points="{_path(frame, front)}"/>')
    x0, y0 = frame.x(0.0), frame.y(1.0)
    parts.append(f'<path class="reference" d="M{x0 - 5:.1f} {y0:.1f}h10m-5 -5v10"/>')
    parts.append(f'<text class="tick" x="{x0 + 8:.1f}" y="{y0 - 7:.1f}">base</text>')
    parts += [_bars(frame, point) for point in points]
    parts += [_dot(frame, point) for point in points]
    parts.append(_names(frame, points))
    legend = [("on the frontier", "mark-s0"), ("behind it", "mark-beaten")]
    return _figure(title, frame, "".join(parts), legend, kind="wide")


def _thinned(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Every k-th point and the last."""
    every = -(-len(points) // MOST_POINTS)
    kept = list(points[::every])
    return tuple(kept if not points or kept[-1] == points[-1] else [*kept, points[-1]])


def _path(frame: Frame, points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in points)


def _line(frame: Frame, series: Series, index: int, x_label: str) -> str:
    parts = [f'<polyline class="line s{index % 5}" points="{_path(frame, series.points)}"/>']
    if len(series.points) <= 30:
        for x, y in series.points:
            tip = escape(f"{series.name}, {x_label} {tick_label(x)}: {y:.3f}")
            spot = f'cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}"'
            parts.append(f'<circle class="mark s{index % 5}" {spot} r="2.2"><title>{tip}</title></circle>')
    return "".join(parts)


def _end_labels(frame: Frame, series: Sequence[Series]) -> str:
    """At the height of each line's end, moved apart where they would overlap."""
    ends = sorted((frame.y(one.points[-1][1]), index, one) for index, one in enumerate(series))
    gap, lowest = 14.0, frame.height - frame.bottom + 2.0
    places: list[float] = []
    for y, _, _ in ends:
        places.append(max(y, places[-1] + gap) if places else y)
    for at in range(len(places) - 1, -1, -1):
        limit = places[at + 1] - gap if at + 1 < len(places) else lowest
        places[at] = min(places[at], limit)
    return "".join(
        f'<text class="end s{index % 5}" x="{frame.x(one.points[-1][0]) + 7:.1f}" y="{place + 4:.1f}">'
        f"{escape(one.name)}</text>"
        for place, (_, index, one) in zip(places, ends, strict=True)
    )


def _bars(frame: Frame, point: Point) -> str:
    x, y = frame.x(point.x), frame.y(point.y)
    parts: list[str] = []
    if point.x_ends:
        parts.append(f"M{frame.x(point.x_ends[0]):.1f} {y:.1f}H{frame.x(point.x_ends[1]):.1f}")
    if point.y_ends:
        parts.append(f"M{x:.1f} {frame.y(point.y_ends[0]):.1f}V{frame.y(point.y_ends[1]):.1f}")
    return f'<path class="bar {_shade(point)}" d="{"".join(parts)}"/>' if parts else ""


def _dot(frame: Frame, point: Point) -> str:
    tip = escape(f"{point.name}: {point.x:+.3f}, {point.y:.3f}")
    spot = f'cx="{frame.x(point.x):.1f}" cy="{frame.y(point.y):.1f}"'
    return f'<circle class="dot {_shade(point)}" {spot} r="5"><title>{tip}</title></circle>'


def _shade(point: Point) -> str:
    return "s0" if point.front else "beaten"


def _names(frame: Frame, points: Sequence[Point]) -> str:
    """Beside each dot, in the first of four places that is free, at the size of a phone; the front chooses first."""
    dots = [(frame.x(point.x), frame.y(point.y)) for point in points]
    taken = [(x - 5, x + 5, y - 5, y + 5) for x, y in [*dots, (frame.x(0.0), frame.y(1.0))]]
    taken.append(_box(frame.x(0.0) + 8, frame.y(1.0) - 7, 4))  # the word "base"
    parts: list[str] = []
    for point, (x, y) in sorted(zip(points, dots, strict=True), key=lambda pair: not pair[0].front):
        name = point.name if len(point.name) <= 28 else point.name[:27] + "…"
        for left, bottom in product((x + 8, x - 8 - LETTER * len(name)), (y - 7, y + 19)):
            box = _box(left, bottom, len(name))
            free = all(box[1] < b[0] or b[1] < box[0] or box[3] < b[2] or b[3] < box[2] for b in taken)
            if free and left >= 0 and box[1] <= frame.width:
                taken.append(box)
                anchor, at = ("start", left) if left > x else ("end", x - 8)
                label = f'<text class="name" text-anchor="{anchor}" x="{at:.1f}" y="{bottom:.1f}">'
                parts.append(f"{label}{escape(name)}</text>")
                break
    return "".join(parts)


def _box(left: float, bottom: float, letters: int) -> tuple[float, float, float, float]:
    return left, left + LETTER * letters, bottom - 13, bottom + 3


def _figure(title: str, frame: Frame, drawing: str, legend: Sequence[tuple[str, str]] = (), kind: str = "") -> str:
    keys = "".join(f'<li><i class="{style}"></i>{escape(name)}</li>' for name, style in legend)
    key = f'<ul class="legend">{keys}</ul>' if legend else ""
    box = f'viewBox="0 0 {frame.width} {frame.height}" role="img" aria-label="{escape(title)}"'
    caption = f"<figcaption>{escape(title)}</figcaption>{key}"
    return f'<figure class="{kind}">{caption}<svg {box}>{drawing}</svg></figure>'
