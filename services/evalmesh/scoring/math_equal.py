"""Whether two answers to a mathematics problem are the same: exact where it is fast, symbolic where it must be.

Nothing of a model's text is ever evaluated as code: `formula` parses it and builds expressions from a short list of
functions.
"""

import re
from typing import Any

from evalmesh.scoring.extractors import is_mathematical
from evalmesh.scoring.formula import Unreadable, to_sympy
from evalmesh.scoring.numbers import Number, equal_numbers, read_number, strip_decoration

_MAX_CHARS = 300
_ASSIGNMENT = re.compile(r"^[A-Za-z](?:\([a-z]\))?\s*=(?!=)")
_MATRIX = re.compile(r"\\begin\{[pb]?matrix\}(.*)\\end\{[pb]?matrix\}", re.DOTALL)
_MAX_MATRIX_CHARS = 1000
_SUBSCRIPT = re.compile(r"_\{(\w)\}")
_SPACES = re.compile(r"\s+")
_LATEX_STYLE = (("\\dfrac", "\\frac"), ("\\tfrac", "\\frac"), ("\\left", ""), ("\\right", ""), ("\\!", ""), ("\\,", ""))


def fast_equal(answer: str, target: str) -> bool | None:
    """Equality in microseconds; `None` where only algebra can tell.

    Numbers are compared exactly (see `numbers.equal_numbers`); a unit may be left out but not changed.
    """
    if answer == target:
        return True
    wanted, given = read_number(target), read_number(answer)
    if wanted is not None and given is not None:
        return _equal_quantities(given, wanted)
    plain_answer, plain_target = _normalise(answer), _normalise(target)
    if plain_answer == plain_target:
        return True
    if "matrix}" in answer and "matrix}" in target:
        return None
    algebra = all(0 < len(text) <= _MAX_CHARS and is_mathematical(text) for text in (plain_answer, plain_target))
    return None if algebra else False


def _equal_quantities(given: Number, wanted: Number) -> bool | None:
    same = equal_numbers(given, wanted)
    if not wanted.unit or given.unit == wanted.unit:
        return same
    if same and len(wanted.unit) == 1:
        return None  # 6m may be a product
    return same and not given.unit


def symbolic_equal(answer: str, target: str) -> bool:
    """Equality by algebra. May take seconds: call it only in a process that may be killed."""
    fast = fast_equal(answer, target)
    if fast is not None:
        return fast
    if "matrix}" in answer:
        return _same_matrix(answer, target)
    left, right = _normalise(answer), _normalise(target)
    parts_left, parts_right = _elements(left), _elements(right)
    if parts_left is not None or parts_right is not None:
        return _same_elements(parts_left, parts_right)
    try:
        return _same_expression(left, right)
    except (Unreadable, ArithmeticError, TypeError, ValueError, RecursionError):
        return False


def _same_matrix(left: str, right: str) -> bool:
    a, b = _matrix_rows(left), _matrix_rows(right)
    if a is None or b is None or [len(row) for row in a] != [len(row) for row in b]:
        return False
    return all(symbolic_equal(x, y) for row, other in zip(a, b, strict=True) for x, y in zip(row, other, strict=True))


def _matrix_rows(text: str) -> list[list[str]] | None:
    match = _MATRIX.fullmatch(text.strip(" $"))
    if match is None or len(text) > _MAX_MATRIX_CHARS:
        return None
    rows = match[1].strip().removesuffix("\\\\").split("\\\\")
    return [[cell.strip() for cell in row.split("&")] for row in rows]


def _normalise(text: str) -> str:
    text = strip_decoration(text)
    for old, new in _LATEX_STYLE:
        text = text.replace(old, new)
    text = _SUBSCRIPT.sub(r"_\1", text)
    text = _SPACES.sub(" ", text.replace("$", "").replace("\u2212", "-")).strip()
    if text.lower() != text and text.isalpha() and len(text) > 1:
        text = text.lower()
    return text


def _elements(text: str) -> tuple[str, tuple[str, ...]] | None:
    r"""Brackets and members of a tuple, interval or set; `None` for a single expression."""
    text = text.replace("\\{", "{").replace("\\}", "}")
    kind, inner = "", text
    if len(text) > 2 and text[0] in "([{" and text[-1] in ")]}":
        kind, inner = text[0] + text[-1], text[1:-1]
    members: list[str] = []
    depth = start = 0
    for at, char in enumerate(inner):
        if char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
            if depth < 0:
                return None
        elif char == "," and depth == 0:
            members.append(inner[start:at])
            start = at + 1
    members.append(inner[start:])
    return (kind, tuple(members)) if len(members) > 1 else None


def _same_elements(left: tuple[str, tuple[str, ...]] | None, right: tuple[str, tuple[str, ...]] | None) -> bool:
    if left is None or right is None or len(left[1]) != len(right[1]):
        return False
    unordered = left[0] in {"", "{}"} and right[0] in {"", "{}"}
    if not unordered:
        return left[0] == right[0] and all(map(symbolic_equal, left[1], right[1]))
    remaining = list(right[1])
    for member in left[1]:
        match = next((other for other in remaining if symbolic_equal(member, other)), None)
        if match is None:
            return False
        remaining.remove(match)
    return True


def _same_expression(left: str, right: str) -> bool:
    if "=" in left and "=" in right:
        a, b = _difference(left), _difference(right)
        return _is_zero(a - b) or _is_zero(a + b)
    return _is_zero(to_sympy(_ASSIGNMENT.sub("", left)) - to_sympy(_ASSIGNMENT.sub("", right)))


def _difference(equation: str) -> Any:
    lhs, _, rhs = equation.partition("=")
    return to_sympy(lhs) - to_sympy(rhs)


def _is_zero(expression: Any) -> bool:
    import sympy  # noqa: PLC0415 - half a second that only this process should pay

    if expression == 0:
        return True
    symbols = sorted(expression.free_symbols, key=str)
    point = {symbol: sympy.Rational(37 + 11 * i, 29) for i, symbol in enumerate(symbols)}
    there = expression.subs(point).evalf(30)
    if there.is_number and there.is_finite and abs(there) > sympy.Float("1e-12"):
        return False
    return bool(sympy.simplify(expression) == 0)
