r"""Makes the ways to write a letter one: full-width forms, quotes and brackets of other scripts, emphasis, LaTeX, tags.

Every step keeps its text unless the characters it works on are there, since most replies are a few plain words.
"""

import re
from collections.abc import Iterator

_SAME: dict[int, str | None] = {
    **{0xFF21 + i: chr(65 + i) for i in range(26)},  # full-width letters
    **{0xFF41 + i: chr(97 + i) for i in range(26)},
    **dict.fromkeys((0x200B, 0x200C, 0x200D, 0x200E, 0x200F, 0x2060, 0xFE0F, 0xFEFF)),  # characters without a width
    **{0x24B6 + i: chr(65 + i) for i in range(26)},  # circled letters
    **{ord(a): b for a, b in zip("（）［］【】「」『』〔〕｛｝", "()[][][][][]{}", strict=True)},  # noqa: RUF001
    **{ord(a): b for a, b in zip("“”„«»‘’：．；，！？＝／　\u00a0", '"""""\'\':.;,!?=/  ', strict=True)},  # noqa: RUF001
}
_WRAPPER = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt)?|math(?:rm|bf|sf|it)|emph|underline|boxed|fbox)\s?\{([^{}]{0,200})\}"
)
_LATEX_NOISE = re.compile(r"\\[()\[\]]|[$`]|\\(?=[ ,;!])|\*+|(?<![A-Za-z0-9])_+|_+(?![A-Za-z0-9])")
_DECORATED = re.compile(r"[\\$*`_]")
_STYLE_TAG = re.compile(r"</?(?:b|i|u|em|strong|code|mark|span|font|p|br|sub|sup)\b[^<>]{0,60}>", re.IGNORECASE)
_MARKED = re.compile(
    r"(\*{1,3}|_{1,3}"
    r"|`{1,3})[(\[\"']{0,2}([A-Z])[)\]\"']{0,2}([.:,]?)[)\]\"']{0,2}\1(?![A-Za-z0-9])"
)
_TAGGED = re.compile(r"<(b|i|u|em|strong|code|mark)>[ (\[]?([A-Z])[)\]]?[.:,]?</\1>", re.IGNORECASE)
_END_TOKEN = re.compile(r"\s{0,9}(?:<\|[\w ]{1,40}\|>|</s>|<eos>|<end_of_turn>|\[/INST\])\Z")
_SENTENCE = re.compile(r"(?<=[^\s.][.!?])(?=[\s\"')])|(?<=[\u3002!?])(?=[^\x00-\x7f\s])|[\u3002\n]")


def narrow(text: str) -> str:
    """The text with ASCII letters, brackets, quotes and punctuation for their twins, and nothing invisible."""
    return text if text.isascii() else text.translate(_SAME)


def without_end_token(text: str) -> str:
    """The text without the end-of-turn tokens that some servers let through: `</s>`, `<|im_end|>`."""
    return _END_TOKEN.sub("", text) if text[-1:] in {">", "]"} else text


def unwrap(text: str) -> str:
    """The text without emphasis, math mode and style tags. A letter emphasised alone becomes `(B)`."""
    if "\\" in text:
        text = _WRAPPER.sub(r"\1", _WRAPPER.sub(r"\1", text))
    if "</" in text or "<br" in text:
        text = _STYLE_TAG.sub("", _TAGGED.sub(r"(\2)", text))
    if _DECORATED.search(text):
        text = _LATEX_NOISE.sub("", _MARKED.sub(r"(\2)\3", text))
    return text


def last_sentences(text: str) -> Iterator[str]:
    """The sentences of the last line that says something, last one first; a line counts as far as 800 characters."""
    line = text.rstrip().rpartition("\n")[2][-800:]
    for sentence in reversed([part for part in _SENTENCE.split(line) if part]):
        if sentence.strip():
            yield sentence.strip()
