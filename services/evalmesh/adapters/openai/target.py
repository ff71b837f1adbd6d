"""Where a model is reached: addresses, headers and options, checked once before the first request."""

import difflib
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from yarl import URL

from evalmesh.adapters.openai.errors import Redactor
from evalmesh.adapters.proxies import proxy_for
from evalmesh.adapters.tls import tls_context
from evalmesh.dialect.addresses import Address, Call, key_header, read_address
from evalmesh.domain.connection import Egress
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.run import ModelSpec
from evalmesh.ports.model_servers import Destination, ModelServers

RESERVED_KEYS = frozenset({"messages", "prompt", "input", "stream"})
"""Keys of the request body that are not the user's to set."""

_ARGS = ("extra_body", "verify_tls", "prefix")
_SENSITIVE_HEADERS = ("authorization", "api-key", "apikey", "token", "secret", "cookie")


@dataclass(frozen=True, slots=True)
class Target:
    """An endpoint's addresses and what goes with every request."""

    address: Address
    """May name a call, as the responses API."""
    where: str
    """The base address as messages name it: without query."""
    headers: Mapping[str, str] = field(repr=False)
    redact: Redactor = field(repr=False)
    extra_body: Mapping[str, object] = field(default_factory=dict)
    prefix: str = ""
    """Stands before every text that is scored, as a start token that the server does not put there by itself."""
    tls: ssl.SSLContext | None = None
    """`None` where no TLS is spoken."""
    proxy: str = field(default="", repr=False)
    """That of the environment; empty: none."""
    egress: Egress = field(default_factory=Egress)
    """Addresses that may be connected to."""
    most_requests: int = 0
    """In flight, as the connection says; 0: as the model says."""

    def url(self, call: Call) -> URL:
        """Where this call is."""
        return URL(self.address.url(call), encoded=True)

    @property
    def models_url(self) -> URL:
        """Where the list of models is."""
        return URL(self.address.models_url, encoded=True)


@dataclass(frozen=True, slots=True)
class Manner:
    """How the servers of one API are addressed."""

    engine: str = "openai"
    read_address: Callable[[str], Address] = read_address
    key_header: Callable[[str, str], tuple[str, str]] = key_header
    """From address and key."""
    headers: Mapping[str, str] = field(default_factory=dict)
    example: str = "give the base address with the version, as in http://host:8000/v1"


OPENAI = Manner()


def resolve_target(model: ModelSpec, servers: ModelServers, manner: Manner = OPENAI) -> Target:
    """Reads the model's url, key, headers and args.

    A header value may be a reference like `key_ref` (`env:NAME`, `secret:name/key`), for servers that want their key
    in a header of their own. Raises `InvalidInput`, `PermissionDenied` for a host that may not be asked or not with
    this key, and `NotFound` for a reference that leads nowhere.
    """
    wanted = Destination(model.url, model.connection, model.key_ref, model.headers, ca_file=model.ca_file)
    address = _address(servers.url_of(wanted), manner)
    base = URL(address.base)
    admitted = servers.admit(replace(wanted, url=address.base))
    key = admitted.key
    hidden = list(admitted.secrets)
    headers = {"Content-Type": "application/json", "Accept": "application/json", **manner.headers}
    if key:
        name, value = manner.key_header(address.base, key)
        headers[name] = value
    for name, resolved in admitted.headers.items():
        if any(character in f"{name}{resolved}" for character in "\r\n\0"):
            raise InvalidInput(f"model.headers[{name!r}] holds a line break; remove it.", {"field": "model.headers"})
        if resolved in hidden or any(word in name.lower() for word in _SENSITIVE_HEADERS):
            hidden += [resolved, resolved.removeprefix("Bearer ")]
        headers = {n: v for n, v in headers.items() if n.lower() != name.lower()} | {name: resolved}
    if any(character in key for character in "\r\n\0"):
        raise InvalidInput(
            f"The key behind {model.key_ref!r} holds a line break; store it without.", {"field": "model.key_ref"}
        )
    extra_body, verify_tls = _read_args(model.args, manner.engine)
    prefix = model.args.get("prefix", "")
    if not isinstance(prefix, str):
        raise InvalidInput(f"model.args.prefix is {prefix!r}; give a text.", {"field": "model.args.prefix"})
    tls = None
    if base.scheme == "https":
        tls = tls_context(model.ca_file, verify=verify_tls and model.verify_tls, field="model.ca_file")
    proxy = proxy_for(address.base)
    hidden += [secret for secret in (urlsplit(proxy).password,) if secret]
    return Target(
        address=address,
        where=str(base.with_query(None)),
        headers=headers,
        redact=Redactor(hidden),
        extra_body=extra_body,
        prefix=prefix,
        tls=tls,
        proxy=proxy,
        egress=admitted.egress,
        most_requests=admitted.max_concurrency,
    )


def _address(text: str, manner: Manner) -> Address:
    example = manner.example
    try:
        url = URL(text.strip())
    except ValueError as error:
        raise InvalidInput(f"model.url {text!r} is no URL ({error}); {example}.", {"field": "model.url"}) from error
    if url.user is not None or url.password is not None:
        raise InvalidInput(
            "model.url holds a user name or password; take it out and give the key by reference in model.key_ref.",
            {"field": "model.url"},
        )
    if url.scheme not in {"http", "https"} or not url.host:
        raise InvalidInput(f"model.url {text!r} is no http(s) address; {example}.", {"field": "model.url"})
    return manner.read_address(str(url))


def _read_args(args: Mapping[str, object], engine: str) -> tuple[Mapping[str, object], bool]:
    for name in args:
        if name not in _ARGS:
            near = difflib.get_close_matches(name, _ARGS, n=1)
            advice = f"did you mean {near[0]!r}?" if near else "it takes " + ", ".join(map(repr, _ARGS)) + "."
            raise InvalidInput(
                f"model.args has {name!r}, which the engine {engine} does not know; {advice}", {"field": "model.args"}
            )
    extra_body = args.get("extra_body", {})
    if not isinstance(extra_body, Mapping):
        raise InvalidInput(
            f"model.args.extra_body is {extra_body!r}; give a mapping of request keys to values.",
            {"field": "model.args.extra_body"},
        )
    check_extra_body(extra_body, "model.args.extra_body")
    verify_tls = args.get("verify_tls", True)
    if isinstance(verify_tls, str) and verify_tls.lower() in {"true", "false"}:  # From a command line.
        verify_tls = verify_tls.lower() == "true"
    if not isinstance(verify_tls, bool):
        raise InvalidInput(
            f"model.args.verify_tls is {verify_tls!r}; give true or false.", {"field": "model.args.verify_tls"}
        )
    return extra_body, verify_tls


def check_extra_body(extra_body: Mapping[str, object], field_name: str) -> None:
    """Refuses keys that evalmesh sets itself. Raises `InvalidInput`."""
    if taken := sorted(RESERVED_KEYS.intersection(extra_body)):
        raise InvalidInput(
            f"{field_name} sets {', '.join(taken)}, which evalmesh sets itself; remove it there (for `stream`, use "
            "the model's own option).",
            {"field": field_name},
        )
