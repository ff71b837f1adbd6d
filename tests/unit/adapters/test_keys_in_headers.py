import pytest
from tests.kit.model_servers import any_server

from evalmesh.domain.errors import NotFound
from evalmesh.ports.model_servers import Destination

SERVERS = any_server({"TOKEN": "t-1", "OTHER": "t-2"}, "env:TOKEN", "env:OTHER", "env:MISSING")
URL = "http://host/v1"


def test_headers_of_a_load_test_have_their_keys_when_they_are_sent():
    wanted = Destination(URL, key_ref="env:TOKEN", headers={"X-Api-Key": "env:OTHER", "X-Team": "a"})
    found = SERVERS.admit(wanted)
    assert found.complete(URL) == {"X-Api-Key": "t-2", "X-Team": "a", "Authorization": "Bearer t-1"}
    assert set(found.secrets) == {"t-1", "t-2"}
    assert SERVERS.admit(Destination(URL, headers={"X-Team": "a"})).complete(URL) == {"X-Team": "a"}


def test_a_reference_that_leads_nowhere_is_said():
    with pytest.raises(NotFound, match="MISSING"):
        SERVERS.admit(Destination(URL, headers={"X-Api-Key": "env:MISSING"}))
