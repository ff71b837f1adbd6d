"""Questions to one hub: redirects followed by hand, the token for the hub alone, failures told apart."""

import asyncio
import email.utils
import json
import random
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar
from urllib.parse import urljoin

import aiohttp
from yarl import URL

from evalmesh.adapters.guarded_sockets import FORBIDDEN, is_forbidden, socket_factory
from evalmesh.adapters.hubs.settings import HubAccess
from evalmesh.adapters.proxies import proxy_for
from evalmesh.adapters.tls import tls_context
from evalmesh.domain.connection import Egress, origin_of
from evalmesh.domain.errors import PermissionDenied, Unavailable
from evalmesh.domain.hub import TITLES

T = TypeVar("T")
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=15, sock_read=60)
_REDIRECTS = 6
_MOST_JSON_BYTES = 64 << 20
_MOST_ERROR_BYTES = 4096
_MOST_TOLD = 300
_TRIES, _QUESTION_TRIES = 6, 4
_FIRST_WAIT_S, _MOST_WAIT_S = 0.5, 20.0
PATIENCE_S = 300.0
"""A hub that wants a longer pause is not waited for."""
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 522, 524})
_ANNOUNCED = ("x-repo-commit", "x-linked-etag", "x-linked-size", "etag")
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "evalmesh"}
Sleep = Callable[[float], Awaitable[None]]


class Trouble(Exception):
    """A try failed, and another one may not."""

    def __init__(self, why: str, wait_s: float | None = None) -> None:
        super().__init__(why)
        self.wait_s = wait_s
        """What the hub asks for."""


class Refused(Exception):
    """The hub's answer is no; the same question would get the same answer."""

    def __init__(self, status: int, code: str, told: str) -> None:
        super().__init__(f"{status} {code} {told}")
        self.status = status
        self.code = code
        """`RepoNotFound`, `RevisionNotFound`, `EntryNotFound`, `GatedRepo`, ... on Hugging Face."""
        self.told = told
        """In the hub's own words."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer whose body is still to be read."""

    response: aiohttp.ClientResponse
    announced: Mapping[str, str] = field(default_factory=dict)
    """What the hub itself said of the file, in small letters; storage behind it says nothing of that."""


class HubHttp:
    """One session with one hub; opened where it is used, and closed with `async with`."""

    def __init__(
        self, access: HubAccess, egress: Egress, sleep: Sleep = asyncio.sleep, patience_s: float = PATIENCE_S
    ) -> None:
        """`patience_s`: so long a question may take, pauses that the hub asks for included."""
        self.access = access
        self._patience_s = patience_s
        self._origin = origin_of(access.endpoint)
        # Whoever set the hub's address meant it to be asked, on this machine too; redirects may go there as well then.
        self._egress = egress
        self._sleep = sleep
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=16,
                ssl=tls_context("", verify=True, field="SSL_CERT_FILE"),
                socket_factory=socket_factory(self._egress),
            ),
            headers=_HEADERS,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=_TIMEOUT,
            auto_decompress=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    @property
    def where(self) -> str:
        """For messages: which hub, and at which address."""
        return f"{TITLES[self.access.hub]} ({self._origin})"

    async def json(self, path: str, params: Mapping[str, str] | None = None) -> tuple[Any, Mapping[str, str]]:
        """The answer to a question under the hub's address, and its headers. Raises `Refused`, `Unavailable`."""

        async def ask() -> tuple[Any, Mapping[str, str]]:
            async with self.get(URL(self.access.endpoint + path, encoded=True).update_query(params or {})) as reply:
                body = await _read(reply.response, _MOST_JSON_BYTES)
                try:
                    return json.loads(body or b"null"), reply.response.headers
                except (ValueError, RecursionError):
                    raise Unavailable(
                        f"{self.where} answered with something that is no JSON: is this a hub, or the sign-in page of "
                        "a network? Check the address and the proxy."
                    ) from None

        return await self._in_time(ask)

    async def status(self, path: str) -> None:
        """Whether the hub says yes. Raises `Refused`, `Unavailable`."""

        async def ask() -> None:
            async with self.get(URL(self.access.endpoint + path, encoded=True)):
                pass

        await self._in_time(ask)

    async def _in_time(self, ask: Callable[[], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(self._patience_s):
                return await self.persist(ask, tries=_QUESTION_TRIES)
        except TimeoutError:
            raise Unavailable(f"{self.where} cannot be used: it did not answer in time.") from None

    async def persist(
        self, ask: Callable[[], Awaitable[T]], progress: Callable[[], int] | None = None, tries: int = _TRIES
    ) -> T:
        """Repeats what has `Trouble`. Tries count anew whenever `progress` has grown. Raises `Unavailable`."""
        failures, before = 0, progress() if progress else 0
        while True:
            try:
                return await ask()
            except Trouble as trouble:
                now = progress() if progress else 0
                failures, before = (failures + 1 if now <= before else 1), now
                wait_s = trouble.wait_s
                if failures >= tries or (wait_s or 0) > self._patience_s:
                    asked = f"; it wants to be asked again in {wait_s:.0f} s" if wait_s else ""
                    raise Unavailable(f"{self.where} cannot be used: {trouble}{asked}.") from trouble
                if wait_s is None:
                    wait_s = random.uniform(0, min(_MOST_WAIT_S, _FIRST_WAIT_S * 2**failures))  # noqa: S311
                await self._sleep(wait_s)

    @asynccontextmanager
    async def get(self, url: URL, headers: Mapping[str, str] | None = None) -> AsyncIterator[Reply]:
        """One try. Raises `Trouble` for what may pass, `Refused` for what will not."""
        assert self._session is not None  # noqa: S101  (used with `async with`)
        announced: dict[str, str] = {}
        try:
            for _ in range(_REDIRECTS):
                async with self._session.get(
                    url,
                    headers={**(headers or {}), **self._credentials(url)},
                    allow_redirects=False,
                    proxy=proxy_for(str(url)) or None,
                ) as response:
                    if self._is_own(url):
                        said = {name: response.headers[name] for name in _ANNOUNCED if name in response.headers}
                        announced = {**said, **announced}
                    if response.status in {301, 302, 303, 307, 308} and "Location" in response.headers:
                        url = self._next(url, response.headers["Location"])
                        continue
                    await _check(response)
                    yield Reply(response, announced)
                    return
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if is_forbidden(error):
                raise self._forbidden() from None
            raise Trouble(_why(error)) from error
        raise Trouble("it redirects without end")

    def _is_own(self, url: URL) -> bool:
        try:
            return origin_of(str(url)) == self._origin
        except ValueError:
            return False

    def _credentials(self, url: URL) -> dict[str, str]:
        """The token goes to the hub, never to the storage it redirects to."""
        if not self.access.token or not self._is_own(url):
            return {}
        bearer = {"Authorization": f"Bearer {self.access.token}"}
        if self.access.hub == "modelscope":
            bearer["Cookie"] = f"m_session_id={self.access.token}"
        return bearer

    def _next(self, url: URL, location: str) -> URL:
        # As it was written: storage checks a signature over the very characters.
        target = URL(urljoin(str(url), location), encoded=True)
        if target.scheme not in {"http", "https"} or (url.scheme == "https" and target.scheme == "http"):
            raise PermissionDenied(f"{self.where} redirects to {target.scheme}://{target.host}, which is not followed.")
        if self._egress.refuses_name(target.host or ""):
            raise self._forbidden()
        return target

    def _forbidden(self) -> PermissionDenied:
        return PermissionDenied(f"{self.where} is at, or sends to, an address that is out of reach: {FORBIDDEN}.")


async def _read(response: aiohttp.ClientResponse, most_bytes: int) -> bytes:
    """The body, or its beginning."""
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) >= most_bytes:
            break
    return bytes(body)


async def _check(response: aiohttp.ClientResponse) -> None:
    if response.status in {200, 206, 416}:
        return
    text = (await _read(response, _MOST_ERROR_BYTES)).decode(errors="replace")
    told = response.headers.get("X-Error-Message") or _told(text)
    if response.status in _AGAIN:
        raise Trouble(f"it answered {response.status} {told}".rstrip(), _wait_s(response.headers))
    raise Refused(response.status, response.headers.get("X-Error-Code", ""), told)


def _told(text: str) -> str:
    try:
        body = json.loads(text)
    except ValueError:
        body = None
    words = body if isinstance(body, dict) else {}
    said = next((words[key] for key in ("error", "Message", "message") if words.get(key)), "")
    return re.sub(r"\s+", " ", str(said))[:_MOST_TOLD]


def _wait_s(headers: Mapping[str, str]) -> float | None:
    """`Retry-After` in seconds or as a date; else when Hugging Face's window begins anew (`RateLimit: ...;t=55`)."""
    text = headers.get("Retry-After", "").strip()
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError):
        found = re.search(r";\s*t=(\d+)", headers.get("RateLimit", ""))
        return float(found[1]) if found else None


_REASONS: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str], ...] = (
    (TimeoutError, "it did not answer in time"),
    (aiohttp.ClientProxyConnectionError, "the proxy of the environment cannot be reached"),
    (aiohttp.ClientHttpProxyError, "the proxy of the environment refuses to pass the question on"),
    (
        (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError),
        "its certificate is not trusted (SSL_CERT_FILE names authorities to trust)",
    ),
    (aiohttp.ClientConnectorDNSError, "its name cannot be resolved"),
    (aiohttp.ClientConnectorError, "no connection could be made"),
    (
        (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, ConnectionError),
        "it broke the connection off",
    ),
)


def _why(error: BaseException) -> str:
    known = next((words for kinds, words in _REASONS if isinstance(error, kinds)), "")
    return known or f"{type(error).__name__}: {error}"
