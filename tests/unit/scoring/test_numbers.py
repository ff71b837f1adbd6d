from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmesh.scoring.math_equal import fast_equal, symbolic_equal
from evalmesh.scoring.numbers import parse_number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("18", 18),
        ("-18", -18),
        ("\u221218", -18),
        ("+18", 18),
        ("18.", 18),
        (" **18** ", 18),
        ("018", 18),
        ("1,234", 1234),
        ("1,234,567.50", Fraction(2469135, 2)),
        ("1,000.50", Fraction(2001, 2)),
        ("1{,}000", 1000),
        ("10\u202f000", 10000),
        ("$5", 5),
        ("-$5", -5),
        ("$-5", -5),
        ("\\$5.00", 5),
        ("£5", 5),
        ("€5", 5),
        ("$18$", 18),
        ("50%", 50),
        ("50\\%", 50),
        ("50 percent", 50),
        ("18 dollars", 18),
        ("18 km/h", 18),
        ("5kg", 5),
        ("18^\\circ", 18),
        ("18\\text{ cm}^2", 18),
        ("\\frac{3}{4}", Fraction(3, 4)),
        ("\\dfrac34", Fraction(3, 4)),
        ("-\\frac{3}{4}", Fraction(-3, 4)),
        ("3/4", Fraction(3, 4)),
        ("1 1/2", Fraction(3, 2)),
        ("4 and 2/3", Fraction(14, 3)),
        ("2\\frac{1}{2}", Fraction(5, 2)),
        (".5", Fraction(1, 2)),
        ("\\text{18}", 18),
        ("1e3", 1000),
        ("1.5 \\times 10^{3}", 1500),
        ("2.5 million", 2500000),
        ("3 thousand dollars", 3000),
    ],
)
def test_numbers_are_read_exactly(text, value):
    assert parse_number(text) == value


@pytest.mark.parametrize(
    "text",
    ["", "eighteen", "1,2,3", "3:00", "12x", "5 + 3", "1/0", "\\frac{1}{0}", "18 or 19", "5 and 6", "2^10", "9" * 500],
)
def test_what_is_not_one_number_is_none(text):
    assert parse_number(text) is None


@pytest.mark.parametrize(
    ("answer", "target", "equal"),
    [
        ("2880007", "2880000", False),
        ("18.0", "18", True),
        ("50%", "50", True),
        ("50", "50%", True),
        ("50%", "0.5", True),
        ("0.5", "50", False),
        ("50%", "5000%", False),
        ("26.999999999999996", "27", True),
        ("26.9999", "27", False),
        ("33.33", "\\frac{100}{3}", False),
        ("5 cm", "5 cm", True),
        ("5", "5 cm", True),
        ("5 kg", "5 cm", False),
        ("seven", "7", False),
        ("Evelyn", "\\text{Evelyn}", True),
        ("evelyn", "Evelyn", True),
        ("12x", "12", None),
        ("8 + 4", "12", None),
        ("6m", "6", True),
        ("6", "6m", None),
        ("15", "15^2", None),
        ("3", "3R^2", None),
        ("15", "15 cm^2", True),
        ("2516_{8}", "2516_8", True),
        ("2516_8", "2516_7", None),
        ("\\frac{270}7", "\\frac{270}{7}\\text{ degrees}", True),
    ],
)
def test_fast_equality_decides_numbers_and_leaves_algebra(answer, target, equal):
    assert fast_equal(answer, target) is equal


@pytest.mark.parametrize(
    ("answer", "target"),
    [
        ("8 + 4", "12"),
        ("2^{10}", "1024"),
        ("\\sqrt{12}", "2\\sqrt{3}"),
        ("\\frac{\\sqrt2}{2}", "1/\\sqrt{2}"),
        ("2\\pi r", "2*pi*r"),
        ("x^2+2x+1", "(x+1)^2"),
        ("x = 5", "5"),
        ("y = 2x + 1", "2x - y + 1 = 0"),
        ("\\sin^2", "\\sin^2"),
        ("(1, 2)", "(1,\\,2)"),
        ("\\{2, 1\\}", "\\{1,2\\}"),
        ("1, 2", "2,1"),
        ("\\sqrt[3]{8}", "2"),
        ("3 \\cdot 4", "12"),
        ("\\frac{1}{2}x", "x/2"),
        ("\\left(\\frac12, 3\\right)", "(1/2,3)"),
        ("\\sin(\\pi/6)", "1/2"),
        ("e^{2}", "e^2"),
        ("0.5x", "\\frac{x}{2}"),
        ("\\frac{x+1}{2}", "(x+1)/2"),
        ("15^2", "225"),
        (
            "\\begin{pmatrix} -\\frac{1}{3} & 1 \\\\ \\frac{2}{3} & x \\end{pmatrix}",
            "\\begin{bmatrix}-1/3&1\\\\2/3&x\\\\\\end{bmatrix}",
        ),
    ],
)
def test_algebra_recognises_the_same_value(answer, target):
    assert symbolic_equal(answer, target)


@pytest.mark.parametrize(
    ("answer", "target"),
    [
        ("12x", "12"),
        ("6", "6m"),
        ("(1,2)", "(2,1)"),
        ("(1,2)", "[1,2]"),
        ("\\sqrt{2}", "1.414"),
        ("x+1", "x-1"),
        ("9^{9^{9^9}}", "1"),
        ("1" + "0" * 250 + "^(9)", "1"),
        ("exp(10^9)", "1"),
        ("__import__('os')", "1"),
        ("((((((((((", "1"),
        ("1/0", "1"),
        ("x!", "1"),
        ("lambda: 1", "1"),
        ("2^", "4"),
        ("\\frac{1}", "1"),
        ("3:00", "3"),
        ("15", "15^2"),
        ("3", "3R^2"),
        ("2516_8", "2516_7"),
        ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "\\begin{pmatrix} 1 & 2 \\end{pmatrix}"),
        ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "\\begin{pmatrix} 1 \\\\ 3 \\end{pmatrix}"),
        ("\\begin{pmatrix} 1 \\\\ 2", "\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}"),
        ("1,2,3", "1,2"),
    ],
)
def test_algebra_refuses_what_differs_or_cannot_be_computed(answer, target):
    assert not symbolic_equal(answer, target)


@given(st.text(alphabet="0123456789x+-*/^(){}\\fracsqrtpi, .=", max_size=25))
def test_no_formula_breaks_the_converter(text):
    symbolic_equal(text, "\\sqrt{2}")
