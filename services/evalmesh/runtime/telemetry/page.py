"""`/metrics` over HTTP, for whoever shows the token that the service's other callers show."""

import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from evalmesh.domain.errors import InvalidInput, Unauthenticated
from evalmesh.runtime.entrance import Authenticator
from evalmesh.runtime.telemetry.instruments import heard_by
from evalmesh.runtime.telemetry.ledger import Ledger

_LOG = logging.getLogger(__name__)
_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@asynccontextmanager
async def served_metrics(
    address: str, authenticator: Authenticator, tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """Counts and shows what all services of this process do, for the block; the port. Raises `InvalidInput`."""
    ledger = Ledger()

    async def show(request: web.Request) -> web.Response:
        try:
            authenticator.identify({"authorization": request.headers.get("Authorization", "")})
        except Unauthenticated as error:
            return web.Response(status=401, text=f"{error.message}\n", headers={"WWW-Authenticate": "Bearer"})
        return web.Response(body=ledger.text(), headers={"Content-Type": _TYPE})

    app = web.Application()
    app.router.add_get("/metrics", show)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    host, _, port = address.rpartition(":")
    try:
        with heard_by(ledger):
            site = web.TCPSite(runner, host.strip("[]") or None, int(port), ssl_context=tls)
            await site.start()
            listening = int(runner.addresses[0][1])
            _LOG.info("metrics on port %d", listening, extra={"metrics_port": listening})
            yield listening
    except (OSError, ValueError, OverflowError) as error:
        raise InvalidInput(
            f"EVALMESH_METRICS_ADDRESS: {address!r} cannot be listened on: its port is taken, or it is no HOST:PORT "
            "of this machine; give another one.",
            {"field": "metrics_address"},
        ) from error
    finally:
        await runner.cleanup()
