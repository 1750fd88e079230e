"""From numbers to places on a drawing: ticks at round numbers, scales, and axis lines."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Frame:
    """A plot area in user units; `x` and `y` map numbers into it."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    x_ticks: tuple[float, ...]
    y_ticks: tuple[float, ...]
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x(self, value: float) -> float:
        low, high = self.x_range
        return self.left + (value - low) / (high - low) * (self.width - self.left - self.right)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return self.height - self.bottom - (value - low) / (high - low) * (self.height - self.top - self.bottom)


def ticks(low: float, high: float, about: int = 6) -> tuple[float, ...]:
    """Round numbers inside [low, high], at steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / max(1, about - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(round(k * step, 12) for k in range(first, last + 1))


def span(values: Sequence[float], margin: float = 0.0) -> tuple[float, float]:
    """The range of the values, never empty: a single value gets room on both sides."""
    low, high = min(values), max(values)
    if high - low < 1e-12:
        room = abs(low) * 0.1 or 0.5
        return low - room, high + room
    room = (high - low) * margin
    return low - room, high + room


def from_zero(values: Sequence[float]) -> tuple[float, float]:
    """From zero (or the round number below the least value) to the round number above the greatest."""
    low, high = span([*values, 0.0])
    places = ticks(low, high)
    step = places[1] - places[0]
    return math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step


def tick_label(value: float) -> str:
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"
    return text.replace("-", "−")


def axes(frame: Frame, x_label: str, y_label: str) -> str:
    """Horizontal grid lines, tick labels, the quantity of y above its axis and that of x below."""
    base, end = frame.height - frame.bottom, frame.width - frame.right
    parts = [f'<text class="quantity" x="2" y="11">{escape(y_label)}</text>']
    for tick in frame.y_ticks:
        y = frame.y(tick)
        parts.append(f'<line class="grid" x1="{frame.left}" x2="{end}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="tick" text-anchor="end" x="{frame.left - 6}" y="{y + 4:.1f}">{tick_label(tick)}</text>'
        )
    for tick in frame.x_ticks:
        x = frame.x(tick)
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{base}" y2="{base + 4}"/>')
        parts.append(f'<text class="tick" text-anchor="middle" x="{x:.1f}" y="{base + 17}">{tick_label(tick)}</text>')
    parts.append(f'<line class="axis" x1="{frame.left}" x2="{end}" y1="{base}" y2="{base}"/>')
    parts.append(f'<text class="quantity" text-anchor="end" x="{end}" y="{frame.height - 3}">{escape(x_label)}</text>')
    return "".join(parts)
