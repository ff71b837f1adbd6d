r"""Reads numbers the way people and models write them, as exact fractions.

Understood: thousands separators, currency signs, percent, units after the number, `\frac{a}{b}`, `a/b`, mixed
numbers, scientific notation, `\text{...}`, scale words (thousand ... trillion), Unicode minus, a trailing period.
"""

import re
from dataclasses import dataclass
from fractions import Fraction

MAX_NUMBER_CHARS = 120
"""Longer texts are not read as one number; it also keeps integers far below what is slow to convert."""

_UNSIGNED = r"(?:\d{1,3}(?:(?:\{,\}|\\,|\\!,|[,\u2009\u202f\u00a0])\d{3})++(?!\d)|\d++)(?:\.\d++)?|\.\d++"
_EXPONENT = r"[eE][-+]?\d{1,3}(?!\d)|[ ]?(?:\\times|\\cdot|[\u00d7·*x])[ ]?10\^(?:\{[-+]?\d{1,3}\}|[-+]?\d{1,3})"
_FRAC = r"\\[dt]?frac[ ]?(?:\{[ ]?-?\d{1,40}[ ]?\}|\d)[ ]?(?:\{[ ]?\d{1,40}[ ]?\}|\d(?!\d))"
NUMBER = re.compile(
    rf"""
    (?P<sign>(?<![\w)\]}}])[-+\u2212]?)
    (?:(?:\\?[$]|[£€¥₹])[ ]?(?P<sign2>[-\u2212]?))?
    (?:
        (?P<frac>{_FRAC})
      | (?<![A-Za-z_\d\\]) (?P<base>{_UNSIGNED})
        (?: (?P<exp>{_EXPONENT})
          | [ ]?/[ ]?(?P<den>\d{{1,40}}(?![\d.]))
          | [ ]?(?P<mixfrac>{_FRAC})
          | (?:[ ]and)?[ ](?P<mixnum>\d{{1,40}})/(?P<mixden>\d{{1,40}}) (?![\d.])
        )?
    )
    (?P<percent>[ ]?\\?%)?
    """,
    re.VERBOSE,
)
"""One number token. Every part is bounded or possessive, so a search is linear in the text."""

_FRAC_PARTS = re.compile(r"\{[ ]?(-?\d+)[ ]?\}|(\d)")
_WRAPPER = re.compile(r"\\(?:text|textbf|textrm|mathrm|mathbf|mathit|mbox|operatorname)\s?\{([^{}]{0,80})\}")
_UNIT = re.compile(r"[A-Za-zµ°²³%'\u2019 ./-]{0,60}(?:\^\{?\\circ\}?|(?<=[a-z])\^\{?[23]\}?)?")
_ONE_LETTER_UNITS = frozenset("gmshlL°")
_PLAIN = re.compile(r"-?\d{1,40}")
_NOT_DIGITS = re.compile(r"[^\d.]")
_SCALE_WORDS = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_OPERATOR_WORDS = frozenset({"and", "or", "to", "plus", "minus", "times", "over", "divided", "mod"})
_PERCENT_WORDS = frozenset({"percent", "per cent", "percentage points"})
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
    match = NUMBER.match(cleaned)
    if match is None:
        return None
    value = token_value(match)
    rest = cleaned[match.end() :]
    if value is None or not _is_unit(rest):
        return None
    words = rest.strip(" .")
    first, _, others = words.partition(" ")
    scale = _SCALE_WORDS.get(first.lower())
    if scale is not None:
        value, words = value * scale, others
    percent = match["percent"] is not None or words.lower() in _PERCENT_WORDS
    base = match["base"] or ""
    noisy = "." in base and len(_NOT_DIGITS.sub("", base)) > _FLOAT_NOISE_DIGITS
    return Number(value, "" if percent else words.lower(), percent=percent, noisy=noisy)


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


def strip_decoration(text: str) -> str:
    r"""Removes what surrounds a number without changing it: spaces, emphasis, math mode, `\text{}`, a final period."""
    text = text.strip(" \t\r\n*_`\"'~,;:!?")
    if "\\" in text:
        text = _WRAPPER.sub(r" \1", text)
        for noise in (r"\(", r"\)", r"\[", r"\]", r"\ ", r"\;", r"\left", r"\right"):
            text = text.replace(noise, " " if noise in {r"\ ", r"\;"} else "")
    text = text.strip(" \t\r\n*_`\"'~,;:!?")
    if text.endswith("$"):
        text = text.strip("$").strip()
    return text.rstrip(". \t*")


def last_number(text: str) -> str | None:
    """The last number token of a text, as written."""
    for size in _WINDOWS:
        window = text[-size:]
        found = None
        for match in NUMBER.finditer(window):
            found = match
        if found is not None and (found.start() > _WINDOW_MARGIN or size >= len(text)):
            return found.group().strip()
    found = None
    for match in NUMBER.finditer(text):
        found = match
    return None if found is None else found.group().strip()


def token_value(match: re.Match[str]) -> Fraction | None:
    """The exact value of a `NUMBER` match; `None` for a zero denominator or digits beyond reason."""
    negative = (match["sign"] in {"-", "\u2212"}) != (match["sign2"] in {"-", "\u2212"})
    try:
        value = _frac(match["frac"]) if match["frac"] else _decimal(match)
    except (ZeroDivisionError, ValueError):
        return None
    return -value if negative else value


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
    if not rest:
        return True
    if _UNIT.fullmatch(rest) is None:
        return False
    words = rest.split()
    if not words:
        return True
    letters = words[0].partition("^")[0].rstrip(".")
    if len(letters) == 1 and letters.isalpha() and letters not in _ONE_LETTER_UNITS:
        return False  # 12x is a product, not twelve of a unit
    return words[0].lower() not in _OPERATOR_WORDS and rest[0] not in "/-."


def _close(left: Fraction, right: Fraction, *, noisy: bool) -> bool:
    if left == right:
        return True
    return noisy and abs(left - right) <= _FLOAT_NOISE * max(abs(left), abs(right))
