r"""From LaTeX or plain formulas to sympy expressions, without evaluating text as code.

A formula is cut into tokens, missing multiplication signs are put in, Python's own parser builds the tree, and only
the node kinds and functions listed here become sympy objects. sympy's own `parse_expr` calls `eval`, so it is not used.
"""

import ast
import operator
import re
from collections.abc import Callable
from typing import Any

_MAX_CHARS = 300
_MAX_POWER_BITS = 20_000
_MAX_EXPONENT = 2_000
_TOKEN = re.compile(r"\s*(?:(\d+(?:\.\d+)?|\.\d+)|([A-Za-zπ∞θα]+)|(\*\*|[-+*/^(){}\[\]!|]))")
_FRAC = re.compile(r"\\[dt]?frac\s*(?:(\d)\s*(\d)|(\d)\s*(?=\{))")
_FUNCTIONS = frozenset({"sqrt", "root", "sin", "cos", "tan", "log", "ln", "exp", "abs", "asin", "acos", "atan"})
_CONSTANTS = frozenset({"pi", "oo", "E", "I"})
_REPLACEMENTS = (
    ("\\cdot", "*"), ("\\times", "*"), ("\\div", "/"), ("\u00d7", "*"), ("·", "*"), ("÷", "/"), ("\u2212", "-"),
    ("\\pi", " pi "), ("π", " pi "), ("\\infty", " oo "), ("∞", " oo "), ("\\%", ""), ("%", ""), ("\\ ", " "),
    ("\\left", ""), ("\\right", ""), ("\\,", ""), ("\\!", ""), ("\\;", " "), ("\\$", ""), ("$", ""),
    ("^\\circ", ""), ("^{\\circ}", ""), ("√", "\\sqrt"),
)  # fmt: skip


class Unreadable(ValueError):
    """The text is no formula this module understands, or one too big to compute."""


def to_sympy(text: str) -> Any:
    """The sympy expression a formula stands for; raises `Unreadable`."""
    if len(text) > _MAX_CHARS:
        raise Unreadable("The formula is too long.")
    source = " ".join(_tokens(_plain(text)))
    try:
        tree = ast.parse(source, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise Unreadable(source) from error
    return _build(tree.body)


def _plain(text: str) -> str:
    text = _digits_without_commas(text)
    for old, new in _REPLACEMENTS:
        text = text.replace(old, new)
    text = _FRAC.sub(lambda m: f"(({m[1]})/({m[2]}))" if m[1] else f"\\frac{{{m[3]}}}", text)
    for _ in range(20):
        at = text.rfind("\\frac")
        if at < 0:
            break
        upper, middle = _group(text, at + 5)
        lower, end = _group(text, middle)
        text = f"{text[:at]}(({upper})/({lower})){text[end:]}"
    for _ in range(20):
        at = text.rfind("\\sqrt")
        if at < 0:
            break
        text = text[:at] + _root(text, at + 5)
    return text.replace("\\", " ").replace("{", "(").replace("}", ")").replace("[", "(").replace("]", ")")


def _root(text: str, at: int) -> str:
    index = ""
    if text[at : at + 1] == "[":
        close = text.find("]", at)
        if close < 0:
            raise Unreadable(text)
        index, at = text[at + 1 : close], close + 1
    inner, end = _group(text, at)
    return (f"((({inner}))^(1/({index})))" if index else f"(sqrt({inner}))") + text[end:]


def _digits_without_commas(text: str) -> str:
    return re.sub(r"(?<=\d)(?:,|\{,\})(?=\d{3}(?!\d))", "", text)


def _group(text: str, at: int) -> tuple[str, int]:
    """The argument that starts at a place: a braced or bracketed group, or one character or number."""
    while text[at : at + 1] == " ":
        at += 1
    opening = text[at : at + 1]
    if opening not in {"{", "("}:
        match = re.compile(r"\d+|[A-Za-z]").match(text, at)
        if match is None:
            raise Unreadable(text)
        return match.group(), match.end()
    closing = "}" if opening == "{" else ")"
    depth = 0
    for end in range(at, len(text)):
        depth += (text[end] == opening) - (text[end] == closing)
        if depth == 0:
            return text[at + 1 : end], end + 1
    raise Unreadable(text)


def _tokens(text: str) -> list[str]:
    tokens: list[str] = []
    at = 0
    text = text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise Unreadable(text)
        at = match.end()
        for piece in _split_names(match):
            if tokens and _needs_times(tokens[-1], piece):
                tokens.append("*")
            tokens.append("**" if piece == "^" else piece)
    return tokens


def _split_names(match: re.Match[str]) -> list[str]:
    number, name, sign = match.groups()
    if number:
        return [number if "." in number else (number.lstrip("0") or "0")]
    if sign:
        if sign in "!|":
            raise Unreadable(sign)
        return [sign]
    if name in _FUNCTIONS or name in _CONSTANTS:
        return [name]
    if name == "i":
        return ["I"]
    return ["E" if letter == "e" else letter for letter in name]


def _needs_times(left: str, right: str) -> bool:
    ends_value = left == ")" or left[0].isalnum() or left[0] == "."
    starts_value = right == "(" or right[0].isalnum() or right[0] == "."
    return ends_value and starts_value and not (left in _FUNCTIONS and right == "(")


def _power(base: Any, exponent: Any) -> Any:
    if exponent.is_number:
        size = abs(exponent.evalf())
        if not size.is_comparable or size > _MAX_EXPONENT:
            raise Unreadable("The exponent is too large.")
        if base.is_Rational and size * max(abs(int(base.p)), int(base.q)).bit_length() > _MAX_POWER_BITS:
            raise Unreadable("The power is too large.")
    return base**exponent


def _call(name: str, argument: Any) -> Any:
    import sympy  # noqa: PLC0415 - as above

    if name == "exp" and argument.is_number and abs(argument.evalf()) > _MAX_EXPONENT:
        raise Unreadable("The exponent is too large.")
    return getattr(sympy, {"abs": "Abs", "ln": "log", "root": "sqrt"}.get(name, name))(argument)


_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: _power,
}


def _build(node: ast.expr) -> Any:
    import sympy  # noqa: PLC0415 - half a second that only a killable process should pay

    match node:
        case ast.Constant(value=int() | float()):
            return sympy.Rational(str(node.value))
        case ast.Name(id=name):
            return getattr(sympy, name) if name in _CONSTANTS else sympy.Symbol(name)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
            return -_build(operand) if isinstance(sign, ast.USub) else _build(operand)
        case ast.BinOp(op=op, left=left, right=right) if type(op) in _BINARY:
            return _BINARY[type(op)](_build(left), _build(right))
        case ast.Call(func=ast.Name(id=name), args=[argument]) if name in _FUNCTIONS:
            return _call(name, _build(argument))
        case _:
            raise Unreadable(ast.dump(node)[:80])
