"""Settings come from the environment: `EVALMESH_<ROOM>_NAME` first, then `EVALMESH_NAME` for what all rooms share."""

import os
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

LogLevel = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(str.upper)]


class RoomSettings(BaseSettings):
    """What every service needs to know. Frozen."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_ignore_empty=True)
    room: ClassVar[str] = ""

    address: str = "0.0.0.0:9090"
    """Where the gRPC server listens; port 0 takes a free one."""
    bus_url: str = "nats://127.0.0.1:4222"
    objects_url: str = "file:///var/lib/evalmesh/objects"
    log_level: LogLevel = "INFO"
    metrics_address: str = ""
    """Where `/metrics` is shown, to whoever shows a token; empty: nowhere."""
    drain_s: float = Field(default=20.0, ge=0)
    """How long work in hand may take after SIGTERM; keep it below the pod's grace period."""
    max_deliveries: int = Field(default=5, ge=1)
    """A work item handed out this often without success is set aside."""
    ack_wait_s: float = Field(default=10.0, gt=0)
    """How long a work item may go without a sign of life before another worker gets it."""

    auth: Literal["token", "none"] = "token"
    """`none` lets in whoever reaches the port; with `token` a service without `auth_token_file` does not start."""
    auth_token_file: str = ""
    """File with the tokens that callers may show, one a line."""
    tls_cert_file: str = ""
    """PEM file with the certificate (chain) of the gRPC server; empty: plain text."""
    tls_key_file: str = ""
    """PEM file with the key of that certificate."""
    tls_ca_file: str = ""
    """PEM file with the authorities of the other services' certificates; set, the gateway calls them by TLS."""
    tls_client_certs: bool = False
    """Callers need a certificate of `tls_ca_file`'s authorities, beside the token."""

    connections_file: str = ""
    """YAML file with the model servers that model runner and load generators may ask with which keys."""
    connections: str = ""
    """The same as inline JSON, beside those of the file."""
    egress: Literal["open", "restricted"] = "restricted"
    """`restricted`: link-local and metadata addresses are never asked, loopback only where a connection says so."""
    keys_fd: int = -1
    """Pipe with keys from the parent process; set by that alone."""

    end_with_stdin: bool = False
    """End when standard input is closed: a service that is the child of another process dies with it."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Init values, then the room's own variables, then the shared ones."""
        del env_settings, dotenv_settings, file_secret_settings
        own = EnvSettingsSource(settings_cls, env_prefix=f"EVALMESH_{cls.room.upper()}_")
        shared = _SharedSource(settings_cls, env_prefix="EVALMESH_")
        return init_settings, own, shared


class _SharedSource(EnvSettingsSource):
    """Variables for all rooms. Only of what all rooms share: EVALMESH_SCORER_ADDRESS is the scorer's own."""

    def __call__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__call__().items() if name in RoomSettings.model_fields}


def explain(error: ValidationError, room: str) -> str:
    """What is wrong, one line per variable. Values are not repeated: one of them may be a token."""
    lines = []
    for one in error.errors(include_url=False, include_context=False, include_input=False):
        name = ".".join(str(part) for part in one["loc"]).upper()
        own = f"EVALMESH_{room.upper()}_{name}"
        lines.append(f"{own if own in os.environ else f'EVALMESH_{name}'} cannot be used: {one['msg']}.")
    return "\n".join(lines)
