from evalmesh.gateway.settings import GatewaySettings
from evalmesh.scorer.settings import ScorerSettings


def test_own_variables_go_before_shared_ones(monkeypatch):
    monkeypatch.setenv("EVALMESH_BUS_URL", "nats://shared:4222")
    monkeypatch.setenv("EVALMESH_SCORER_BUS_URL", "nats://own:4222")
    assert ScorerSettings().bus_url == "nats://own:4222"
    assert GatewaySettings().bus_url == "nats://shared:4222"


def test_where_a_scorer_listens_is_not_where_the_gateway_looks_for_it(monkeypatch):
    monkeypatch.setenv("EVALMESH_SCORER_ADDRESS", "0.0.0.0:9090")
    assert ScorerSettings().address == "0.0.0.0:9090"
    assert GatewaySettings().scorer_address == "127.0.0.1:9093"
    monkeypatch.setenv("EVALMESH_GATEWAY_SCORER_ADDRESS", "scorer:9090")
    assert GatewaySettings().scorer_address == "scorer:9090"
