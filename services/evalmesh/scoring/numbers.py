r"""Reads numbers the way people and models write them, as exact fractions.

Understood: thousands separators of any kind, signs and their words, currencies, percent, units after the number,
`\frac{a}{b}`, `a/b`, mixed numbers, scientific notation, LaTeX around any part, scale words (thousand ... trillion, 万,
млн). How the debatable ones are decided, and why, is told in docs/guides/how-numbers-are-read.md.
"""

import re
from dataclasses import dataclass
from fractions import Fraction

from evalmesh.scoring.markup import CURRENCY_SIGNS, is_mathematical, strip_decoration, strip_emphasis, strip_wrappers

MAX_NUMBER_CHARS = 120
"""Longer texts are not read as one number; it also keeps integers far below what is slow to convert."""

MINUS_SIGNS = "-\u2212\u2010\u2011\u2013\ufe63"
"""Hyphen, minus, en dash and their like; the em dash is none, since it parts sentences."""
_SEPARATOR = r"(?:\{,\}|,\\!|\\[,!;: ]|[,'~ \u2019\uff0c\u00a0\u2007\u2009\u202f])"
_INDIAN = r"\d{1,2}(?:,\d{2}(?=,))++,\d{3}(?!\d)"
_GROUPED = rf"\d{{1,3}}(?P<comma>{_SEPARATOR})\d{{3}}(?:(?P=comma)\d{{3}})*+(?!\d)"
_UNSIGNED = rf"(?:{_GROUPED}|{_INDIAN}|\d++)(?:\.\d++)?|\.\d++"
_EXPONENT = r"[eE][-+]?\d{1,3}(?!\d)|[ ]?(?:\\times|\\cdot|[\u00d7·*x])[ ]?10\^(?:\{[-+]?\d{1,3}\}|[-+]?\d{1,3})"
_FRAC = r"\\[dt]?frac[ ]?(?:\{[ ]?-?\d{1,40}[ ]?\}|\d)[ ]?(?:\{[ ]?\d{1,40}[ ]?\}|\d(?!\d))"
_CODES = "Rs|INR|USD|EUR|GBP|JPY|CNY|RMB|CHF|AUD|CAD|KRW|RUB"
_CURRENCY = rf"(?:[A-Z]{{0,3}}\\?\$|[{CURRENCY_SIGNS}]|(?:{_CODES})(?![A-Za-z])\.?)[ ]{{0,2}}"
NUMBER = re.compile(
    rf"""
    (?<![A-Za-z_\d)\]}}^\\]) (?<!\^[-{{]) (?<!\^\{{-) (?<!_\{{)   # no digits of names, exponents and indices
    (?P<sign>[-+{MINUS_SIGNS[1:]}]|[Nn]egative[ ]|[负負]|マイナス|마이너스[ ]?|[Мм]инус[ ]|(?<!\d[ ])[Mm]inus[ ])?
    (?:{_CURRENCY} (?P<sign2>[{MINUS_SIGNS}]?))?
    (?:
        (?P<base>{_UNSIGNED})
        (?: (?P<exp>{_EXPONENT})
          | [ ]?/[ ]?(?P<den>\d{{1,40}}(?![\d.]))
          | [ ]?(?P<mixfrac>{_FRAC})
          | (?:[ ]and)?[ ](?P<mixnum>\d{{1,40}})/(?P<mixden>\d{{1,40}}) (?![\d.])
        )?
      | (?P<frac>{_FRAC})
    )
    (?P<percent>[ ]?\\?[%\u066a])?
    """,
    re.VERBOSE,
)
"""One number token. Every part is bounded or possessive, so a search is linear in the text."""

_FRAC_PARTS = re.compile(r"\{[ ]?(-?\d+)[ ]?\}|(\d)")
_UNIT_CHARS = r"[^\d+*=<>^_\\{}|~&#@\u00b1\u00d7\u00f7!?:;,\n]"
_UNIT = re.compile(
    rf"{_UNIT_CHARS}{{0,60}}(?:(?:(?<=[A-Za-z.])[ ]?\^\{{?-?[1-3]\}}?|(?<=m)[23]){_UNIT_CHARS}{{0,40}})?"
)
_UNIT_POWER = re.compile(r"\^?\{?(-?[1-3])\}?$")
_PLAIN = re.compile(r"-?\d{1,40}")
_SPACED_SIGN = re.compile(rf"^([{MINUS_SIGNS}])\s+")
_BRACKETED = re.compile(r"^[(\[{]\s*([^()\[\]{}]{1,60})[)\]}](?=\s|$)")
_DIGIT = re.compile(r"\d")
_NOT_DIGITS = re.compile(r"[^\d.]")
_ABOUT = re.compile(
    r"(?:\\approx|\\sim(?:eq)?|[≈≅~]|约|大约|大概|約|(?i:about|approximately|approx\.?|roughly|around|exactly)\b)\s*"
)
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "тыс": 10**3, "млн": 10**6,
           "млрд": 10**9}  # fmt: skip
_SCALE_SIGNS = {"万": 10**4, "萬": 10**4, "만": 10**4, "亿": 10**8, "億": 10**8, "억": 10**8}
_UNIT_TAIL = re.compile(
    r"(?<=[\s}\d)π])\s*((?:(?:square|sq|cubic) )?(?:[cmdk]?m|k?g|mg|[mc]?l|°|in|ft|[A-Za-z]{3,20})"
    r"(?:[ ]?\^[ ]?\{?[23]\}?|[²³])?)$"
)
_NO_UNITS = frozenset({
    "infty", "infinity", "matrix", "array", "cases", "and", "or", "to", "plus", "minus", "times", "over",
    "divided", "mod", "sqrt", "sin", "cos", "tan", "cot", "sec", "csc", "log", "exp", "pi", "abs", "choose",
})  # fmt: skip
_SHORT_UNITS = frozenset({
    "A", "Ah", "C", "C°", "F", "F°", "GB", "GW", "Hz", "J", "K", "L", "MB", "MW", "N", "Nm", "Pa", "Rs", "TB",
    "US", "V", "W", "Wh", "am", "cc", "cl", "cm", "dl", "dm", "ft", "g", "g.", "gal", "h", "h.", "ha", "hl",
    "hr", "hrs", "in", "kB", "kJ", "kL", "kV", "kW", "kg", "km", "kr", "l", "lb", "m", "m.", "mL", "mg", "mi",
    "min", "ml", "mm", "mo", "ms", "nd", "nm", "oz", "pm", "pt", "px", "qt", "rd", "s", "s.", "sec", "st", "th",
    "wk", "yd", "yr", "°", "°C", "°F",
})  # fmt: skip
_SAME_UNITS = {
    "degree": "°", "dollar": "$", "usd": "$", "meter": "m", "metre": "m", "centimeter": "cm", "centimetre": "cm",
    "kilometer": "km", "kilometre": "km", "millimeter": "mm", "kilogram": "kg", "gram": "g", "hour": "h", "hr": "h",
    "minute": "min", "second": "s", "sec": "s", "inche": "in", "inch": "in", "foot": "ft", "feet": "ft", "pound": "lb",
    "liter": "l", "litre": "l", "euro": "€", "eur": "€", "cent": "¢", "元": "元", "yuan": "元",
}  # fmt: skip
_PERCENT_WORDS = frozenset({"percent", "per cent", "percentage points", "pct"})
_PERCENT = Fraction(1, 100)
_WINDOWS = (256, 4096)
"""Ends of the text searched for its last number before all of it is."""
_WINDOW_MARGIN = 130
"""A number that starts this close to the cut may have begun before it."""
_FLOAT_NOISE_DIGITS = 14
_FLOAT_NOISE = Fraction(1, 10**12)


@dataclass(frozen=True, slots=True)
class Number:
    """A number as written."""

    value: Fraction
    """Scale words applied; a percent sign is not: `50%` has the value 50."""
    unit: str = ""
    percent: bool = False
    noisy: bool = False
    """Written with so many decimals that it came out of floating point arithmetic."""


def read_number(text: str) -> Number | None:
    """The number that the whole text stands for, with its unit; `None` when it is anything else."""
    if len(text) > MAX_NUMBER_CHARS:
        return None
    if _PLAIN.fullmatch(text):
        return Number(Fraction(int(text)))
    cleaned = strip_decoration(text)
    match = NUMBER.match(cleaned) or _match_behind_noise(cleaned)
    if match is None:
        return None
    value, rest = token_value(match), match.string[match.end() :]
    if value is None or (rest and not _is_unit(rest)):
        return None
    words = rest.strip(" .()[]/")
    first, _, others = words.partition(" ")
    scale = _SCALES.get(first.lower().rstrip(".")) or _SCALE_SIGNS.get(first[:1])
    if scale is not None:
        value, words = value * scale, first[1:] if first[:1] in _SCALE_SIGNS else others
    percent = match["percent"] is not None or words.lower() in _PERCENT_WORDS
    base = match["base"] or ""
    noisy = "." in base and len(_NOT_DIGITS.sub("", base)) > _FLOAT_NOISE_DIGITS
    return Number(value, "" if percent else same_unit(words), percent=percent, noisy=noisy)


def _match_behind_noise(text: str) -> re.Match[str] | None:
    """The number behind "about", in brackets of its own or with a blank after its sign."""
    text = _ABOUT.sub("", text, count=1) if _ABOUT.match(text) else text
    return NUMBER.match(_SPACED_SIGN.sub(r"\1", _BRACKETED.sub(r"\1", text)))


def parse_number(text: str) -> Fraction | None:
    """The exact value of a text that is one number; units and a percent sign are dropped (`50%` is 50)."""
    number = read_number(text)
    return None if number is None else number.value


def equal_numbers(left: Number, right: Number) -> bool:
    """Exact equality, with two allowances.

    Percent: `50%` equals both 50 (the unit may be left out) and 0.5 (what it means), as long as only one side writes
    the sign; without any sign 50 and 0.5 differ. Float noise: `26.999999999999996` equals 27, since its 17 digits
    come from binary arithmetic; nothing shorter is rounded, so 2880007 never equals 2880000.
    """
    if _close(left.value, right.value, noisy=left.noisy or right.noisy):
        return True
    if left.percent == right.percent:
        return False
    share, plain = (left, right) if left.percent else (right, left)
    return _close(share.value * _PERCENT, plain.value, noisy=share.noisy or plain.noisy)


def last_number(text: str) -> str | None:
    """The last number token of a text, as written but for the emphasis around its parts."""
    if _DIGIT.search(text) is None:
        return None
    for size in (*_WINDOWS, len(text)):
        window = strip_emphasis(strip_wrappers(text[-size:]))
        found = None
        for match in NUMBER.finditer(window):
            found = match
        if found is not None and (found.start() > _WINDOW_MARGIN or size >= len(text)):
            return found.group().strip()
    return None


def token_value(match: re.Match[str]) -> Fraction | None:
    """The exact value of a `NUMBER` match; `None` for a zero denominator or digits beyond reason."""
    try:
        value = _frac(match["frac"]) if match["frac"] else _decimal(match)
    except (ValueError, ZeroDivisionError):
        return None
    signs = (match["sign"] or "") + (match["sign2"] or "")
    return -value if signs and signs != "+" else value


def same_unit(words: str) -> str:
    """One spelling for the commonest units, the number of their grammar and their exponents."""
    words = words.lower().strip(" .'\"")
    power = _UNIT_POWER.search(words)
    for prefix, size in (("square ", "2"), ("sq ", "2"), ("cubic ", "3")):
        if words.startswith(prefix):
            return f"{same_unit(words[len(prefix) :])}^{size}"
    if power is not None:
        return f"{same_unit(words[: power.start()])}^{power[1]}"
    return _SAME_UNITS.get(words) or _SAME_UNITS.get(words.removesuffix("s")) or words


def split_unit(text: str) -> tuple[str, str]:
    r"""A formula without the unit it ends in, and that: `6\sqrt{2} cm` is `6\sqrt{2}` and `cm`."""
    found = _UNIT_TAIL.search(text, max(0, len(text) - 40))
    if found is None or found[1].lower() in _NO_UNITS:
        return text, ""
    formula = text[: found.start()].rstrip()
    if not is_mathematical(formula) or not any(c.isdigit() or c == "\\" for c in formula):
        return text, ""
    return formula, same_unit(found[1])


def _decimal(match: re.Match[str]) -> Fraction:
    value = _fraction_of(_NOT_DIGITS.sub("", match["base"]))
    if match["exp"]:
        power = match["exp"].rpartition("^")[2] or match["exp"]
        return value * Fraction(10) ** int(power.strip("{}eE"))
    if match["den"]:
        return value / int(match["den"])
    if match["mixfrac"]:
        return value + _frac(match["mixfrac"])
    if match["mixnum"]:
        return value + Fraction(int(match["mixnum"]), int(match["mixden"]))
    return value


def _fraction_of(digits: str) -> Fraction:
    if len(digits) > MAX_NUMBER_CHARS:
        raise ValueError(digits[:20])
    return Fraction(digits) if "." in digits else Fraction(int(digits))


def _frac(text: str) -> Fraction:
    parts = _FRAC_PARTS.findall(text)
    if len(parts) != 2:
        raise ValueError(text)
    upper, lower = (int(braced or digit) for braced, digit in parts)
    return Fraction(upper, lower)


def _is_unit(rest: str) -> bool:
    """Whether words behind a number are its unit and not a factor: 5 cm and 5 apples, but not 5x, 5ab or 5 sin."""
    if _UNIT.fullmatch(rest) is None or rest[0] in "-." or rest.startswith(("//", "(")):
        return False
    words = rest.strip("/ ()[]'\"").split()
    if not words:
        return "/" not in rest
    first = words[0].strip("()[]/'\"")
    if first.lower() in _NO_UNITS:
        return False
    if first in {"a", "an", "of"} and len(words) > 1:
        return True  # 18 a day, 3/4 of a cup
    letters = first.partition("^")[0].partition("/")[0].rstrip(".23") or first
    is_name = len(letters) < 3 and letters.isalpha() and (letters.isascii() or "\u0370" <= letters[0] < "\u0400")
    return not is_name or letters in _SHORT_UNITS or first in _SHORT_UNITS


def _close(left: Fraction, right: Fraction, *, noisy: bool) -> bool:
    if left == right:
        return True
    return noisy and abs(left - right) <= _FLOAT_NOISE * max(abs(left), abs(right))
