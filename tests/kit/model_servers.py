"""What may be asked with which keys, for tests that are about something else."""

from collections.abc import Mapping

from evalmesh.adapters.environment import EnvSecrets
from evalmesh.adapters.model_servers import DeclaredServers
from evalmesh.domain.connection import Connection
from evalmesh.ports.environment import Secrets


def everywhere(*references: str) -> Connection:
    """Keys that may go anywhere, which no settings can say."""
    return Connection(
        "everywhere",
        ("http://*:*", "https://*:*"),
        headers={f"X-{number}": one for number, one in enumerate(references)},
    )


def any_server(keys: Mapping[str, str] | Secrets | None = None, *references: str) -> DeclaredServers:
    """All may be asked, with these keys."""
    secrets = EnvSecrets(keys) if keys is None or isinstance(keys, Mapping) else keys
    return DeclaredServers((everywhere(*references),), secrets)
