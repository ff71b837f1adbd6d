r"""What stands around an answer and is no part of it: emphasis, tags, quotes, math mode, LaTeX blanks, thoughts.

Shared by numbers, formulas and extractors, so that a form that one of them accepts is accepted by all.
"""

import re

CURRENCY_SIGNS = "£¥¢฿\u20a0-\u20cf"
"""For a character class; the dollar is apart, since LaTeX has another use for it."""
_EDGES = (
    " \t\r\n\u00a0\u202f\u2009*_`\"'~,;:?\u201c\u201d\u2018\u2019\u00ab\u00bb\u00bf\u300c\u300d\u300e\u300f\u3010\u3011"
    "\u3001\u3002\uff01\uff0c\uff1a\uff1b\uff1f"
)
_WRAPPER = re.compile(
    r"\\(?:text|textbf|textit|textrm|texttt|textnormal|emph|underline|mathrm|mathbf|mathit|mathsf|mbox|hbox"
    r"|operatorname)\s?\*?\{([^{}]{0,80})\}"
)
_DOUBLED = re.compile(r"\\\\(?=[A-Za-z()\[\]$%{},;:! ])")
_BLANKS = re.compile(r"\\(?:[ ;:,>]|(?:q?quad|enspace|thinspace|space)(?![A-Za-z]))|~")
_NOISE = re.compile(
    r"\\(?:[()\[\]!]|(?:left|right|displaystyle|textstyle|bigl?|bigr|Bigl?|Bigr)(?![A-Za-z]))|(?<=,)\\!"
)
_DEGREE = re.compile(r"\^\s?(?:\{\s?\\circ\s?\}|\\circ)|\\degree|\\circ(?![A-Za-z])")
_PAIR = re.compile(r"(?<![A-Za-z0-9*_])([*_]{1,3}|`{1,3}|~~)(?=[^\s*_`])([^*_`\n]{1,120})(?<=[^\s])\1(?![0-9*_])")
_LOOSE = re.compile(r"(?<![A-Za-z0-9)*])(?:\*{2,3}|`+|__)|(?:\*{2,3}|`+|__)(?![A-Za-z0-9(*])")
_TAG = re.compile(r"</?[A-Za-z][A-Za-z0-9]{0,14}>")
_FULL_WIDTH = re.compile("[\uff03-\uff0b\uff0d-\uff19\uff1c-\uff1e\uff20-\uff5e]")
_TO_ASCII = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F) if chr(code) not in "\uff01\uff0c\uff1a\uff1b\uff1f"}
_THOUGHT = re.compile(
    r"""
    [<\[\u25c1]
    (?i:
        (?P<end>/?) (?:\w{1,8}:)? (?P<name>think(?:ing)?|thoughts?|reasoning|reflection|scratchpad|analysis) [>\]\u25b7]
      | \|? (?P<word>begin|start|end) _ (?:of_)? (?:thought|thinking|reasoning|working_out) \|?>
    )
    """,
    re.VERBOSE,
)
_MATHEMATICAL = re.compile(
    r"""(?:
        \\(?:begin|end)\{[a-z]++\} (?:\{[lcr|\ ]++\})? | \\[A-Za-z]++
      | [A-Za-z]{1,2} (?![A-Za-z])
      | (?: a?(?:rc)?(?:sin|cos|tan)|cot|sec|csc|sqrt|log|ln|exp|abs|pi|infty|infinity|gcd|lcm|max|min|mod) (?![A-Za-z])
      | (?![^\W\d_\u0370-\u03ff]|[\u0370-\u03ff]\d) [^A-Za-z]
    )++""",
    re.VERBOSE,
)
_TAG_START = re.compile(r"[<\[\u25c1][/|A-Za-z\u25c1]")
_CHANNEL = "<|channel|>"


def strip_thinking(text: str) -> str:
    """What the model says after it thought: the text behind the last closing tag.

    A tag that was opened and never closed means the answer was never reached: what follows the opening is dropped.
    """
    if _TAG_START.search(text) is None:
        return text
    if _CHANNEL in text:
        kind, _, text = text.rpartition(_CHANNEL)[2].partition("<|message|>")
        return text if kind.strip().startswith("final") else ""
    start = 0
    opened: dict[str, int] = {}
    for tag in _THOUGHT.finditer(text):
        name = (tag["name"] or "think").lower()
        name = "think" if name.startswith("th") else name
        if not (tag["end"] or (tag["word"] or "").lower() == "end"):
            opened.setdefault(name, tag.start())
        elif name in opened:
            since = opened[name]
            opened = {other: at for other, at in opened.items() if at < since}
            start = start if opened else tag.end()
        elif not opened:
            start = tag.end()
    return text[start : min(opened.values(), default=len(text))] if start or opened else text


def half_width(text: str) -> str:
    """Full-width letters, digits and signs as ASCII; punctuation marks stay, since they part sentences."""
    return text if text.isascii() or _FULL_WIDTH.search(text) is None else text.translate(_TO_ASCII)


def strip_emphasis(text: str) -> str:
    """Without Markdown emphasis, code marks and tags; a `*` or `**` that multiplies or raises stays."""
    if "<" in text:
        text = _TAG.sub("", text)
    if "*" in text or "_" in text or "`" in text or "~" in text:
        text = _LOOSE.sub("", _PAIR.sub(r"\2", text))
    return text


def strip_wrappers(text: str) -> str:
    r"""The content of `\text{}` and its like without them; as deep as their content may be long."""
    if "\\" in text:
        while (unwrapped := _WRAPPER.sub(r" \1 ", text)) != text:
            text = unwrapped
    return text


def strip_decoration(text: str) -> str:
    r"""Removes what surrounds a number or formula without changing it: blanks, emphasis, math mode, `\text{}`."""
    text = strip_emphasis(half_width(text)).strip(_EDGES)
    if "\\" in text:
        if "matrix" not in text and "array" not in text:
            text = _DOUBLED.sub(r"\\", text)
        text = _BLANKS.sub(" ", text.replace("{,}", ","))
        text = _DEGREE.sub("°", _NOISE.sub("", strip_wrappers(text))).strip(_EDGES)
    if text.endswith("$"):
        text = text.strip("$").strip(_EDGES)
    return text.rstrip(". \t*")


def is_mathematical(text: str) -> bool:
    """Whether a text is a formula rather than prose: Latin and Greek only, no word of three letters but functions."""
    return _MATHEMATICAL.fullmatch(text) is not None
