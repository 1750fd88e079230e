"""Line and scatter charts as inline SVG, coloured by the page's style sheet so that they follow light and dark."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from truetune.report.axes import Frame, axes, from_zero, span, tick_label, ticks

MOST_POINTS = 300  # of one line: more would not show on a screen


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
    width = 380
    shown = ticks(*x_span, about=4 if right > 60 else 5)
    frame = Frame(width, 240, 42, right, 24, 38, shown, ticks(*y_span), x_span, y_span)
    parts = [axes(frame, x_label, y_label), *(_line(frame, one, index, x_label) for index, one in enumerate(drawn))]
    if len(drawn) > 1:
        parts.append(_end_labels(frame, drawn))
    return _figure(title, frame, "".join(parts), [(one.name, f"s{index % 5}") for index, one in enumerate(drawn)])


def scatter_chart(title: str, points: Sequence[Point], *, x_label: str, y_label: str) -> str:
    """Error bars, the front joined by a line, and the untouched base at (0, 1) for reference."""
    xs = [value for point in points for value in (point.x, *(point.x_ends or ()))] + [0.0]
    ys = [value for point in points for value in (point.y, *(point.y_ends or ()))] + [1.0]
    x_span, y_span = span(xs, 0.06), span(ys, 0.08)
    frame = Frame(720, 440, 52, 24, 34, 58, ticks(*x_span, about=6), ticks(*y_span, about=6), x_span, y_span)
    front = sorted((point.x, point.y) for point in points if point.front)
    parts = [axes(frame, x_label, y_label)]
    if len(front) > 1:
        parts.append(f'<polyline class="front" points="{_path(frame, front)}"/>')
    x0, y0 = frame.x(0.0), frame.y(1.0)
    parts.append(f'<path class="reference" d="M{x0 - 5:.1f} {y0:.1f}h10m-5 -5v10"/>')
    parts.append(f'<text class="tick" x="{x0 + 8:.1f}" y="{y0 - 6:.1f}">base</text>')
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
    """Beside each dot, in the first of four places that is free; in a crowd only the front is named."""
    dots = {point.name: (frame.x(point.x), frame.y(point.y)) for point in points}
    base, names = (frame.x(0.0) + 20, frame.y(1.0) - 10), dict[str, tuple[float, float]]()
    parts: list[str] = []
    for point in sorted(points, key=lambda one: not one.front):
        x, y = dots[point.name]
        taken = [base, *names.values(), *(dot for name, dot in dots.items() if name != point.name)]
        for dx, dy in ((13, -11), (13, 12), (-13, -11), (-13, 12)):
            if all(abs(x + dx - left) > 13 or abs(y + dy - top) > 12 for left, top in taken):
                names[point.name] = (x + dx, y + dy)
                label = f'<text class="name" text-anchor="middle" x="{x + dx:.1f}" y="{y + dy + 4:.1f}">'
                parts.append(f"{label}{escape(point.name)}</text>")
                break
    return "".join(parts)


def _figure(title: str, frame: Frame, drawing: str, legend: Sequence[tuple[str, str]], kind: str = "") -> str:
    keys = "".join(f'<li><i class="{style}"></i>{escape(name)}</li>' for name, style in legend)
    key = f'<ul class="legend">{keys}</ul>' if len(legend) > 1 else ""
    box = f'viewBox="0 0 {frame.width} {frame.height}" role="img" aria-label="{escape(title)}"'
    caption = f"<figcaption>{escape(title)}</figcaption>{key}"
    return f'<figure class="{kind}">{caption}<svg {box}>{drawing}</svg></figure>'
