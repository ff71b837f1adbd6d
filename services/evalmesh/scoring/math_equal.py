"""Whether two answers to a mathematics problem are the same: exact where it is fast, symbolic where it must be.

Both ways share one comparison. It takes lists, sets, pairs, intervals, unions and matrices apart and compares what is
in them; only for single expressions the fast way says "unknown" and the symbolic one asks `formula`.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from evalmesh.scoring.formula import same_formula
from evalmesh.scoring.markup import is_mathematical, strip_decoration
from evalmesh.scoring.numbers import MAX_NUMBER_CHARS, MINUS_SIGNS, Number, equal_numbers, read_number, split_unit

_MAX_CHARS = 300
_MAX_MEMBERS = 40
_Algebra = Callable[[str, str], bool]

_MATRIX = re.compile(
    r"\[?\\begin\{(?:[pbB]|small)?(?:matrix|array)\}(?:\{[lcr| ]{0,40}\})?(.*)"
    r"\\end\{(?:[pbB]|small)?(?:matrix|array)\}\]?",
    re.DOTALL,
)
_MAX_MATRIX_CHARS = 1000
_SUBSCRIPT = re.compile(r"_\{(\w+)\}")
_SPACES = re.compile(r"\s+")
_SIGN = re.compile(f"[{MINUS_SIGNS[1:]}]")
_COMMANDS = {
    "dfrac": "\\frac", "tfrac": "\\frac", "cfrac": "\\frac", "lbrace": "{", "rbrace": "}", "cup": "\u222a",
    "in": "∈", "pm": "±", "approx": "≈", "infty": "∞", "pi": "π", "le": "≤", "leq": "≤", "leqslant": "≤",
    "ge": "≥", "geq": "≥", "geqslant": "≥", "lt": "<", "gt": ">", "neq": "≠", "ne": "≠", "{": "{", "}": "}",
    "$": "",
}  # fmt: skip
_COMMAND = re.compile(r"\\(?:([a-z]+)(?![A-Za-z])|([{}$]))")
_INTERVALS = frozenset({"()", "[]", "(]", "[)"})
_RELATIONS = frozenset("<>≤≥")
_MEMBERSHIP = re.compile(r"^[A-Za-z]\s?∈\s?(?=[\[({])")
_NAME = re.compile(r"^\s*([A-Za-z]\w{0,2}(?:_?\{\w+\})?|[A-Za-z]\([A-Za-z]\))\s*=(?![=<>])(?!.*=)")
_EQUALS = re.compile(r"(?<![<>!=:])=(?!=)")
_EQUATION = re.compile(rf"{_EQUALS.pattern}|≈")
_BASE = re.compile(r"[0-9A-Fa-f]+\s?_\s?(?:\d+|\{\s*\d+\s*\})")
_WORDS = re.compile(r"(?<!\\)[A-Za-z]{3}|[^\W\d_]{2}(?<![\x00-\x7f])")
_SEPARATOR = re.compile(r"\s*(?:[,;\u3001]|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])|或|和)\s*|[\u222a]")
_STATED = re.compile(r"^(?!.*\bnot\b)[^\d=:]{1,80}?(?:\b(?:is|are|equals)|[:\uff1a=])\s*")


def fast_equal(answer: str, target: str) -> bool | None:
    """Equality in microseconds; `None` where only algebra can tell.

    Numbers are compared exactly (see `numbers.equal_numbers`); a unit may be left out but not changed.
    """
    try:
        return _compare(answer, target, None)
    except RecursionError:
        return False


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
    left, right = _canonical(answer, given), _canonical(target, wanted)
    if left.unit and right.unit and left.unit != right.unit:
        return False
    return _same_text(left, right, algebra)


def _same_text(left: "_Text", right: "_Text", algebra: _Algebra | None) -> bool | None:
    if left.key == right.key or (right.number is not None and _stated_number(left.text, right.number)):
        return True
    if len(left.text) > _MAX_CHARS or len(right.text) > _MAX_CHARS:
        return False
    same = _same_structure(left.value, right.value, algebra)
    if same is not False or (left.value, right.value) == (left.text, right.text) or "," not in left.text + right.text:
        return same
    return _same_structure(left.text, right.text, algebra)  # 100,200 may be a list


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
    number: Number | None
    unit: str

    @property
    def key(self) -> str:
        """Without blanks, and for prose without capitals."""
        key = _SUBSCRIPT.sub(r"_\1", self.text.replace(" ", ""))
        return key.casefold() if _WORDS.search(self.text) or (key.isalpha() and len(key) > 1) else key

    @property
    def value(self) -> str:
        return self.text if self.number is None else str(self.number.value)


def _canonical(raw: str, number: Number | None) -> _Text:
    text = strip_decoration(raw)
    text = _COMMAND.sub(lambda found: _COMMANDS.get(found[1] or found[2], found[0]), text).replace("$", "")
    text = _SIGN.sub("-", text).removeprefix("≈").strip()
    text = _MEMBERSHIP.sub("", _SPACES.sub(" ", text).replace(" ^", "^"))
    formula, unit = split_unit(text)
    if len(unit) == 1 and unit.isalpha() and unit + "}" not in raw:
        return _Text(text, number, "")  # 36 pi m may be a product
    return _Text(formula, number, unit)


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
    if {one.kind, two.kind} & _INTERVALS and _RELATIONS.intersection(left + right):
        return _same_expression(left, right, algebra)
    if len(one.parts) > 1 or len(two.parts) > 1:
        return _same_members(one, two, algebra)
    return _same_expression(one.parts[0], two.parts[0], algebra)


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
    value = sides[0] if sides[-1].strip().isalpha() and not sides[0].strip().isalpha() else sides[-1]
    about = [side for side in value.split("≈") if side.strip()]
    return about if sides[0].count("≈") == 0 or len(sides) == 1 else about[-1:]


@dataclass(frozen=True, slots=True)
class _Members:
    kind: str
    """The brackets around, "\u222a" for a union, "" for a mere list."""
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
            union = union or found.group() == "\u222a"
            parts.append(inner[start : found.start()])
            start = found.end()
    parts = [part.strip() for part in (*parts, inner[start:]) if part.strip()]
    if len(parts) < 2:
        return _members(inner.strip()) if kind == "{}" else _Members("", (text,))
    names = [_NAME.findall(part)[:1] for part in parts]
    if not kind and all(names) and len({name for (name,) in names}) == len(parts):
        kind = "="
    if any("±" in part for part in parts):
        parts = [value for part in parts for value in _members(part).parts]
    return _Members("\u222a" if union else kind, tuple(parts))


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
    if len(kinds) == 1 and kinds <= _INTERVALS:
        return _all(_compare(a, b, algebra) for a, b in zip(left.parts, right.parts, strict=True))
    if kinds <= {"", "{}", "="} or kinds == {"\u222a"}:
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
    cells = ((x, y) for row, other in zip(a, b, strict=True) for x, y in zip(row, other, strict=True))
    return _all(_compare(x, y, algebra) for x, y in cells)


def _matrix_rows(text: str) -> list[list[str]] | None:
    if "\\\\begin" in text:
        text = text.replace("\\\\", "\\")
    text = text.replace("\\left", "").replace("\\right", "").strip(" $").strip("()")
    match = _MATRIX.fullmatch(text.strip())
    if match is None or len(text) > _MAX_MATRIX_CHARS:
        return None
    rows = match[1].strip().removesuffix("\\\\").split("\\\\")
    return [[cell.strip() for cell in row.split("&")] for row in rows]
