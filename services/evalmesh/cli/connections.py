"""Keys of the command line: bound to the address beside them, held by this process and handed to who asks with them."""

import os
from collections.abc import Mapping
from pathlib import Path

from evalmesh.cli.headers import headers_of, split_headers
from evalmesh.cli.options import parse_options
from evalmesh.domain.connection import Connection, is_reference, origin_of
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.run import ModelSpec

KEY_VARIABLE = "EVALMESH_API_KEY"
"""What references call a key that was typed; also read where no key is given."""
URL_VARIABLE = "OPENAI_BASE_URL"
"""As OpenAI's own clients read it: the address where none is given, and where the next one belongs."""
_OPENAI_KEY = "OPENAI_API_KEY"
_OPENAI = "https://api.openai.com/v1"
_HOMES = {"https://api.anthropic.com": "ANTHROPIC_API_KEY"}
"""Addresses of providers, and the variables in which their own clients look for the key."""
_OWN = "command-line"


def default_url() -> str:
    """The address that counts where none is given; empty: there is none."""
    return os.environ.get(URL_VARIABLE, "").strip()


def told_by_environment(url: str, key_ref: str) -> list[str]:
    """Sentences about what a command took from variables that other programs share."""
    told = [f"The address {url} is that of {URL_VARIABLE}."] if url and url == default_url() else []
    name = key_ref.removeprefix("env:")
    return [*told, f"The key is that of {name}."] if name in {_OPENAI_KEY, *_HOMES.values()} else told


def _default_key(url: str) -> str:
    """The variable whose key is sent where none is given: a provider's goes to its own address only."""
    if os.environ.get(KEY_VARIABLE):
        return KEY_VARIABLE
    try:
        there = origin_of(url)
        homes = {origin_of(default_url() or _OPENAI): _OPENAI_KEY}
    except ValueError:
        return ""
    homes |= {origin_of(home): name for home, name in _HOMES.items()}
    name = homes.get(there, "")
    return name if os.environ.get(name) else ""


def reference_to(key: str, server: str | None, url: str) -> str:
    """The reference to a key given in any form; a literal one is handed over as `KEY_VARIABLE` (`literal_key`)."""
    if key == "EMPTY":
        return ""
    if not key:
        name = "" if server else _default_key(url)
        return f"env:{name}" if name else ""
    if key.startswith("env:"):
        name = key.removeprefix("env:")
        if not server and name not in os.environ:
            raise InvalidInput(
                f"api_key: the environment variable {name!r} is not set; export it, or name another.",
                {"field": "api_key"},
            )
        return key
    if key.startswith("secret:"):
        return key
    if server:
        raise InvalidInput(
            "api_key: a key itself is never sent to a server (its text is withheld); whoever runs the platform "
            "declares it (`evalmesh up --connection NAME=URL,key=env:NAME`), and you give --api-key env:NAME.",
            {"field": "api_key"},
        )
    return f"env:{KEY_VARIABLE}"


def literal_key(key: str) -> dict[str, str]:
    """A key that is itself given, by the variable that references to it name; nothing for a reference."""
    return {} if not key or key == "EMPTY" or is_reference(key) else {KEY_VARIABLE: key}


def keys_again(run_id: str, model: ModelSpec, key: str | None, headers: list[str]) -> dict[str, str]:
    """Keys of a run that is taken up again, by the variables its spec refers to them by: they are kept nowhere.

    Raises `InvalidInput` for one that is neither given nor in the environment.
    """
    given = (key or "").strip()
    keys = {**literal_key(given), **split_headers(headers_of(headers, "headers"), None).keys}
    if given.startswith("env:"):
        # The run refers to the key by the name it was given first.
        keys[KEY_VARIABLE] = os.environ.get(given.removeprefix("env:"), "")
    wanted = [(model.key_ref, "--api-key")]
    wanted += [(value, f"--header {name}=VALUE") for name, value in model.headers.items()]
    for reference, flag in wanted:
        name = reference.removeprefix("env:")
        if name != reference and not (keys.get(name) or os.environ.get(name)):
            raise InvalidInput(
                f"{run_id} needs a key of its endpoint, which is not kept anywhere: export {name}, or give {flag}.",
                {"field": "api_key" if reference == model.key_ref else "headers"},
            )
    return keys


def own_connection(url: str, key_ref: str, headers: Mapping[str, str]) -> tuple[Connection, ...]:
    """What a command line that names an address and keys declares: these keys go there, and nowhere else."""
    held = {name: value for name, value in headers.items() if is_reference(value)}
    if not key_ref and not held:
        return ()
    try:
        origin = str(origin_of(url))
    except ValueError:
        return ()  # refused by name when the spec is checked
    return (Connection(_OWN, (origin,), key_ref, held),)


def ca_file_of(path: str | None, server: str | None) -> str:
    """The file with authorities, absolute for a platform of this command's own. Raises `InvalidInput`."""
    if not path or server:
        return path or ""
    file = Path(path).expanduser()
    if not file.is_file():
        raise InvalidInput(f"ca_file: {path!r} is no file; give a PEM file.", {"field": "ca_file"})
    return str(file.absolute())


def parse_connection(text: str) -> Connection:
    """`NAME=URL,key=env:NAME` of `evalmesh up --connection`. Raises `InvalidInput`, without repeating a key."""
    from evalmesh.adapters.model_servers import connection_of  # noqa: PLC0415  (few commands need it)

    where = "--connection"
    name, _, rest = text.partition("=")
    url, _, more = rest.partition(",")
    if "://" not in url:
        raise InvalidInput(
            f"{where}: write NAME=URL,key=env:VARIABLE, e.g. openai=https://api.openai.com/v1,key=env:OPENAI_API_KEY.",
            {"field": "connection"},
        )
    values = parse_options(more, where)
    if "key" in values:
        values["key_ref"] = values.pop("key")
    return connection_of({"name": name.strip(), "url": url.strip(), **values}, where)


def declared_in_environment() -> tuple[Connection, ...]:
    """Connections that the services' settings declare, for a platform started here. Raises `InvalidInput`."""
    file, inline = os.environ.get("EVALMESH_CONNECTIONS_FILE", ""), os.environ.get("EVALMESH_CONNECTIONS", "")
    if not file and not inline:
        return ()
    from evalmesh.adapters.model_servers import parse_connections, read_connections_file  # noqa: PLC0415  (likewise)

    return (*read_connections_file(file), *parse_connections(inline, "EVALMESH_CONNECTIONS"))
