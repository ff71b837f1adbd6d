"""Every command that a page or a message names is one that the command line takes."""

import pytest
from tests.kit.documented import in_messages, in_pages

from evalmesh.cli.flags import build_parser

_PLACES = {"pages": in_pages, "messages": in_messages}
_ONLY_NAMED = ("required", "expected one argument")
_AT_LEAST = {"pages": 80, "messages": 20}


def refusal(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> str:
    """What the parser says against the words; a command that is only named, without what it needs, is fine."""
    try:
        _, unknown = build_parser(words).parse_known_args(words)
    except SystemExit as end:
        said = capsys.readouterr().err
        return "" if end.code in {0, None} or any(part in said for part in _ONLY_NAMED) else said
    return f"unknown: {unknown}" if unknown else ""


@pytest.mark.parametrize("place", _PLACES)
def test_named_commands_exist(place, capsys):
    named = list(_PLACES[place]())
    assert len(named) >= _AT_LEAST[place]
    wrong = [(one.where, " ".join(one.words), said) for one in named if (said := refusal(one.words, capsys))]
    assert wrong == []
