import itertools
import re

import pytest

from evalmesh.pages.load_tests.charts import HEIGHT, WIDTH, Rule, Series, Wish, chart, short

WISH = Wish("c", "Chart", "load", "ms")


def line(*points, **more):
    return Series("p50", "s0", points, **more)


def positions(path):
    """Points of a path of straight lines."""
    return [(float(x), float(y)) for x, y in re.findall(r"[ML](\S+?) (\S+?)(?=[ML]|$)", path)]


def test_larger_values_are_higher_and_further_right():
    drawn = chart(WISH, [line((1, 10), (2, 20), (3, 15))])
    (x1, y1), (x2, y2), (x3, y3) = positions(drawn.lines[0].path)
    assert x1 < x2 < x3
    assert y1 > y3 > y2
    assert y2 >= 0
    assert y1 <= HEIGHT


def test_linear_axes_begin_at_zero_and_have_round_labels():
    drawn = chart(WISH, [line((1, 37), (2, 93))])
    assert [tick.text for tick in drawn.y.ticks] == ["0", "20", "40", "60", "80", "100"]
    assert not drawn.y.log


def test_wide_ranges_get_a_logarithmic_axis():
    drawn = chart(WISH, [line((1, 1.0), (1000, 5000.0))])
    assert drawn.x.log
    assert drawn.y.log
    assert drawn.x.at(100) - drawn.x.at(10) == pytest.approx(drawn.x.at(1000) - drawn.x.at(100), abs=0.3)


def test_zero_and_negative_values_never_meet_a_logarithm():
    drawn = chart(WISH, [line((0, 0.0), (1000, 5000.0), (-5, -1.0))])
    assert not drawn.x.log
    assert not drawn.y.log
    assert not chart(Wish("c", "", "", "", x="log", y="log"), [line((0, 0), (10, 1))]).y.log


@pytest.mark.parametrize("value", [0.0, 1e-9, 1.0, 4.2, 1e12])
def test_a_single_point_has_a_scale(value):
    for scaling in ("auto", "linear", "log"):
        drawn = chart(Wish("c", "", "", "", x=scaling, y=scaling), [line((value, value), texts=("it",))])
        (dot,) = drawn.lines[0].dots
        assert 0 <= dot.x <= WIDTH
        assert 0 <= dot.y <= HEIGHT


def test_nothing_to_draw_is_no_chart():
    assert chart(WISH, []) is None
    assert chart(WISH, [line((1, None), (2, None))]) is None


def test_a_point_without_value_interrupts_the_line():
    drawn = chart(WISH, [line((1, 5), (2, None), (3, 5), (4, 6))])
    assert drawn.lines[0].path.count("M") == 2


def test_points_at_one_place_are_joined_through_their_mean():
    drawn = chart(WISH, [line((1, 10), (1, 20), (2, 30), texts=("a", "b", "c"))])
    path = positions(drawn.lines[0].path)
    assert len(path) == 2
    assert path[0][1] == pytest.approx((drawn.lines[0].dots[0].y + drawn.lines[0].dots[1].y) / 2, abs=0.11)
    assert len(drawn.lines[0].dots) == 3


def test_steps_go_on_until_the_next_value():
    path = chart(WISH, [line((0, 5), (1, 7), step=True)]).lines[0].path
    assert re.fullmatch(r"M\S+ \S+H\S+V\S+", path)


def test_long_series_are_thinned_and_keep_their_peaks():
    points = [(n, 1000.0 if n == 7777 else float(n % 10)) for n in range(20_000)]
    drawn = chart(WISH, [line(*points)])
    path = positions(drawn.lines[0].path)
    assert len(path) <= 500
    assert min(y for _, y in path) == drawn.y.at(1000.0)


def test_labels_of_points_never_lie_on_each_other():
    points = [(n % 5, n * 0.3) for n in range(70)]
    drawn = chart(WISH, [line(*points, texts=["."] * 70, labels=[f"parallel {n}" for n in range(70)], joined=False)])
    boxes = []
    for label in drawn.labels:
        width = 6.6 * len(label.text)
        left = label.x if label.anchor == "start" else label.x - width
        boxes.append((left, label.y - 11, left + width, label.y + 2))
    assert boxes
    for n, a in enumerate(boxes):
        assert a[0] >= 0
        assert a[2] <= WIDTH
        for b in boxes[n + 1 :]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def test_wanted_ticks_are_thinned_where_they_would_touch():
    loads = list(range(1, 100))
    drawn = chart(Wish("c", "", "", "", x_ticks=loads), [line(*((n, n) for n in loads))])
    at = [tick.at for tick in drawn.x.ticks]
    assert (drawn.x.ticks[0].text, drawn.x.ticks[-1].text) == ("1", "99")
    assert min(b - a for a, b in itertools.pairwise(at)) >= 40


def test_rules_beyond_the_scale_are_left_out_and_bounds_are_made_room_for():
    rules = [Rule(50.0, "objective"), Rule(9.0, "answer", vertical=True), Rule(2.0, "seen", vertical=True)]
    drawn = chart(Wish("c", "", "", "", rules=rules), [line((1, 10), (3, 12))])
    assert [(rule.text, rule.x is None) for rule in drawn.rules] == [("objective", True), ("seen", False)]
    assert drawn.y.high >= 50


def test_the_description_names_the_extremes():
    drawn = chart(WISH, [line((1, 10), (2, 250), (3, 15))])
    assert drawn.description == "p50: lowest 10 at 1, highest 250 at 2"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.05, "0.05"), (12, "12"), (999.5, "999.5"), (3000, "3,000"), (45_000, "45k"), (1_200_000, "1.2M"), (0, "0")],
)
def test_numbers_of_axes_are_short(value, text):
    assert short(value) == text
