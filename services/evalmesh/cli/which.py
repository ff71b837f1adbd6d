"""Which run or load test a word on the command line means, of those there are."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches

from evalmesh.domain.errors import InvalidInput, NotFound

LATEST = "latest"
"""The newest one."""
_WHOLE_ID = re.compile(r"[0-9a-hjkmnp-tv-z]{14}")
_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"
_FOLDER = re.compile(r"\d{8}_\d{6}_(.+)")
_SHORTEST_END = 4
_MOST_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Known:
    """One that there is."""

    id: str
    name: str = ""
    """`--name`, or empty."""

    @property
    def words(self) -> str:
        """For a list of several: the id, when it was made, its name."""
        when = f" of {time_text(seconds_in(self.id))}" if is_whole(self.id) else ""
        return f"{self.id}{when}{f' ({self.name})' if self.name else ''}"


def is_whole(text: str) -> bool:
    """Whether it is an id and not a part of one."""
    return _WHOLE_ID.fullmatch(text) is not None


def seconds_in(id_: str) -> float:
    """When a thing with this whole id was made (Unix seconds): nine digits of an id are milliseconds."""
    number = 0
    for digit in id_[:9]:
        number = number << 5 | _DIGITS.index(digit)
    return number / 1000


def time_text(seconds: float) -> str:
    """Local time with its zone: `2026-11-30 13:21:49 +08:00`."""
    local = datetime.fromtimestamp(seconds).astimezone()
    offset = local.strftime("%z")
    return f"{local:%Y-%m-%d %H:%M:%S} {'UTC' if offset == '+0000' else f'{offset[:3]}:{offset[3:5]}'}"


def id_in_folder_name(text: str) -> str | None:
    """The id at the end of `{YYYYmmdd_HHMMSS}_{id}`."""
    found = _FOLDER.fullmatch(text)
    return found[1] if found else None


def choose(text: str, known: Iterable[Known], *, noun: str, lister: str) -> str | None:
    """The id that `text` means: an id, the beginning or the end of one, a name, `latest`.

    Args:
        text: As the user typed it.
        known: Those there are.
        noun: What messages call them.
        lister: The command that lists them.

    Returns:
        `None` when it means none of them.

    Raises:
        InvalidInput: It means several; they are named.
        NotFound: For `latest`, when there is none.
    """
    by_id = {one.id: one for one in known}
    if text in by_id:
        return text
    if text == LATEST:
        if not by_id:
            raise NotFound(f"There is no {noun} yet.")
        return max(by_id)  # ids sort by time
    for how, found in (
        ("the name", [one for one in by_id.values() if one.name == text]),
        ("the beginning", [one for one in by_id.values() if one.id.startswith(text)]),
        ("the end", [one for one in by_id.values() if one.id.endswith(text) and len(text) >= _SHORTEST_END]),
    ):
        if len(found) > 1:
            raise _several(text, how, found, noun, lister)
        if found:
            return found[0].id
    return None


def _several(text: str, how: str, found: list[Known], noun: str, lister: str) -> InvalidInput:
    newest = sorted(found, key=lambda one: one.id, reverse=True)
    shown = "\n".join(f"  {one.words}" for one in newest[:_MOST_SHOWN])
    more = f"\n  and {len(newest) - _MOST_SHOWN} more: {lister}" if len(newest) > _MOST_SHOWN else ""
    return InvalidInput(
        f"{text!r} is {how} of {len(newest)} {noun}s; give the id of the one you mean, newest first:\n{shown}{more}",
        {"field": noun},
    )


def none_such(text: str, known: Iterable[Known], *, noun: str, lister: str, where: str = "") -> NotFound:
    """What to raise when `choose` found nothing."""
    words = [word for one in known for word in (one.id, one.name) if word]
    near = get_close_matches(text, words, n=1)
    hint = f"Did you mean {near[0]}?" if near else f"See `{lister}`."
    return NotFound(f"There is no {noun} {text!r}{where}. {hint}", {"field": noun})
