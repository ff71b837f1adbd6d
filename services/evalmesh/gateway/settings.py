"""Settings of the gateway."""

from typing import ClassVar

from pydantic import Field

from evalmesh.runtime.settings import RoomSettings


class GatewaySettings(RoomSettings):
    """Environment prefix `EVALMESH_GATEWAY_`."""

    room: ClassVar[str] = "gateway"

    dataset_loader_address: str = "127.0.0.1:9091"
    model_runner_address: str = "127.0.0.1:9092"
    scorer_address: str = "127.0.0.1:9093"
    report_aggregator_address: str = "127.0.0.1:9094"
    load_generator_address: str = "127.0.0.1:9095"
    peer_token_file: str = ""
    """File with the token that the other services are shown; empty: the first of `auth_token_file`."""
    host: str = ""
    """Of several platforms on one folder, the one that works on what is submitted here; empty: any."""
    check_timeout_s: float = Field(default=20.0, gt=0)
    """How long checking a spec against data and endpoint may take before a run or load test is accepted."""
