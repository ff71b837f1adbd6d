"""Which endpoint a load test asks, over which API, with which key."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from evalmesh.cli.eval.spec import reference_to
from evalmesh.cli.perf.config import PerfConfig
from evalmesh.cli.perf.keys import API_ADVICE
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
    parts = urlsplit(given)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise InvalidInput(
            f"url: {given!r} is no http address; give the full one, e.g. http://127.0.0.1:8000/v1/chat/completions.",
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


def target_of(config: PerfConfig) -> LoadTarget:
    """The endpoint of the spec. A literal key stays in this process's environment, and the spec names that."""
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
        if name.lower() == "authorization" and value.lower().startswith("bearer "):
            bearer = value[7:].strip()
        elif any(word in name.lower() for word in _SECRET_HEADERS) and not value.startswith(("env:", "secret:")):
            headers[name] = _held_here(config, name, value)
        else:
            headers[name] = value
    return headers, bearer


def _held_here(config: PerfConfig, name: str, value: str) -> str:
    """The reference to a header's key, which stays in this process."""
    if config.server:
        raise InvalidInput(
            f"headers.{name}: a key itself is never sent to a server (its text is withheld); make it known to the "
            f"server's load generators as an environment variable and write {name}=env:NAME.",
            {"field": f"headers.{name}"},
        )
    variable = "EVALMESH_HEADER_" + re.sub(r"[^A-Za-z0-9]", "_", name).upper()
    os.environ[variable] = value
    return f"env:{variable}"


def _key_ref(config: PerfConfig, bearer: str) -> str:
    given = config.api_key.get_secret_value().strip() if config.api_key is not None else ""
    return reference_to(given or bearer, config.server)
