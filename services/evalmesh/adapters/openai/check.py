"""Whether an endpoint can work at all, found out in seconds."""

import asyncio
import difflib
import logging
from collections.abc import Mapping

import aiohttp
import msgspec
from yarl import URL

from evalmesh.adapters.openai.bounds import read_start
from evalmesh.adapters.openai.errors import explain_connect, failure_of_status
from evalmesh.adapters.openai.target import Target
from evalmesh.domain.errors import NotFound, Unauthenticated, Unavailable
from evalmesh.domain.run import ModelSpec

_log = logging.getLogger(__name__)

_TRIES = 2
_NAMES_SHOWN = 5
_LIST_BYTES = 8 << 20
"""The longest lists of models take a tenth of it; one that is cut is no list."""


class _Model(msgspec.Struct):
    id: str | None = None


class _ModelList(msgspec.Struct):
    data: list[_Model] | None = None


async def check_endpoint(session: aiohttp.ClientSession, target: Target, model: ModelSpec, timeout_s: float) -> None:
    """Asks for the list of models, twice at most.

    Raises `Unavailable`, `Unauthenticated` or, when both the list and the server deny the model, `NotFound`.
    """
    problem = ""
    for _ in range(_TRIES):
        try:
            status, body, headers = await _exchange(session, target, timeout_s)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            problem = target.redact(_explain(error, target.where, timeout_s))
            continue
        if status < 500 or status == 501:
            await _judge(session, target, model, (status, body, headers))
            return
        problem = failure_of_status(status, body, headers, target.redact).message
    raise Unavailable(f"The model's endpoint {target.where} is not available. {problem}", {"url": target.where})


async def _judge(
    session: aiohttp.ClientSession, target: Target, model: ModelSpec, reply: tuple[int, bytes, Mapping[str, str]]
) -> None:
    status, body, headers = reply
    if status in {401, 403}:
        raise _refused(target, model, failure_of_status(status, body, headers, target.redact).message)
    if status >= 300:
        # Many servers have no list of models; the requests will tell.
        _log.info("%s does not list its models (status %d).", target.where, status)
        return
    names = _names(body)
    if not names or model.name in names or f"{model.name}:latest" in names:
        return
    await _ask_for_model(session, target, model, names)


async def _ask_for_model(session: aiohttp.ClientSession, target: Target, model: ModelSpec, names: list[str]) -> None:
    """Servers answer to aliases they do not list, so only the server's own "no such model" counts."""
    url, prompt = (
        (target.chat_url, {"messages": [{"role": "user", "content": "Hi"}]})
        if model.kind == "chat"
        else (target.completions_url, {"prompt": "Hi"})
    )
    body = msgspec.json.encode({"model": model.name, "max_tokens": 1, **prompt})
    near = difflib.get_close_matches(model.name, names, n=1)
    shown = ", ".join(dict.fromkeys([*near, *names[:_NAMES_SHOWN]])) + (", …" if len(names) > _NAMES_SHOWN else "")
    try:
        status, said, headers = await _exchange(session, target, 10.0, (url, body))
    except (aiohttp.ClientError, TimeoutError, OSError):
        status, said, headers = 0, b"", {}
    if status in {401, 403}:
        raise _refused(target, model, failure_of_status(status, said, headers, target.redact).message)
    if status == 404 or b"model_not_found" in said:
        raise NotFound(
            f"The endpoint {target.where} does not serve the model {model.name!r}; it has: {target.redact(shown)}.",
            {"field": "model.name"},
        )
    _log.warning("%s does not list the model %r; it lists: %s", target.where, model.name, target.redact(shown))


async def _exchange(
    session: aiohttp.ClientSession, target: Target, timeout_s: float, post: tuple[URL, bytes] | None = None
) -> tuple[int, bytes, Mapping[str, str]]:
    url, data = (target.models_url, None) if post is None else post
    method = "GET" if post is None else "POST"
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    async with session.request(method, url, data=data, timeout=timeout, allow_redirects=False) as response:
        return response.status, await read_start(response.content, _LIST_BYTES), response.headers


def _refused(target: Target, model: ModelSpec, said: str) -> Unauthenticated:
    key = f"the key of {model.key_ref!r}" if model.key_ref else "requests without a key"
    return Unauthenticated(
        f"The endpoint {target.where} refuses {key}; check model.key_ref. {said}", {"field": "model.key_ref"}
    )


def _explain(error: BaseException, where: str, timeout_s: float) -> str:
    if isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)):
        return explain_connect(error, where)
    if isinstance(error, asyncio.TimeoutError):
        return f"It did not answer within {timeout_s:g} s; check the address and whether the server is overloaded."
    said = str(error) or type(error).__name__
    return f"It does not answer in HTTP as expected ({said}); check the address and the port."


def _names(body: bytes) -> list[str]:
    try:
        models = msgspec.json.decode(body, type=_ModelList)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []
    return [model.id for model in models.data or () if model.id]
