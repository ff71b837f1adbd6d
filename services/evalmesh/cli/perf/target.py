"""Which endpoint a load test asks, over which API, with which key."""

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from evalmesh.cli.connections import literal_key, own_connection, reference_to, told_by_environment
from evalmesh.cli.perf.config import PerfConfig
from evalmesh.cli.perf.keys import API_ADVICE
from evalmesh.domain.connection import Connection, is_reference
from evalmesh.domain.errors import InvalidInput, Unimplemented
from evalmesh.domain.load_test import LoadTarget

LOCAL_APIS = ("local", "local_vllm")
_ENDINGS: Mapping[str, str] = {
    # The longer ones first.
    "/chat/completions": "chat",
    "/completions": "completions",
    "/responses": "responses",
    "/embeddings": "embeddings",
    "/reranks": "rerank",
    "/rerank": "rerank",
}
_PATHS: Mapping[str, str] = {
    "chat": "/chat/completions",
    "completions": "/completions",
    "responses": "/responses",
    "embeddings": "/embeddings",
    "rerank": "/rerank",
}
_APIS: Mapping[str, str] = {
    # What users write -> what the spec calls it; `openai` and local ones follow the path.
    "openai_chat": "chat",
    "chat": "chat",
    "openai_completions": "completions",
    "completions": "completions",
    "openai_responses": "responses",
    "openai_response": "responses",
    "responses": "responses",
    "openai_embedding": "embeddings",
    "embedding": "embeddings",
    "embeddings": "embeddings",
    "openai_rerank": "rerank",
    "rerank": "rerank",
}
_SECRET_HEADERS = ("key", "token", "secret", "cookie", "authorization", "password")


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
    path = parts.path.rstrip("/")
    ending = next((end for end in _ENDINGS if path.endswith(end)), "")
    wanted = _APIS.get(config.api)
    if config.api == "openai" or config.api in LOCAL_APIS:
        wanted = _ENDINGS[ending] if ending else "chat"
    if wanted is None:
        return given, config.api  # a plug-in knows its own address
    if wanted == "chat" and (config.tokenize_prompt or (config.dataset or "").startswith("speed_benchmark")):
        wanted = "completions"
    base = path.removesuffix(ending) if ending else path
    suffix = ending if ending and _ENDINGS[ending] == wanted else _PATHS[wanted]
    if not base and not ending:
        base = "/v1"  # `http://host:8000` means its OpenAI API
    return parts._replace(path=base + suffix).geturl(), wanted


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
    headers, bearer = _headers(config)
    return LoadTarget(
        url=url,
        model=config.model,
        api=api,
        key_ref=_key_ref(config, bearer),
        headers=headers,
        stream=config.stream and is_generating(api),
        connect_timeout_s=config.connect_timeout or default.connect_timeout_s,
        read_timeout_s=config.read_timeout or default.read_timeout_s,
        total_timeout_s=config.total_timeout,
        transport=config.transport,
        verify_tls=not config.insecure,
        ca_file=_ca_file(config),
        connection=config.connection,
    )


def _ca_file(config: PerfConfig) -> str:
    if not config.ca_file or config.server:
        return config.ca_file or ""
    path = Path(config.ca_file).expanduser()
    if not path.is_file():
        raise InvalidInput(f"ca_file: {config.ca_file!r} is no file; give a PEM file.", {"field": "ca_file"})
    return str(path.absolute())


def _headers(config: PerfConfig) -> tuple[dict[str, str], str]:
    """Headers without keys, and the bearer token that was among them."""
    headers, bearer = {}, ""
    for name, value in config.headers.items():
        if _is_bearer(name, value):
            bearer = value[7:].strip()
        elif _is_held(name, value):
            headers[name] = _held_here(config, name)
        else:
            headers[name] = value
    return headers, bearer


def _held_here(config: PerfConfig, name: str) -> str:
    """The reference to a header's key, which is handed over apart from the spec."""
    if config.server:
        raise InvalidInput(
            f"headers.{name}: a key itself is never sent to a server (its text is withheld); whoever "
            f"runs the platform declares it (evalmesh up --connection), and you write {name}=env:NAME.",
            {"field": f"headers.{name}"},
        )
    return f"env:{_variable(name)}"


def _variable(header: str) -> str:
    return "EVALMESH_HEADER_" + re.sub(r"[^A-Za-z0-9]", "_", header).upper()


def _is_bearer(name: str, value: str) -> bool:
    return name.lower() == "authorization" and value.lower().startswith("bearer ")


def _is_held(name: str, value: str) -> bool:
    """Whether a header's value is a key, and no reference to one."""
    return any(word in name.lower() for word in _SECRET_HEADERS) and not is_reference(value)


def declared(config: PerfConfig) -> tuple[Connection, ...]:
    """What a platform of this command's own is told about the config's keys: they go to its address."""
    if config.server or config.connection:
        return ()
    headers, bearer = _headers(config)
    return own_connection(resolve_url(config)[0], _key_ref(config, bearer), headers)


def literal_keys(config: PerfConfig) -> dict[str, str]:
    """Keys that were typed, by the variables that references name."""
    if config.server:
        return {}
    held = {
        _variable(name): value
        for name, value in config.headers.items()
        if _is_held(name, value) and not _is_bearer(name, value)
    }
    _, bearer = _headers(config)
    return held | literal_key(_key(config) or bearer)


def told(config: PerfConfig) -> list[str]:
    """Sentences about what was taken from variables that other programs share."""
    return told_by_environment(config.url or "", _key_ref(config, _headers(config)[1]))


def _key_ref(config: PerfConfig, bearer: str) -> str:
    key = _key(config) or bearer
    # A connection has its key; the one that is sent where nothing is said belongs elsewhere.
    return "" if config.connection and not key else reference_to(key, config.server, config.url or "")


def _key(config: PerfConfig) -> str:
    return config.api_key.get_secret_value().strip() if config.api_key is not None else ""
