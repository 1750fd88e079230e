import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest

from truetune.report.charts import (
    MOST_POINTS,
    Point,
    Series,
    from_zero,
    line_chart,
    scatter_chart,
    span,
    ticks,
)


def drawn(markup: str) -> ET.Element:
    return ET.fromstring(markup)


def marked(figure: ET.Element, tag: str, style: str) -> list[ET.Element]:
    return [element for element in figure.iter(tag) if style in (element.get("class") or "").split()]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, (0, 0.2, 0.4, 0.6, 0.8, 1)),
        (0, 520, (0, 200, 400)),
        (-0.3, 0.31, (-0.2, 0, 0.2)),
        (2.0, 2.05, (2, 2.01, 2.02, 2.03, 2.04, 2.05)),
    ],
)
def test_ticks_are_round_numbers_inside_the_range(low: float, high: float, expected: tuple[float, ...]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


def test_a_single_value_still_has_a_range() -> None:
    assert span([0.0]) == (-0.5, 0.5)
    assert span([2.0]) == pytest.approx((1.8, 2.2))


def test_a_free_axis_begins_at_zero_and_ends_at_a_tick() -> None:
    assert from_zero([0.7, 2.9]) == pytest.approx((0, 3))
    assert from_zero([-0.3, 0.2]) == pytest.approx((-0.3, 0.2))
    assert from_zero([0.0]) == pytest.approx((-0.6, 0.6))


def test_nothing_to_draw_is_no_chart() -> None:
    assert line_chart("t", [Series("a", ())], x_label="step", y_label="share") == ""


def test_higher_values_are_drawn_higher_and_later_steps_further_right() -> None:
    figure = drawn(
        line_chart("t", [Series("a", ((0, 0.1), (10, 0.9)))], x_label="step", y_label="share", y_range=(0, 1))
    )
    (x0, y0), (x1, y1) = (
        map(float, pair.split(",")) for pair in marked(figure, "polyline", "line")[0].attrib["points"].split()
    )
    assert x1 > x0
    assert y1 < y0


def test_end_labels_do_not_overlap_and_stay_inside() -> None:
    series = [Series(f"line {k}", ((0, 0.0), (10, 0.001 * k))) for k in range(4)]
    figure = drawn(line_chart("t", series, x_label="step", y_label="share", y_range=(0, 1)))
    heights = sorted(float(label.attrib["y"]) for label in marked(figure, "text", "end"))
    assert len(heights) == 4
    assert all(later - earlier >= 13 for earlier, later in pairwise(heights))
    assert heights[-1] < 240


def test_long_histories_are_thinned_but_keep_their_end() -> None:
    series = Series("a", tuple((step, float(step)) for step in range(10_007)))
    figure = drawn(line_chart("t", [series], x_label="step", y_label="loss"))
    points = marked(figure, "polyline", "line")[0].attrib["points"].split()
    assert len(points) <= MOST_POINTS + 1
    assert float(points[-1].split(",")[0]) == pytest.approx(380 - 16)


def test_names_are_escaped() -> None:
    nasty = '<script>&"'
    markup = line_chart(nasty, [Series(nasty, ((0, 0), (1, 1))), Series("b", ((0, 1),))], x_label=nasty, y_label=nasty)
    assert "<script>" not in markup
    assert drawn(markup).find("figcaption").text == nasty  # type: ignore[union-attr]
    assert "<script>" not in scatter_chart(nasty, [Point(nasty, 0.1, 0.9)], x_label=nasty, y_label=nasty)


def test_scatter_marks_and_joins_the_front_and_draws_bars() -> None:
    points = [
        Point("0", 0.8, 0.5, (0.7, 0.9), (0.4, 0.6), True),
        Point("1", 0.6, 0.8, None, None, True),
        Point("2", 0.5, 0.4),
    ]
    figure = drawn(scatter_chart("t", points, x_label="gain", y_label="kept"))
    assert len(marked(figure, "circle", "dot")) == 3
    assert len(marked(figure, "circle", "s0")) == 2
    assert len(marked(figure, "path", "bar")) == 1
    assert len(marked(figure, "polyline", "front")[0].attrib["points"].split()) == 2
    assert {text.text for text in marked(figure, "text", "name")} == {"0", "1", "2"}
