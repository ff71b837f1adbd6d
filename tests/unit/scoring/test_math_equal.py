"""Equality of answers: what algebra finds, what it must not, and what hostile text may cost."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmesh.scoring.math_equal import fast_equal, symbolic_equal


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
        ("2516_8", "2516_7", False),
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
        ("lambda x: x", "x"),
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


@pytest.mark.parametrize(
    ("answer", "target"),
    [
        ("\\sin x", "\\sin(x)"),
        ("\\sin{x}", "\\sin(x)"),
        ("sin(x)", "\\sin x"),
        ("\\log_2 8", "3"),
        ("\\log_{2}{8}", "3"),
        ("3!", "6"),
        ("3!", "3!"),
        ("|x|", "abs(x)"),
        ("|x|", "\\left|x\\right|"),
        ("|x|", "\\lvert x \\rvert"),
        ("\\text{abs}(x)", "|x|"),
        ("90^\\circ", "90"),
        ("90^{\\circ}", "90"),
        ("90\xb0", "90"),
        ("90", "90^\\circ"),
        ("90\xb0", "90^{\\circ}"),
        ("90 \\text{ degrees}", "90^\\circ"),
        ("(-\\infty, 2) \\cup (3, \\infty)", "(-\\infty,2)\\cup(3,\\infty)"),
        ("(3,\\infty)\\cup(-\\infty,2)", "(-\\infty,2)\\cup(3,\\infty)"),
        ("(-\\infty,2)\\cup (3,+\\infty)", "(-\\infty,2)\\cup(3,\\infty)"),
        ("(-\u221e, 2) \u222a (3, \u221e)", "(-\\infty,2)\\cup(3,\\infty)"),
        ("(-infinity, 2) \u222a (3, infinity)", "(-\\infty,2)\\cup(3,\\infty)"),
        ("x\\in(0,1)", "(0,1)"),
        ("x \\in (0,1)", "(0,1)"),
        ("x\\in[0,1)", "[0,1)"),
        ("(0,1)", "x\\in (0,1)"),
        ("x \u2208 (0, 1)", "(0,1)"),
        ("x\\in\\{1,2\\}", "\\{1,2\\}"),
        ("[-1, \\frac{1}{2})", "[-1,0.5)"),
        ("\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}", "\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}"),
        ("\\begin{bmatrix} 0.5 \\\\ 3 \\end{bmatrix}", "\\begin{pmatrix}\\frac12\\\\3\\end{pmatrix}"),
        ("\\left[\\begin{array}{cc}1&2\\\\3&4\\end{array}\\right]", "\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}"),
        ("\\left(\\begin{array}{c}1\\\\2\\end{array}\\right)", "\\begin{pmatrix}1\\\\2\\end{pmatrix}"),
        ("\\begin{pmatrix}\\sqrt{4}\\\\3\\end{pmatrix}", "\\begin{pmatrix}2\\\\3\\end{pmatrix}"),
        ("\\{1,2\\}", "\\{2,1\\}"),
        ("\\{1, 2, 3\\}", "1,2,3"),
        ("\\left\\{1,2\\right\\}", "\\{1,2\\}"),
        ("{1,2}", "1,2"),
        ("40_9", "40_{9}"),
        ("40_{9}", "40_9"),
        ("2B_{16}", "2B_{16}"),
        ("40_{\\text{9}}", "40_9"),
        ("\\pm 2", "2,-2"),
        ("\\pm2", "-2,2"),
        ("\xb12", "2,-2"),
        ("3 \\pm \\sqrt{2}", "3+\\sqrt{2},3-\\sqrt{2}"),
        ("x = \\pm 2", "2,-2"),
        ("x=\\pm 2", "\\pm 2"),
        ("\\pm\\frac{1}{2}", "0.5,-0.5"),
        ("2,-2", "\\pm 2"),
        ("\\frac{1\\pm\\sqrt{5}}{2}", "\\frac{1+\\sqrt{5}}{2},\\frac{1-\\sqrt{5}}{2}"),
        ("\\\\frac{1}{2}", "0.5"),
        ("\\\\frac{1}{2}", "\\frac{1}{2}"),
        ("\\\\sqrt{2}", "\\sqrt{2}"),
        ("2\\\\pi", "2\\pi"),
        ("1 and 2", "1, 2"),
        ("1 and 2", "1,2"),
        ("2 and 1", "1,2"),
        ("1, 2 and 3", "1,2,3"),
        ("1, 2, and 3", "1,2,3"),
        ("1 or 2", "1,2"),
        ("1 \\text{ and } 2", "1,2"),
        ("1 \\text{ or } 2", "1,2"),
        ("1; 2", "1,2"),
        ("x = 2 \\text{ or } x = -2", "2,-2"),
        ("x=2, x=-2", "2,-2"),
        ("x = 2, -2", "2,-2"),
        ("x=2 \\text{ and } x=-2", "-2,2"),
        ("x = 2 or -2", "2,-2"),
        ("x=1,y=2", "(1,2)"),
        ("x = 1, y = 2", "x=1,y=2"),
        ("y = 2, x = 1", "x=1,y=2"),
        ("8 + 10 = 18", "18"),
        ("\\text{Total} = 18", "18"),
        ("AB = 5", "5"),
        ("P(A) = \\frac{1}{2}", "\\frac{1}{2}"),
        ("(x,y)=(3,4)", "(3,4)"),
        ("f(x) = x^2", "x^2"),
        ("x^2", "f(x) = x^2"),
        ("y = 2x+1", "2x+1"),
        ("18 = x", "18"),
        ("a_1 = 5", "5"),
        ("\\angle ABC = 90^\\circ", "90"),
        ("x = 5", "x=5"),
        ("x=0.5", "x=\\frac{1}{2}"),
        ("\\theta = 30^\\circ", "30"),
        ("S = 18", "18"),
        ("f(2)=18", "18"),
        ("|AB| = 5", "5"),
        ("m\\angle A = 30", "30"),
        ("x = y = 3", "3"),
        ("\\frac{8}{3} \\approx 2.67", "\\frac{8}{3}"),
        ("x \\approx 2.67", "2.67"),
        ("\\approx 18", "18"),
        ("\u2248 18", "18"),
        ("\\text{The answer is } 18", "18"),
        ("\\text{Answer: } 18", "18"),
        ("\\text{ANSWER: } \\$355", "355"),
        ("\\text{The total is } 18", "18"),
        ("\\text{Yes}", "\\text{yes}"),
        ("\\text{No solution}", "\\text{no solution}"),
        ("No Solution", "\\text{no solution}"),
        ("\\text{Evelyn}", "Evelyn"),
        ("\\mathbf{Evelyn}", "evelyn"),
        ("1 : 2", "1:2"),
        ("1:2", "1 : 2"),
        ("3:4:5", "3 : 4 : 5"),
        ("x^2+2x+1", "(x+1)^2"),
        ("(x+1)(x-1)", "x^2-1"),
        ("x(x+1)", "x^2+x"),
        ("2**10", "1024"),
        ("2^10", "1024"),
        ("2^{10}", "1024"),
        ("sqrt(2)", "\\sqrt{2}"),
        ("sqrt(12)", "2\\sqrt{3}"),
        ("\u221a2", "\\sqrt{2}"),
        ("\u221a2", "2^{1/2}"),
        ("2\u03c0", "2\\pi"),
        ("2*pi", "2\\pi"),
        ("pi/2", "\\frac{\\pi}{2}"),
        ("\\frac{\\pi}2", "\\frac{\\pi}{2}"),
        ("\\dfrac{1}{2}", "0.5"),
        ("\\frac12", "0.5"),
        ("\\tfrac{x}{2}", "x/2"),
        ("x/2", "\\frac{1}{2}x"),
        ("\\frac{\\sqrt{3}}{3}", "\\frac{1}{\\sqrt{3}}"),
        ("\\sqrt[3]{8}", "2"),
        ("e^x", "\\exp(x)"),
        ("\\ln(e^2)", "2"),
        ("\\binom{5}{2}", "10"),
        ("5!", "120"),
        ("10000", "10^4"),
        ("10^{4}", "10,000"),
        ("3\\times 10^8", "300000000"),
        ("3 \xd7 10^8", "3e8"),
        ("i", "i"),
        ("2+3i", "3i+2"),
        ("(1+i)^2", "2i"),
        ("\\frac{1}{i}", "-i"),
        ("\\{5\\}", "5"),
        ("x \\le 3", "x \\leq 3"),
        ("x <= 3", "x\\le 3"),
        ("x \u2264 3", "x \\leq 3"),
        ("3 \\ge x", "x \\le 3"),
        ("x \\le 3", "(-\\infty,3]"),
        ("x>2", "(2,\\infty)"),
        ("2<x<3", "(2,3)"),
        ("(2,3)", "2<x<3"),
        ("1,000", "1000"),
        ("(1000, 2)", "(1000,2)"),
        ("\\left(\\frac{1}{2}, 3\\right)", "(0.5,3)"),
        ("\\left( 3, \\frac{\\pi}{2} \\right)", "(3,\\frac{\\pi}{2})"),
        ("(3, pi/2)", "(3,\\frac{\\pi}{2})"),
        ("(1,2),(3,4)", "(3,4),(1,2)"),
        ("(1,2) and (3,4)", "(3,4),(1,2)"),
        ("\\text{(A)}", "A"),
        ("50\\%", "50"),
        ("50%", "0.5"),
        ("0.50", "0.5"),
        ("\\frac{-1}{2}", "-0.5"),
        ("+5", "5"),
        ("2\\frac{1}{2}", "2.5"),
        ("2 1/2", "2.5"),
        ("\\emptyset", "\\emptyset"),
        ("x+y", "y+x"),
        ("\\mathbb{R}", "\\mathbb{R}"),
        ("1000(26)", "26000"),
        ("2\\cdot 3", "6"),
        ("\\tan(\\pi/4)", "1"),
        ("p - q", "p-q"),
        ("-q+p", "p-q"),
    ],
)
def test_the_same_answer_in_another_notation_is_equal(answer, target):
    assert fast_equal(answer, target) is not False
    assert symbolic_equal(answer, target)


@pytest.mark.parametrize(
    ("answer", "target"),
    [
        ("40_9", "40"),
        ("40", "40_9"),
        ("40_9", "40_8"),
        ("40_9", "36"),
        ("1,2", "(1,2)"),
        ("(1,2)", "1,2"),
        ("(1,2)", "(2,1)"),
        ("(1,2)", "[1,2]"),
        ("[0,1)", "(0,1)"),
        ("x=3,y=2", "2,3"),
        ("x=2,y=3", "x=3,y=2"),
        ("x=5", "y=5"),
        ("x=5", "x=6"),
        ("1,2", "1"),
        ("1", "1,2"),
        ("1,2,2", "1,2"),
        ("2", "\\pm 2"),
        ("9 500", "4500"),
        ("1 2", "2"),
        ("1 2", "3"),
        ("\\sqrt{2}", "1.414"),
        ("0.333", "\\frac{1}{3}"),
        ("\\sin x", "\\cos x"),
        ("3!", "3"),
        ("|x|", "x"),
        ("A", "B"),
        ("a", "A"),
        ("xy", "x"),
        ("1:2", "2:1"),
        ("1:2", "0.5"),
        ("3:00", "3"),
        ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\begin{pmatrix}2\\\\1\\end{pmatrix}"),
        ("\\{1,2\\}", "\\{1,3\\}"),
        ("(0,1)\\cup(2,3)", "(0,1)\\cup(2,4)"),
        ("(0,1)\\cup(2,3)", "(0,3)"),
        ("x<3", "x>3"),
        ("x<3", "x\\le 3"),
        ("5x", "5"),
        ("12xy", "12"),
        ("12ab", "12"),
        ("36\\pi", "36"),
        ("12 pi", "12"),
        ("\\text{not } 5", "5"),
        ("5 kg", "5 cm"),
        ("2^{3}", "6"),
        ("10^5", "10"),
        ("1/0", "1"),
        ("\\infty", "-\\infty"),
        ("x^2=4", "2"),
        ("18 or 19", "18"),
        ("e", "2.718"),
        ("\\text{no}", "\\text{yes}"),
    ],
)
def test_another_answer_stays_unequal(answer, target):
    assert fast_equal(answer, target) is not True
    assert not symbolic_equal(answer, target)


@pytest.mark.parametrize("formula", ["6\\sqrt{2}", "36\\pi", "\\frac{3\\pi}{2}", "2+\\sqrt{3}"])
@pytest.mark.parametrize(
    "unit", ["\\text{ cm}", "\\text{ cm}^2", " \\text{cm}^{2}", "\\,\\mathrm{cm}", "\\text{ units}", " cm"]
)
def test_a_unit_behind_a_formula_may_be_left_out_but_not_changed(formula, unit):
    assert fast_equal(formula + unit, formula)
    assert fast_equal(formula, formula + unit)
    assert not symbolic_equal(formula + unit, formula + "\\text{ kg}")


HOSTILE = [
    "9^{9^{9^9}}", "1" + "0" * 250 + "^(9)", "e^{e^{e^{e^{e}}}}", "(((((2^9)^9)^9)^9)^9)", "(10!)!", "1000000!",
    "10!!!!!", "\\binom{100000}{50000}", "(x+y+z)^{1000}", "2^{x^{99}}", "\\sum_{k=1}^{10^9} k", "\\int_0^1 e^{x^2} dx",
    "(" * 140 + "1" + ")" * 140, "{" * 140 + "1" + "}" * 140, "(1," * 70 + "2" + ")" * 70,
    "\\{" * 70 + "1" + "\\}" * 70,
    "\\sqrt{" * 40 + "2" + "}" * 40, "\\frac{1}{" * 25 + "2" + "}" * 25, "|" * 100, "x_" * 100, "x^" * 100,
    "\\pm " * 50, ",".join(["x"] * 140), "\\frac{0}{0}", "\\begin{pmatrix}" * 10, "=".join(["x"] * 140),
    "\u2248".join(["1"] * 140), "\u222a" * 250, "-" * 280 + "5", "\\tan(\\pi/2)", "1e999", "x.__class__",
    "__import__('os').getcwd()", "\\text{" * 30 + "5" + "}" * 30,
]  # fmt: skip


@pytest.mark.parametrize("formula", HOSTILE)
def test_what_cannot_be_computed_is_unequal_and_never_an_error(formula):
    for answer, target in ((formula, "\\sqrt{2}+x"), ("\\sqrt{2}+x", formula)):
        assert symbolic_equal(answer, target) is False


def test_deep_recursion_of_the_caller_is_no_error_either():
    code = (
        "import sys; from evalmesh.scoring.math_equal import fast_equal, symbolic_equal\n"
        "symbolic_equal('x+1', 'x+2'); sys.setrecursionlimit(130)\n"
        "deep = '(1,' * 60 + 'x' + ')' * 60\n"
        "print(fast_equal(deep, deep.replace('x', 'y')), symbolic_equal('(x+1)^2', 'x^2+2x+1+y'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
