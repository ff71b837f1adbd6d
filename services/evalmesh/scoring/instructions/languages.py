"""Which language a text is in, as the package `langdetect` tells: the authors of IFEval judge by it.

It tries n-grams of the text that it draws at random. The authors draw others each time, so that a text between two
languages is judged by chance; here each text is drawn from with the same seed. The profiles of its 55 languages take a
quarter of a second and 70 MB, once in a process; a text takes milliseconds.
"""

from functools import cache
from pathlib import Path
from typing import Any

PACKAGES = {"langdetect": "langdetect"}
"""By the name of the module: what to install."""


@cache
def detectors() -> Any:
    """The factory of detectors, our own, so that nobody else's seed changes."""
    from langdetect.detector_factory import PROFILES_DIRECTORY, DetectorFactory  # noqa: PLC0415  (an extra)

    made = DetectorFactory()
    # In one order on all machines, as sums of fractions depend on it.
    made.load_json_profile([one.read_text("utf-8") for one in sorted(Path(PROFILES_DIRECTORY).iterdir())])
    made.set_seed(0)
    return made


def language_of(text: str) -> str | None:
    """Its code (ISO 639-1, Chinese as `zh-cn` or `zh-tw`); `None` where it has no letters to judge by."""
    from langdetect import LangDetectException  # noqa: PLC0415  (an extra)

    detector = detectors().create()
    detector.append(text)
    try:
        return str(detector.detect())
    except LangDetectException:
        return None
