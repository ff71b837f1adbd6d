"""Declared connections: read from settings, and held against every address and key that a spec names."""

import difflib
import json
import os
from collections import ChainMap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from evalmesh.adapters.environment import EnvSecrets
from evalmesh.adapters.guarded_sockets import FORBIDDEN
from evalmesh.adapters.roots import Roots
from evalmesh.domain.connection import Connection, Egress, Origin, check_pattern, is_reference, origin_of
from evalmesh.domain.errors import InvalidInput, PermissionDenied
from evalmesh.ports.environment import Secrets
from evalmesh.ports.model_servers import Admission, Destination

_FIELDS = ("name", "url", "hosts", "key_ref", "headers", "max_concurrency")
_MOST_KEY_BYTES = 1 << 20


class DeclaredServers:
    """See `ports.model_servers.ModelServers`."""

    def __init__(
        self,
        connections: Sequence[Connection],
        secrets: Secrets,
        *,
        restricted: bool = False,
        roots: Roots | None = None,
    ) -> None:
        self._connections = {one.name: one for one in connections}
        self._secrets = secrets
        self._restricted = restricted
        self._roots = roots

    def url_of(self, wanted: Destination) -> str:
        """See the port."""
        named = self._named(wanted)
        url = wanted.url or (named.url if named is not None else "")
        if not url and named is not None:
            raise InvalidInput(
                f"{wanted.field}.url: connection {named.name!r} names no url, so the spec must give one; it may go to "
                f"{', '.join(named.hosts)}.",
                {"field": f"{wanted.field}.url"},
            )
        return url

    def most_requests(self, wanted: Destination) -> int:
        """See the port."""
        named = self._named(wanted)
        return named.max_concurrency if named is not None else 0

    def key_for(self, url: str) -> str:
        """See the port."""
        origin = _origin(url, "url")
        found = next((one for one in self._connections.values() if one.key_ref and one.covers(origin)), None)
        return self._secrets.resolve(found.key_ref) if found is not None else ""

    def check(self, wanted: Destination) -> Egress:
        """See the port."""
        if wanted.ca_file and self._roots is not None:
            self._roots.check(Path(wanted.ca_file), f"{wanted.field}.ca_file", wanted.ca_file)
        named = self._named(wanted)
        references = {wanted.key_ref: f"{wanted.field}.key_ref"} if wanted.key_ref else {}
        references |= {
            value: f"{wanted.field}.headers[{name!r}]" for name, value in wanted.headers.items() if is_reference(value)
        }
        if named is None and not references and not self._restricted:
            return Egress()
        origin = _origin(self.url_of(wanted), wanted.field)
        if named is not None and not named.covers(origin):
            raise _refused(
                f"{wanted.field}.connection",
                f"connection {named.name!r} is bound to {', '.join(named.hosts)}, and {origin} is none of these",
            )
        if (named is not None or references) and any(name.lower() == "host" for name in wanted.headers):
            # Behind one address there may be servers of many, which a shared front tells apart by this header.
            raise _refused(f"{wanted.field}.headers['Host']", "a key goes to the host of the url, under its own name")
        for reference, where in references.items():
            self._check_bound(reference, where, origin, named)
        egress = Egress(self._restricted, any(one.covers(origin) for one in self._connections.values()))
        if egress.refuses_name(origin.host):
            raise _refused(f"{wanted.field}.url", FORBIDDEN)
        return egress

    def admit(self, wanted: Destination) -> Admission:
        """See the port."""
        egress = self.check(wanted)
        named = self._named(wanted)
        own = named.headers if named is not None else {}
        given = {name.lower() for name in wanted.headers}
        headers = {name: value for name, value in own.items() if name.lower() not in given} | dict(wanted.headers)
        resolved = {name: self._resolved(value) for name, value in headers.items()}
        key = self._secrets.resolve(wanted.key_ref or (named.key_ref if named is not None else ""))
        hidden = [resolved[name] for name, value in headers.items() if is_reference(value)]
        return Admission(
            key=key,
            headers=resolved,
            secrets=tuple(one for one in (key, *hidden) if one),
            egress=egress,
            max_concurrency=self.most_requests(wanted),
        )

    def _resolved(self, value: str) -> str:
        return self._secrets.resolve(value) if is_reference(value) else value

    def _named(self, wanted: Destination) -> Connection | None:
        if not wanted.connection:
            return None
        found = self._connections.get(wanted.connection)
        if found is None:
            near = difflib.get_close_matches(wanted.connection, self._connections, n=1)
            advice = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(self._connections) or 'none'}."
            raise InvalidInput(
                f"{wanted.field}.connection: {wanted.connection!r} is not declared here. {advice}",
                {"field": f"{wanted.field}.connection"},
            )
        return found

    def _check_bound(self, reference: str, where: str, origin: Origin, named: Connection | None) -> None:
        able = [named] if named is not None else list(self._connections.values())
        bound = [one for one in able if reference in one.references]
        if any(one.covers(origin) for one in bound):
            return
        if bound:
            places = "; ".join(f"connection {one.name!r}: {', '.join(one.hosts)}" for one in bound)
            raise _refused(where, f"{reference} is bound to its hosts ({places}), and {origin} is none of these")
        raise _refused(
            where,
            f"no connection declares that {reference} may go to {origin}. Whoever runs the platform declares it: "
            f"`evalmesh up --connection NAME={origin},key={reference}`, or EVALMESH_CONNECTIONS_FILE for services",
        )


def _origin(url: str, field: str) -> Origin:
    try:
        return origin_of(url)
    except ValueError:
        raise InvalidInput(
            f"{field}.url: this is no plain http(s) address; give one like https://host:port/path, without user name, "
            "blanks or backslashes.",
            {"field": f"{field}.url"},
        ) from None


def _refused(field: str, why: str) -> PermissionDenied:
    return PermissionDenied(f"{field}: {why}.", {"field": field})


def open_servers(
    *, file: str, inline: str, restricted: bool, keys_fd: int = -1, roots: Roots | None = None
) -> DeclaredServers:
    """From the settings of a service. Raises `InvalidInput`."""
    connections = [*read_connections_file(file), *parse_connections(inline, "EVALMESH_CONNECTIONS")]
    if twice := {one.name for one in connections if [other.name for other in connections].count(one.name) > 1}:
        raise InvalidInput(f"Connections are declared twice: {', '.join(sorted(twice))}; keep one of each.")
    keys = handed_over_keys(keys_fd) if keys_fd >= 0 else {}
    return DeclaredServers(connections, EnvSecrets(ChainMap(keys, os.environ)), restricted=restricted, roots=roots)


def handed_over_keys(descriptor: int) -> dict[str, str]:
    """Keys by variable name from the pipe a parent process left; they are in no environment and in no file.

    Raises `InvalidInput` for a pipe that holds something else.
    """
    try:
        with os.fdopen(descriptor, "rb") as pipe:
            found = json.loads(pipe.read(_MOST_KEY_BYTES) or b"{}")
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise InvalidInput("EVALMESH_KEYS_FD: there are no keys; only a parent process sets it, so leave it out.")
    return {str(name): str(value) for name, value in found.items()}


def read_connections_file(path: str) -> tuple[Connection, ...]:
    """Connections of a YAML (or JSON) file; none for an empty path. Raises `InvalidInput`."""
    if not path:
        return ()
    setting = "EVALMESH_CONNECTIONS_FILE"
    import yaml  # noqa: PLC0415  (few have such a file)

    try:
        value = yaml.safe_load(Path(path).expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"{setting}: {path!r} cannot be read: {error.strerror}.", {"field": setting}) from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        # What the parser says may quote a key that was put in the wrong place.
        raise InvalidInput(f"{setting}: {path!r} is no valid YAML.", {"field": setting}) from None
    return tuple(_connections(value, setting))


def parse_connections(text: str, setting: str) -> tuple[Connection, ...]:
    """Connections of a JSON list; none for an empty text. Raises `InvalidInput`."""
    if not text.strip():
        return ()
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidInput(f"{setting}: this is no valid JSON; {_EXAMPLE}", {"field": setting}) from None
    return tuple(_connections(value, setting))


def to_json(connections: Iterable[Connection]) -> str:
    """What `parse_connections` reads; it holds references, no keys."""
    return json.dumps(
        [
            {
                "name": one.name,
                "url": one.url,
                "hosts": list(one.hosts),
                "key_ref": one.key_ref,
                "headers": dict(one.headers),
                "max_concurrency": one.max_concurrency,
            }
            for one in connections
        ]
    )


_EXAMPLE = "write a list like [{name: openai, url: https://api.openai.com/v1, key_ref: env:OPENAI_API_KEY}]."


def _connections(value: Any, setting: str) -> Iterable[Connection]:
    if isinstance(value, dict) and set(value) == {"connections"}:
        value = value["connections"]
    if value is None:
        return
    if not isinstance(value, list):
        raise InvalidInput(f"{setting}: {_EXAMPLE}", {"field": setting})
    for place, one in enumerate(value):
        where = f"{setting}[{place}]"
        if not isinstance(one, dict):
            raise InvalidInput(f"{where}: {_EXAMPLE}", {"field": setting})
        yield connection_of(one, where)


def connection_of(values: Mapping[str, Any], where: str) -> Connection:
    """A connection from names and values. Raises `InvalidInput`, without repeating what may be a key."""
    for name in values:
        if name not in _FIELDS:
            near = difflib.get_close_matches(str(name), _FIELDS, n=1)
            advice = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(_FIELDS)}."
            raise InvalidInput(f"{where}: there is no {name!r}; {advice}", {"field": where})
    name, url = _text(values, "name", where), _text(values, "url", where)
    if not name:
        raise InvalidInput(f"{where}: a connection needs a name, by which specs refer to it.", {"field": where})
    hosts = values.get("hosts") or ([str(_origin(url, where))] if url else [])
    hosts = [hosts] if isinstance(hosts, str) else hosts
    if not isinstance(hosts, list) or not hosts:
        raise InvalidInput(f"{where}: give url, or hosts as a list like [https://api.openai.com].", {"field": where})
    for pattern in hosts:
        try:
            check_pattern(str(pattern))
        except ValueError as error:
            raise InvalidInput(f"{where}.hosts: {str(pattern)[:100]!r}: {error}.", {"field": where}) from None
    connection = Connection(
        name, tuple(map(str, hosts)), _key_ref(values, where), _headers(values, where), url, _most(values, where)
    )
    if url and not connection.covers(_origin(url, where)):
        raise InvalidInput(f"{where}: its url is not covered by its own hosts; add it there.", {"field": where})
    return connection


def _text(values: Mapping[str, Any], name: str, where: str) -> str:
    value = values.get(name) or ""
    if not isinstance(value, str):
        raise InvalidInput(f"{where}.{name}: give a text.", {"field": where})
    return value.strip()


def _key_ref(values: Mapping[str, Any], where: str) -> str:
    value = _text(values, "key_ref", where)
    if value and not is_reference(value):
        raise InvalidInput(
            f"{where}.key_ref: this is no reference to a key (its text is withheld, in case it is one); write env:NAME "
            "or secret:name/key.",
            {"field": where},
        )
    return value


def _headers(values: Mapping[str, Any], where: str) -> dict[str, str]:
    value = values.get("headers") or {}
    if not isinstance(value, dict) or not all(isinstance(one, str) for pair in value.items() for one in pair):
        raise InvalidInput(f"{where}.headers: give a mapping of names to texts or references.", {"field": where})
    return dict(value)


def _most(values: Mapping[str, Any], where: str) -> int:
    value = values.get("max_concurrency") or 0
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InvalidInput(f"{where}.max_concurrency: give a count of requests, or leave it out.", {"field": where})
    return value
