r"""Whether two formulas have the same value, by the parser of latex2sympy2-extended and the comparison of math-verify.

Plain notation is turned into LaTeX first. Nothing is evaluated as code, decimals become exact fractions, and what would
take for ever to compute is refused before it is. Both libraries load at first use, which takes a second: call this only
in a process that may be killed.
"""

import re
from functools import lru_cache
from typing import Any

_MAX_CHARS = 300
_MAX_DEPTH = 6
"""Of brackets: the parser's time doubles with each level."""
_MAX_POWER_BITS = 20_000
_MAX_EXPONENT = 2_000
_DIGITS = 15
"""Of a numeric comparison, which only decides where neither side is a number."""
_UNREADABLE = re.compile(r"\d\s+\d|:|\\(?:prod|sum|i*int|lim|text)(?![a-z])|binom.*\d{4}|(?:[_^]\s*\w\s*){3}")
"""Two numbers side by side are a question and no product; a colon is a ratio or a time; the rest may never end."""
_GROUPS = re.compile(r"(?<=\d)[,' \u00a0\u2009\u202f](?=\d{3}(?!\d))")
_SIGNS = {
    "\u00d7": r"\times ", "·": r"\cdot ", "÷": r"\div ", "π": r"\pi ", "√": r"\sqrt ", "∞": r"\infty ", "θ": r"\theta ",
    "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "\u222a": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "\u03b1": r"\alpha ",
    "²": "^{2}", "³": "^{3}", "°": "", "\\%": "", "%": "", "**": "^", "<=": r"\le ", ">=": r"\ge ",
    "\\lvert": "|", "\\rvert": "|", "\\vert": "|", "\\mid": "|",
}  # fmt: skip
"""What `math_equal` leaves of signs and commands, as the parser knows them."""
_SIGN = re.compile("|".join(re.escape(sign) for sign in sorted(_SIGNS, key=len, reverse=True)))
_NAMES = re.compile(
    r"(?<![\\A-Za-z])(sqrt|a?(?:rc)?(?:sin|cos|tan)|cot|sec|csc|log|ln|exp|abs|pi|infty|infinity|oo)(?![A-Za-z])"
)
_LATEX_NAMES = {"infinity": "infty", "oo": "infty", "asin": "arcsin", "acos": "arccos", "atan": "arctan"}
_BRACKETED = re.compile(r"\\sqrt\s*\(|\^\s*\(|\\abs\s*\(")
_LONG_EXPONENT = re.compile(r"\^\s*(-?\d+|-[A-Za-z])")
_INDEX = re.compile(r"_\s*(\d+)")
_LONG_ROOT = re.compile(r"\\sqrt\s*(\d+)")
_PLAIN = re.compile(r"-?[0-9]{1,40}(?:/[0-9]{1,40}|\.[0-9]{1,40})?")
_BARE_FRACTION = re.compile(r"\\frac\s*(\d)\s*(\d)")
_FACTOR = re.compile(r"(?<=[\d)])(?=\()")


class Unreadable(ValueError):
    """The text is no formula, or one too big to compute."""


def same_formula(answer: str, target: str) -> bool:
    """Whether both have the same value; what cannot be read or computed has none."""
    try:
        return _same(_parse(answer), _parse(target))
    except Exception:  # noqa: BLE001 - parser and algebra raise anything on hostile text, from Exception to MemoryError
        return False


def _same(answer: Any, target: Any) -> bool:
    import sympy  # noqa: PLC0415 - as above
    from math_verify.grader import sympy_expr_eq  # noqa: PLC0415 - a second that only a killable process should pay

    if isinstance(answer, sympy.Expr) and isinstance(target, sympy.Expr) and _differ_somewhere(answer - target):
        return False
    return bool(sympy_expr_eq(target, answer, _DIGITS, _DIGITS, allow_set_relation_comp=True))


def _differ_somewhere(difference: Any) -> bool:
    """Whether a difference is clearly no zero at one point: faster than algebra, and most wrong answers end here."""
    import sympy  # noqa: PLC0415 - as above

    symbols = sorted(difference.free_symbols, key=str)
    there = difference.subs({symbol: sympy.Rational(37 + 11 * i, 29) for i, symbol in enumerate(symbols)}).evalf(30)
    return bool(there.is_number and there.is_finite and abs(there) > sympy.Float("1e-12"))


@lru_cache(maxsize=256)
def _parse(text: str) -> Any:
    import sympy  # noqa: PLC0415 - as above
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig, latex2sympy  # noqa: PLC0415 - as above
    from latex2sympy2_extended.math_normalization import NormalizationConfig  # noqa: PLC0415 - as above

    if _PLAIN.fullmatch(text):
        return sympy.Rational(text)
    tidy = NormalizationConfig(malformed_operators=True, boxed="none")
    expression = latex2sympy(
        to_latex(text),
        is_real=True,
        normalization_config=tidy,
        conversion_config=ConversionConfig(lowercase_symbols=False),
    )
    _bits(expression)
    exact = {number: sympy.Rational(str(number)) for number in expression.atoms(sympy.Float)}
    return expression.xreplace(exact | {symbol: sympy.I for symbol in expression.free_symbols if symbol.name == "i"})


def _bits(node: Any) -> float:
    """About how many binary digits the value has; raises `Unreadable` where computing it would take too long."""
    import sympy  # noqa: PLC0415 - as above

    inner = [_bits(argument) for argument in node.args]
    bits = max(inner, default=1.0)
    if node.is_Integer or node.is_Rational:
        bits = float(max(abs(int(node.p)), int(node.q)).bit_length())
    elif isinstance(node, sympy.Pow | sympy.exp):
        power = inner[-1]
        if power > _MAX_EXPONENT.bit_length():
            raise Unreadable("The exponent is too large.")
        bits = (inner[0] if node.is_Pow else 2.0) * 2.0**power
    elif isinstance(node, sympy.factorial | sympy.binomial):
        if bits > _MAX_EXPONENT.bit_length():
            raise Unreadable("The factorial is too large.")
        bits *= 2.0**bits
    elif node.is_Mul or node.is_Add:
        bits = sum(inner)
    if bits > _MAX_POWER_BITS:
        raise Unreadable("The value is too large.")
    return bits


def to_latex(text: str) -> str:
    """The LaTeX of a formula in plain or LaTeX notation; raises `Unreadable`."""
    if len(text) > _MAX_CHARS:
        raise Unreadable("The formula is too long.")
    text = _SIGN.sub(lambda found: _SIGNS[found.group()], _GROUPS.sub("", text))
    text = _NAMES.sub(lambda found: "\\" + _LATEX_NAMES.get(found[1], found[1]) + " ", text)
    text = _INDEX.sub(r"_{\1}", text)
    text = _FACTOR.sub(r"\\cdot ", _braced(text))
    text = _BARE_FRACTION.sub(r"\\frac{\1}{\2}", _LONG_ROOT.sub(r"\\sqrt{\1}", _LONG_EXPONENT.sub(r"^{\1}", text)))
    if _UNREADABLE.search(text) or _depth(text) > _MAX_DEPTH:
        raise Unreadable(text)
    return text.strip()


def _braced(text: str) -> str:
    r"""`\sqrt(x)` as `\sqrt{x}`, `x^(2)` as `x^{2}`, `\abs(x)` as `|x|`."""
    at = 0
    while match := _BRACKETED.search(text, at):
        depth, end = 1, match.end()
        while end < len(text) and depth:
            depth += (text[end] == "(") - (text[end] == ")")
            end += 1
        if depth:
            raise Unreadable(text)
        head = match.group()[:-1].rstrip()
        opening, closing = ("|", "|") if head == "\\abs" else (head + "{", "}")
        text = text[: match.start()] + opening + text[match.end() : end - 1] + closing + text[end:]
        at = match.start() + 1
    return text


def _depth(text: str) -> int:
    """How deep brackets are nested, braces that are no argument of a command among them."""
    opened: list[bool] = []
    depth = deepest = 0
    for before, char in zip(" " + text, text, strict=False):
        if char in "([{":
            opened.append(char != "{" or not (before.isalpha() or before in "}^_]"))
            depth += opened[-1]
        elif char in ")]}" and opened:
            depth -= opened.pop()
        deepest = max(deepest, depth)
    return deepest
