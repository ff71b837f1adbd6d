"""Whether two answers to a mathematics problem are the same: exact where it is fast, symbolic where it must be.

Both ways share one comparison. It takes lists, sets, pairs, intervals, unions and matrices apart and compares what is
in them; only for single expressions the fast way says "unknown" and the symbolic one asks `formula`.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from evalmesh.scoring.extractors import is_mathematical
from evalmesh.scoring.formula import same_formula
from evalmesh.scoring.markup import strip_decoration
from evalmesh.scoring.numbers import MAX_NUMBER_CHARS, MINUS_SIGNS, Number, equal_numbers, read_number, same_unit

_MAX_CHARS = 300
_MAX_MEMBERS = 40
_Algebra = Callable[[str, str], bool]

_MATRIX = re.compile(
    r"\[?\\begin\{(?:[pbB]|small)?(?:matrix|array)\}(?:\{[lcr| ]{0,40}\})?(.*)\\end\{(?:[pbB]|small)?(?:matrix|array)\}\]?",
    re.DOTALL,
)
_MAX_MATRIX_CHARS = 1000
_SUBSCRIPT = re.compile(r"_\{(\w+)\}")
_SPACES = re.compile(r"\s+")
_SIGN = re.compile(f"[{MINUS_SIGNS[1:]}]")
_STYLE = (
    ("\\dfrac", "\\frac"), ("\\tfrac", "\\frac"), ("\\{", "{"), ("\\}", "}"), ("\\lbrace", "{"), ("\\rbrace", "}"),
    ("\\$", ""), ("$", ""), ("\\cup", "∪"), ("\\in ", "∈"), ("\\in(", "∈("), ("\\in[", "∈["), ("\\pm", "±"),
    ("\\approx", "≈"), ("\\infty", "∞"), ("\\infinity", "∞"), ("\\pi", "π"), ("\\le ", "≤"), ("\\leq", "≤"),
    ("\\ge ", "≥"), ("\\geq", "≥"), ("\\neq", "≠"), ("\\ne ", "≠"),
)  # fmt: skip
_UNIT_TAIL = re.compile(
    r"(?<=[\s}\d)π])\s*(?P<unit>(?:square |sq |cubic )?(?:[cmdk]?m|k?g|mg|[mc]?l|°|in|ft|[A-Za-z]{3,20})(?:\^\{?[23]\}?|[²³])?)$"
)
_NO_UNITS = frozenset({"and", "infty", "infinity", "sqrt", "matrix", "array", "cases"})
_MEMBERSHIP = re.compile(r"^[A-Za-z]\s?∈\s?(?=[\[({])")
_NAME = re.compile(r"^\s*([A-Za-z]\w{0,2}|[A-Za-z]\([A-Za-z]\))\s*=(?![=<>])(?!.*=)")
_EQUALS = re.compile(r"(?<![<>!=:])=(?!=)")
_EQUATION = re.compile(rf"{_EQUALS.pattern}|≈")
_BASE = re.compile(r"[0-9A-Fa-f]+_\d+")
_WORDS = re.compile(r"(?<!\\)[A-Za-z]{3}|[^\W\d_]{2}(?<![\x00-\x7f])")
_SEPARATOR = re.compile(r"\s*(?:[,;\u3001]|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])|或|和)\s*|[∪]")
_STATED = re.compile(r"^(?!.*\bnot\b)[^\d=:]{1,80}?(?:\b(?:is|are|equals)|[:\uff1a=])\s*")


def fast_equal(answer: str, target: str) -> bool | None:
    """Equality in microseconds; `None` where only algebra can tell.

    Numbers are compared exactly (see `numbers.equal_numbers`); a unit may be left out but not changed.
    """
    return _compare(answer, target, None)


def symbolic_equal(answer: str, target: str) -> bool:
    """Equality by algebra. May take seconds: call it only in a process that may be killed."""
    try:
        return bool(_compare(answer, target, same_formula))
    except (RecursionError, MemoryError, OverflowError):
        return False


def _compare(answer: str, target: str, algebra: _Algebra | None) -> bool | None:
    if answer == target:
        return True
    if answer.isdecimal() and target.isdecimal() and len(answer) + len(target) <= MAX_NUMBER_CHARS:
        return int(answer) == int(target)
    wanted, given = read_number(target), read_number(answer)
    if wanted is not None and given is not None:
        return _equal_quantities(given, wanted)
    if "\\begin{" in answer and "\\begin{" in target:
        return _same_matrix(answer, target, algebra)
    left, right = _canonical(answer), _canonical(target)
    if left.key == right.key or (wanted is not None and _stated_number(left.text, wanted)):
        return True
    if left.unit and right.unit and left.unit != right.unit:
        return False
    if len(left.text) > _MAX_CHARS or len(right.text) > _MAX_CHARS:
        return False
    return _same_structure(left.text, right.text, algebra)


def _equal_quantities(given: Number, wanted: Number) -> bool | None:
    same = equal_numbers(given, wanted)
    if not wanted.unit or given.unit == wanted.unit:
        return same
    if same and len(wanted.unit) == 1 and wanted.unit.isalpha():
        return None  # 6m may be a product
    return same and not given.unit


@dataclass(frozen=True, slots=True)
class _Text:
    text: str
    key: str
    """Without blanks, and for prose without capitals."""
    unit: str


def _canonical(raw: str) -> _Text:
    text = strip_decoration(raw)
    for old, new in _STYLE:
        if old in text:
            text = text.replace(old, new)
    text = _SIGN.sub("-", _SUBSCRIPT.sub(r"_\1", text)).removeprefix("≈").strip()
    text = _MEMBERSHIP.sub("", _SPACES.sub(" ", text).replace(" ^", "^"))
    unit = ""
    found = _UNIT_TAIL.search(text[-40:])
    if found and found["unit"] not in _NO_UNITS and len(text) - len(found.group()) > 0:
        prefix = text[: len(text[:-40]) + found.start()].rstrip()
        if prefix and is_mathematical(prefix) and any(c.isdigit() for c in prefix):
            text, unit = prefix, same_unit(found["unit"])
    key = text.replace(" ", "")
    return _Text(text, key.casefold() if _WORDS.search(text) or (text.isalpha() and len(text) > 1) else key, unit)


def _stated_number(text: str, wanted: Number) -> bool:
    """Whether words lead up to the number, as in "the total is 18"."""
    found = _STATED.match(text[:160])
    number = read_number(text[found.end() :]) if found else None
    return number is not None and _equal_quantities(number, wanted) is True


def _same_structure(left: str, right: str, algebra: _Algebra | None) -> bool | None:
    if _BASE.fullmatch(left) or _BASE.fullmatch(right):
        return False  # same digits in the same base would have been the same text
    one, two = _members(left), _members(right)
    if any(len(side.parts) == 1 and _EQUATION.search(side.parts[0]) for side in (one, two)):
        return _same_equation(left, right, algebra)
    if len(one.parts) > 1 or len(two.parts) > 1 or "{}" in {one.kind, two.kind}:
        return _same_members(one, two, algebra)
    return _same_expression(left, right, algebra)


def _same_expression(left: str, right: str, algebra: _Algebra | None) -> bool | None:
    if not left or not right or not is_mathematical(left) or not is_mathematical(right):
        return False
    return None if algebra is None else algebra(left, right)


def _same_equation(left: str, right: str, algebra: _Algebra | None) -> bool | None:
    """An equation against a value: its value. Two equations: by their right sides where the left ones are the same."""
    if _EQUALS.search(left) and _EQUALS.search(right):
        (head, _, a), (other, _, b) = left.partition("="), right.partition("=")
        if head.replace(" ", "") == other.replace(" ", ""):
            return _compare(a, b, algebra)
        return _same_expression(left, right, algebra)
    pairs = [(a, b) for a in _values(left) for b in _values(right) if (a, b) != (left, right)]
    return _any(_compare(a, b, algebra) for a, b in pairs[:4])


def _values(equation: str) -> list[str]:
    """The last side of an equation, or the first where the last is a mere name; each side of an approximation."""
    sides = _EQUALS.split(equation)
    value = sides[0] if len(sides) > 1 and sides[-1].strip().isalpha() else sides[-1]
    about = [side for side in value.split("≈") if side.strip()]
    return about if sides[0].count("≈") == 0 or len(sides) == 1 else about[-1:]


@dataclass(frozen=True, slots=True)
class _Members:
    kind: str
    """The brackets around, "∪" for a union, "" for a mere list."""
    parts: tuple[str, ...]


def _members(text: str) -> _Members:
    r"""The members of a list, tuple, interval, set or union; `\pm` is two of them."""
    kind, inner = "", text
    if len(text) > 2 and text[0] in "([{" and _closing(text) == len(text) - 1:
        kind, inner = text[0] + text[-1], text[1:-1]
    if kind != "()" and "±" in inner and not any(mark in inner for mark in ",;"):
        return _Members("", tuple(inner.replace("±", sign).removeprefix("+") for sign in "+-"))
    depth = start = 0
    depths = []
    for char in inner:
        depth -= char in ")]}"
        depths.append(depth)
        depth += char in "([{"
    parts: list[str] = []
    union = False
    for found in _SEPARATOR.finditer(inner):
        if depths[found.start()] == 0:
            union = union or found.group() == "∪"
            parts.append(inner[start : found.start()])
            start = found.end()
    parts = [part.strip() for part in (*parts, inner[start:]) if part.strip()]
    if len(parts) < 2 and kind != "{}":
        return _Members("", (text,))
    names = [found[1] if (found := _NAME.match(part)) else "" for part in parts]
    if not kind and all(names) and len(set(names)) == len(parts) > 1:
        kind = "="
    if any("±" in part for part in parts):
        parts = [value for part in parts for value in _members(part).parts]
    return _Members("∪" if union else kind, tuple(parts))


def _closing(text: str) -> int:
    """Where the bracket closes that the text begins with."""
    depth = 0
    for at, char in enumerate(text):
        depth += (char in "([{") - (char in ")]}")
        if depth == 0:
            return at
    return -1


def _same_members(left: _Members, right: _Members, algebra: _Algebra | None) -> bool | None:
    if len(left.parts) != len(right.parts) or len(left.parts) > _MAX_MEMBERS:
        return False
    kinds = {left.kind, right.kind}
    if "=" in kinds and len(kinds) > 1:  # x = 3, y = 4 has an order, as (3, 4) has
        kinds, left, right = {"()"} if kinds <= {"=", "", "()"} else kinds, _unnamed(left), _unnamed(right)
    if len(kinds) == 1 and kinds <= {"()", "[]", "(]", "[)"}:
        return _all(_compare(a, b, algebra) for a, b in zip(left.parts, right.parts, strict=True))
    if kinds <= {"", "{}", "="} or kinds == {"∪"}:
        return _same_in_any_order(left.parts, right.parts, algebra)
    return False


def _unnamed(members: _Members) -> _Members:
    return _Members(members.kind, tuple(_NAME.sub("", part) for part in members.parts))


def _same_in_any_order(left: Sequence[str], right: Sequence[str], algebra: _Algebra | None) -> bool | None:
    remaining = list(right)
    undecided = False
    for member in left:
        outcomes = [_compare(member, other, algebra) for other in remaining]
        if True in outcomes:
            del remaining[outcomes.index(True)]
        elif None in outcomes:
            undecided = True
        else:
            return False
    return None if undecided else True


def _any(outcomes: Iterable[bool | None]) -> bool | None:
    found = list(outcomes)
    return True if True in found else None if None in found else False


def _all(outcomes: Iterable[bool | None]) -> bool | None:
    found = list(outcomes)
    return False if False in found else None if None in found else True


def _same_matrix(left: str, right: str, algebra: _Algebra | None) -> bool | None:
    a, b = _matrix_rows(left), _matrix_rows(right)
    if a is None or b is None or [len(row) for row in a] != [len(row) for row in b]:
        return False
    return _all(_compare(x, y, algebra) for row, other in zip(a, b, strict=True) for x, y in zip(row, other, strict=True))


def _matrix_rows(text: str) -> list[list[str]] | None:
    if "\\\\begin" in text:
        text = text.replace("\\\\", "\\")
    text = text.replace("\\left", "").replace("\\right", "").strip(" $").strip("()")
    match = _MATRIX.fullmatch(text.strip())
    if match is None or len(text) > _MAX_MATRIX_CHARS:
        return None
    rows = match[1].strip().removesuffix("\\\\").split("\\\\")
    return [[cell.strip() for cell in row.split("&")] for row in rows]
