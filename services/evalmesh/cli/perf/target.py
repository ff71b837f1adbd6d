"""Which endpoint a load test asks, over which API, with which key."""

from contextlib import suppress
from typing import cast
from urllib.parse import SplitResult, urlsplit

from evalmesh.cli.connections import ca_file_of, literal_key, own_connection, reference_to, told_by_environment
from evalmesh.cli.headers import Headers, split_headers
from evalmesh.cli.perf.config import PerfConfig
from evalmesh.cli.perf.keys import API_ADVICE, APIS
from evalmesh.dialect.addresses import Call, read_address
from evalmesh.domain.connection import Connection
from evalmesh.domain.errors import InvalidInput, Unimplemented
from evalmesh.domain.load_test import LoadTarget

LOCAL_APIS = ("local", "local_vllm")


def is_generating(api: str) -> bool:
    """Whether answers come out token by token."""
    return api not in {"embeddings", "rerank"}


def resolve_url(config: PerfConfig) -> tuple[str, str]:
    """(full address, API of the spec). Raises `InvalidInput` and `Unimplemented`."""
    if config.api in API_ADVICE:
        raise Unimplemented(f"api: {config.api!r} is EvalScope's and not supported here; {API_ADVICE[config.api]}.")
    given = (config.url or "").strip() or f"http://127.0.0.1:{config.port}/v1"
    parts = urlsplit("")
    with suppress(ValueError):
        parts = urlsplit(given)
    if parts.scheme not in {"http", "https"} or not parts.hostname or not _has_port(parts):
        raise InvalidInput(
            f"url: {given!r} is no http address with a port of 1 to 65535; give the full one, e.g. "
            "http://127.0.0.1:8000/v1/chat/completions.",
            {"field": "url"},
        )
    address = read_address(given)
    wanted: str | None = APIS.get(config.api)
    if config.api == "openai" or config.api in LOCAL_APIS:
        wanted = address.call or "chat"
    if wanted is None:
        return given, config.api  # a plug-in knows its own address
    if wanted == "chat" and (config.tokenize_prompt or (config.dataset or "").startswith("speed_benchmark")):
        wanted = "completions"
    return address.url(cast("Call", wanted)), wanted


def check_api(config: PerfConfig) -> None:
    """Raises `InvalidInput` for a name that means nothing here; a server has plug-ins of its own."""
    if config.server or config.api in {"openai", *LOCAL_APIS, *APIS, *API_ADVICE}:
        return
    from evalmesh.load_generator.apis import registry  # noqa: PLC0415  (few have plug-ins)

    known = {"openai", *LOCAL_APIS, *APIS, *registry.names()}
    if config.api not in known:
        raise InvalidInput(
            f"api: there is none named {config.api[:80]!r}; there are {', '.join(sorted(known))}. "
            f"A package adds one through the entry point group {registry.GROUP!r}.",
            {"field": "api"},
        )


def _has_port(parts: SplitResult) -> bool:
    """Whether its port is one, or left out."""
    try:
        return parts.port is None or parts.port > 0
    except ValueError:
        return False


def target_of(config: PerfConfig) -> LoadTarget:
    """The endpoint of the spec. Literal keys are no part of it: `literal_keys` hands them to the platform."""
    url, api = resolve_url(config)
    if not config.model:
        raise InvalidInput(
            "model: missing; give the name the endpoint knows the model by with --model.", {"field": "model"}
        )
    default = LoadTarget(url=url, model="")
    headers = _headers(config)
    return LoadTarget(
        url=url,
        model=config.model,
        api=api,
        key_ref=_key_ref(config, headers.bearer),
        headers=headers.shown,
        stream=config.stream and is_generating(api),
        connect_timeout_s=config.connect_timeout or default.connect_timeout_s,
        read_timeout_s=config.read_timeout or default.read_timeout_s,
        total_timeout_s=config.total_timeout,
        transport=config.transport,
        verify_tls=not config.insecure,
        ca_file=ca_file_of(config.ca_file, config.server),
        connection=config.connection,
    )


def _headers(config: PerfConfig) -> Headers:
    return split_headers(config.headers, config.server)


def declared(config: PerfConfig) -> tuple[Connection, ...]:
    """What a platform of this command's own is told about the config's keys: they go to its address."""
    if config.server or config.connection:
        return ()
    headers = _headers(config)
    return own_connection(resolve_url(config)[0], _key_ref(config, headers.bearer), headers.shown)


def literal_keys(config: PerfConfig) -> dict[str, str]:
    """Keys that were typed, by the variables that references name."""
    if config.server:
        return {}
    headers = _headers(config)
    return {**headers.keys, **literal_key(_key(config) or headers.bearer)}


def told(config: PerfConfig) -> list[str]:
    """Sentences about what was taken from variables that other programs share."""
    return told_by_environment(config.url or "", _key_ref(config, _headers(config).bearer))


def _key_ref(config: PerfConfig, bearer: str) -> str:
    key = _key(config) or bearer
    # A connection has its key; the one that is sent where nothing is said belongs elsewhere.
    return "" if config.connection and not key else reference_to(key, config.server, config.url or "")


def _key(config: PerfConfig) -> str:
    return config.api_key.get_secret_value().strip() if config.api_key is not None else ""
