"""Single requests through aiohttp: they need be right, not fast."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from evalmesh.domain.errors import Unavailable
from evalmesh.domain.load_test import LoadTarget
from evalmesh.ports.environment import Secrets, with_keys
from evalmesh.ports.load_probe import ProbeAnswer

_MOST_BYTES = 4 << 20


class HttpProbe:
    """See `ports.load_probe.LoadProbe`; made by `open_probe`."""

    def __init__(self, session: aiohttp.ClientSession, keys: Secrets) -> None:
        self._session = session
        self._keys = keys

    async def send(self, target: LoadTarget, body: bytes, timeout_s: float) -> ProbeAnswer:
        headers = {"Content-Type": "application/json", **with_keys(target.headers, target.key_ref, self._keys)}
        try:
            async with self._session.post(
                target.url,
                data=body,
                headers=headers,
                ssl=_tls(target),
                timeout=aiohttp.ClientTimeout(total=timeout_s, connect=target.connect_timeout_s),
            ) as answer:
                return ProbeAnswer(answer.status, await answer.content.read(_MOST_BYTES))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(
                f"url: {target.url} does not answer: {_cause(error, timeout_s)}. Check the address, and that the "
                "server is up.",
                {"field": "url"},
            ) from error


def _tls(target: LoadTarget) -> ssl.SSLContext | bool:
    if not target.verify_tls:
        return False
    return ssl.create_default_context(cafile=target.ca_file) if target.ca_file else True


def _cause(error: Exception, timeout_s: float) -> str:
    if isinstance(error, TimeoutError):
        return f"nothing came within {timeout_s:g} s"
    return str(error) or type(error).__name__


@asynccontextmanager
async def open_probe(keys: Secrets) -> AsyncIterator[HttpProbe]:
    """Proxies of the environment are honoured, as the compatible transport does."""
    async with aiohttp.ClientSession(trust_env=True) as session:
        yield HttpProbe(session, keys)
