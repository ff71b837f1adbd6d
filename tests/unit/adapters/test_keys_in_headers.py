import pytest

from evalmesh.adapters.environment import EnvSecrets
from evalmesh.domain.errors import NotFound
from evalmesh.ports.environment import with_keys

KEYS = EnvSecrets({"TOKEN": "t-1", "OTHER": "t-2"})


def test_headers_of_a_load_test_have_their_keys_when_they_are_sent():
    found = with_keys({"X-Api-Key": "env:OTHER", "X-Team": "a"}, "env:TOKEN", KEYS)
    assert found == {"X-Api-Key": "t-2", "X-Team": "a", "Authorization": "Bearer t-1"}
    assert with_keys({"X-Team": "a"}, "", KEYS) == {"X-Team": "a"}


def test_a_reference_that_leads_nowhere_is_said():
    with pytest.raises(NotFound, match="MISSING"):
        with_keys({"X-Api-Key": "env:MISSING"}, "", KEYS)
