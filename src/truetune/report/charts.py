"""Line and scatter charts as inline SVG, coloured by the page's style sheet so that they follow light and dark.

Texts and numbers go into `Markup` by its `format`, which escapes them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from markupsafe import Markup

SHARE = (0.0, 1.0)  # the range of an axis of shares
MOST_POINTS = 300  # of one line: more would not show on a screen
LETTER = 9.5  # width of a name's letter on a phone, where names are largest
LINE = Markup('<line class="{}" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>')
TEXT = Markup('<text class="{}" text-anchor="{}" x="{:.1f}" y="{:.1f}">{}</text>')
DOT = Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="{}"><title>{}</title></circle>')
PATH = Markup('<path class="{}" d="{}"/>')


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


@dataclass(frozen=True)
class Frame:
    """A plot area in user units; `x` and `y` map numbers into it."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x(self, value: float) -> float:
        low, high = self.x_range
        return self.left + (value - low) / (high - low) * (self.width - self.left - self.right)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return self.height - self.bottom - (value - low) / (high - low) * (self.height - self.top - self.bottom)

    def polyline(self, style: str, points: Sequence[tuple[float, float]]) -> Markup:
        stride = -(-len(points) // MOST_POINTS)
        path = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in (*points[:-1:stride], points[-1]))
        return Markup('<polyline class="{}" points="{}"/>').format(style, path)

    def axes(self, x_label: str, y_label: str, x_ticks: Sequence[float], y_ticks: Sequence[float]) -> Markup:
        """Horizontal grid lines, tick labels, the quantity of y above its axis and that of x below."""
        base, end = self.height - self.bottom, self.width - self.right
        parts = [TEXT.format("quantity", "start", 2, 11, y_label)]
        for tick in y_ticks:
            parts.append(LINE.format("grid", self.left, end, self.y(tick), self.y(tick)))
            parts.append(TEXT.format("tick", "end", self.left - 6, self.y(tick) + 4, tick_label(tick)))
        for tick in x_ticks:
            parts.append(LINE.format("axis", self.x(tick), self.x(tick), base, base + 4))
            parts.append(TEXT.format("tick", "middle", self.x(tick), base + 17, tick_label(tick)))
        parts.append(LINE.format("axis", self.left, end, base, base))
        parts.append(TEXT.format("quantity", "end", end, self.height - 3, x_label))
        return Markup().join(parts)


def line_chart(
    title: str, series: Sequence[Series], *, x_label: str, y_label: str, y_range: tuple[float, float] | None = None
) -> Markup:
    """A chart of lines; empty if there is nothing to draw, so that a page can leave the figure out."""
    series = [line for line in series if line.points]
    if not series:
        return Markup()
    x_span = span([0.0, *(x for line in series for x, _ in line.points)])
    y_span = y_range or from_zero([y for line in series for _, y in line.points])
    right_margin = 16 + round(7.1 * max(len(line.name) for line in series)) if len(series) > 1 else 16
    frame = Frame(380, 240, 42, right_margin, 24, 38, x_span, y_span)
    parts = [frame.axes(x_label, y_label, ticks(*x_span, about=5), ticks(*y_span))]
    for index, line in enumerate(series):
        parts.append(frame.polyline(f"line s{index % 5}", line.points))
        for x, y in line.points if len(line.points) <= 30 else ():
            tip = f"{line.name}, {x_label} {tick_label(x)}: {y:.3f}"
            parts.append(DOT.format(f"mark s{index % 5}", frame.x(x), frame.y(y), 2.2, tip))
    if len(series) > 1:
        parts.append(_end_labels(frame, series))
    return _figure(title, frame, Markup().join(parts))


def gained_and_kept(what: str, points: Sequence[Point]) -> Markup:
    x, y = "task gain, tuned − base share right", "kept share of known facts"
    return scatter_chart(f"Gained and kept, one dot per {what}", points, x_label=x, y_label=y)


def scatter_chart(
    title: str, points: Sequence[Point], *, x_label: str, y_label: str, base: tuple[float, float] = (0.0, 1.0)
) -> Markup:
    """A chart of points with error bars, the front joined by a line, and the untouched base for reference."""
    x_span = span([value for point in points for value in (point.x, *(point.x_ends or ()))] + [base[0]], 0.06)
    y_span = span([value for point in points for value in (point.y, *(point.y_ends or ()))] + [base[1]], 0.08)
    frame = Frame(600, 400, 46, 20, 36, 52, x_span, y_span)
    front = sorted((point.x, point.y) for point in points if point.front)
    parts = [frame.axes(x_label, y_label, ticks(*x_span), ticks(*y_span))]
    if len(front) > 1:
        parts.append(frame.polyline("front", front))
    x0, y0 = frame.x(base[0]), frame.y(base[1])
    parts.append(PATH.format("reference", f"M{x0 - 5:.1f} {y0:.1f}h10m-5 -5v10"))
    parts.append(TEXT.format("tick", "start", x0 + 8, y0 - 7, "base"))
    dots: list[Markup] = []
    for point in points:
        x, y, shade = frame.x(point.x), frame.y(point.y), "s0" if point.front else "beaten"
        x_bar = "M{:.1f} {y:.1f}H{:.1f}".format(*map(frame.x, point.x_ends), y=y) if point.x_ends else ""
        y_bar = "M{x:.1f} {:.1f}V{:.1f}".format(*map(frame.y, point.y_ends), x=x) if point.y_ends else ""
        if x_bar or y_bar:
            parts.append(PATH.format(f"bar {shade}", x_bar + y_bar))
        dots.append(DOT.format(f"dot {shade}", x, y, 5, f"{point.name}: {point.x:+.3f}, {point.y:.3f}"))
    parts += [*dots, _names(frame, points, (x0, y0))]  # dots over bars
    legend = Markup(
        '<ul class="legend"><li><i class="mark-s0"></i>on the frontier</li>'
        '<li><i class="mark-beaten"></i>behind it</li></ul>'
        if front
        else ""
    )
    return _figure(title, frame, Markup().join(parts), legend, style="wide")


def ticks(low: float, high: float, about: int = 6) -> tuple[float, ...]:
    """Round numbers inside [low, high], at steps of 1, 2 or 5 times a power of ten."""
    least_step = (high - low) / max(1, about - 1)
    power = 10.0 ** math.floor(math.log10(least_step))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least_step * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(round(k * step, 12) for k in range(first, last + 1))


def span(values: Sequence[float], margin: float = 0.0) -> tuple[float, float]:
    """The range of the values, never empty: a single value gets room on both sides."""
    low, high = min(values), max(values)
    room = (high - low) * margin if high - low >= 1e-12 else abs(low) * 0.1 or 0.5
    return low - room, high + room


def from_zero(values: Sequence[float]) -> tuple[float, float]:
    """The range from zero (or the round number below the least value) to the round number above the greatest."""
    low, high = span([*values, 0.0])
    first, second, *_ = ticks(low, high)
    step = second - first
    return math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step


def tick_label(value: float) -> str:
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"
    return text.replace("-", "−")


def _end_labels(frame: Frame, series: Sequence[Series]) -> Markup:
    """The names of the lines, each at the height of its line's end, moved apart where they would overlap."""
    ends = sorted((frame.y(line.points[-1][1]), index) for index, line in enumerate(series))
    gap, lowest = 14.0, frame.height - frame.bottom + 2.0
    places: list[float] = []
    for y, _ in ends:
        places.append(max(y, places[-1] + gap) if places else y)
    for at in range(len(places) - 1, -1, -1):
        limit = places[at + 1] - gap if at + 1 < len(places) else lowest
        places[at] = min(places[at], limit)
    return Markup().join(
        TEXT.format(f"end s{index % 5}", "start", frame.x(line.points[-1][0]) + 7, place + 4, line.name)
        for place, (_, index) in zip(places, ends, strict=True)
        for line in series[index : index + 1]
    )


def _names(frame: Frame, points: Sequence[Point], base: tuple[float, float]) -> Markup:
    """The names of the points, each in the first of four places beside its dot that is free at the size of a phone.

    The front chooses first.
    """

    def box(left: float, bottom: float, letters: int) -> tuple[float, float, float, float]:
        return left, left + LETTER * letters, bottom - 13, bottom + 3

    dots = [(frame.x(point.x), frame.y(point.y)) for point in points]
    x0, y0 = base
    boxes = [*((x - 5, x + 5, y - 5, y + 5) for x, y in [*dots, (x0, y0)]), box(x0 + 8, y0 - 7, len("base"))]
    parts: list[Markup] = []
    for point, (x, y) in sorted(zip(points, dots, strict=True), key=lambda pair: not pair[0].front):
        name = point.name if len(point.name) <= 28 else point.name[:27] + "…"
        for left, bottom in product((x + 8, x - 8 - LETTER * len(name)), (y - 7, y + 19)):
            place = box(left, bottom, len(name))
            is_free = all(place[1] < b[0] or b[1] < place[0] or place[3] < b[2] or b[3] < place[2] for b in boxes)
            if is_free and left >= 0 and place[1] <= frame.width:
                boxes.append(place)
                anchor, at = ("start", left) if left > x else ("end", x - 8)
                parts.append(TEXT.format("name", anchor, at, bottom, name))
                break
    return Markup().join(parts)


def _figure(title: str, frame: Frame, drawing: Markup, legend: str = "", style: str = "") -> Markup:
    return Markup(
        '<figure class="{style}"><figcaption>{title}</figcaption>{legend}'
        '<svg viewBox="0 0 {width} {height}" role="img" aria-label="{title}">{drawing}</svg></figure>'
    ).format(style=style, title=title, legend=legend, width=frame.width, height=frame.height, drawing=drawing)
