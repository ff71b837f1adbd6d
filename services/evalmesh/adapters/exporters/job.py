"""What a sink is given."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from socket import create_connection
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from evalmesh.adapters.exporters.figures import Record
from evalmesh.domain.errors import FailedPrecondition, InvalidInput, Unavailable

_SECRET_WORDS = ("key", "token", "password", "secret")
_SECRET_VARIABLES = ("WANDB_API_KEY", "SWANLAB_API_KEY", "CLEARML_API_SECRET_KEY", "MLFLOW_TRACKING_PASSWORD")
_WAYS_OUT = {
    "swanlab": "it needs an older protobuf than evalmesh, so give it an environment of its own and name its "
    "interpreter with the option python (docs/guides/exporters.md).",
}
_CONNECT_S = 5.0


@dataclass(frozen=True, slots=True)
class Job:
    """One record on its way to one sink."""

    sink: str
    record: Record
    folder: Path
    options: Mapping[str, str]

    def option(self, key: str, default: str = "") -> str:
        """An option, the sink's own one first."""
        return self.options.get(f"{self.sink}_{key}") or self.options.get(key) or default

    @property
    def run_name(self) -> str:
        """As it was asked for, else its own."""
        return self.option("name") or self.record.display_name or self.record.id

    @property
    def project(self) -> str:
        """What the sink files it under."""
        return self.option("project", "evalmesh")

    @property
    def files(self) -> list[Path]:
        """What belongs to the run as files."""
        return [path for name in self.record.files if (path := self.folder / name).is_file()]

    def redacted(self, text: str) -> str:
        """The text without any key that is known here."""
        secrets = [value for key, value in self.options.items() if is_secret(key)]
        secrets += [os.environ.get(name, "") for name in _SECRET_VARIABLES]
        for secret in filter(None, secrets):
            text = text.replace(secret, "***")
        return text


def is_secret(option: str) -> bool:
    """Whether an option of this name holds a key."""
    return any(word in option.lower() for word in _SECRET_WORDS)


def shown_url(url: str) -> str:
    """An address without user, password and query."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def check_answers(url: str) -> None:
    """Whether anybody listens at an address; asks nothing. Through a proxy, whether the proxy does.

    Raises `InvalidInput` for what is no address and `Unavailable`.
    """
    parts = urlsplit(url)
    try:
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    except ValueError:
        port = 0
    host = parts.hostname
    if not host or not port:
        raise InvalidInput(f"{shown_url(url)!r} is no http address.", {"field": "export_args"})
    proxy = urlsplit(getproxies().get(parts.scheme, ""))
    if proxy.hostname and not proxy_bypass(host):
        host, port = proxy.hostname, proxy.port or 80
    try:
        create_connection((host, port), _CONNECT_S).close()
    except OSError as error:
        raise Unavailable(f"{shown_url(url)} cannot be reached: {error}.") from None


def need(module: str, sink: str) -> Any:
    """A sink's package. Raises `FailedPrecondition` with the command that installs it."""
    try:
        return import_module(module)
    except ImportError as error:
        if error.name is not None and error.name.partition(".")[0] != module.partition(".")[0]:
            what = f"one of its dependencies is ({error.name})"
        else:
            what = "its package is"
        way_out = _WAYS_OUT.get(sink, f"pip install 'evalmesh[{sink}]'.")
        raise FailedPrecondition(f"{what} not installed; {way_out}") from None
