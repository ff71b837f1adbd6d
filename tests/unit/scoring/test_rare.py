"""A pattern that is quick where it has nothing to find, finds all the same what it had found."""

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evalmesh.scoring.letters import none_of, polarity, statements
from evalmesh.scoring.letters.rare import Rare

RARE = {
    f"{module.__name__.rpartition('.')[2]}.{name}": one
    for module in (none_of, polarity, statements)
    for name, one in vars(module).items()
    if isinstance(one, Rare) and not name.endswith("_ZH")
}
ASCII = st.characters(codec="ascii")


@pytest.mark.parametrize("name", RARE)
@settings(max_examples=25, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow], deadline=None)
@given(data=st.data())
def test_nothing_that_matches_is_passed_over(name, data):
    rare = RARE[name]
    text = data.draw(st.from_regex(rare.pattern, alphabet=ASCII).map(swapped_at_times(data)))
    found = [match.span() for match in rare.pattern.finditer(text)]
    assert [match.span() for match in rare.finditer(text)] == found
    assert (rare.search(text) is not None) == bool(found)
    assert rare.sub("_", text) == rare.pattern.sub("_", text)


def swapped_at_times(data):
    """Upper case for lower case: the patterns do not tell them apart."""
    return lambda text: text.upper() if data.draw(st.booleans()) else text


def test_text_that_is_not_ascii_is_always_searched():
    rare = Rare("none", re.compile("none|无"))
    assert rare.search("无") is not None
    assert rare.sub("", "a无b") == "ab"
    assert len(RARE) >= 5
