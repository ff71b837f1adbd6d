"""The server: routes, admission, truth keeping."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any
from urllib.parse import parse_qs

from evalmesh.domain.errors import FailedPrecondition, InvalidInput
from evalmesh.simulator.catalog import load_known
from evalmesh.simulator.faults import DELAYS, Fault, FaultPlan
from evalmesh.simulator.gate import Gate
from evalmesh.simulator.generation import (
    Pacer,
    Plan,
    frozen_for_s,
    send,
    serve,
)
from evalmesh.simulator.http import Connection, Exchange, HttpRequest
from evalmesh.simulator.knowledge import Knowledge
from evalmesh.simulator.ledger import Ledger
from evalmesh.simulator.messages_api import messages_error
from evalmesh.simulator.planner import Planner, Prompted
from evalmesh.simulator.schema import error_body, json_body, models_body
from evalmesh.simulator.settings import DEFAULT_MODEL, SimulatorSettings
from evalmesh.simulator.skill import KnownSample
from evalmesh.simulator.stats import Stats
from evalmesh.simulator.truth import Trace
from evalmesh.simulator.wheel import Wheel

_BACKLOG = 4096
_DRAIN_S = 0.2
_MAX_MODEL_LEN = 131_072
_GENERATING = (
    ("/chat/completions", "chat", ""),
    ("/completions", "completions", ""),
    ("/responses", "responses", ""),
    ("/messages", "messages", ""),
    ("/generate", "generate", ""),
    ("/images/generations", "images", ""),
    ("/embeddings", "embeddings", ""),
    ("/rerank", "rerank", "1"),
    ("/v2/rerank", "rerank", "2"),
)
"""Path, endpoint, version of the API."""


class Simulator:
    """An OpenAI-compatible server whose model knows benchmarks, errs at a known rate, and tells what it did."""

    def __init__(self, settings: SimulatorSettings | None = None, known: Iterable[KnownSample] | None = None) -> None:
        """Learns `known`, or at `start` the benchmarks that the settings name."""
        self.settings = settings or SimulatorSettings()
        self._known = None if known is None else tuple(known)
        self._knowledge: Knowledge | None = None
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._gate = Gate(self.settings.max_concurrency)
        self._ledger = Ledger(self.settings, self._gate)
        self._faults = FaultPlan(self.settings.skill.seed, self.settings.faults)
        self._created = int(time.time())
        self._started_s = 0.0
        self._routes = self._make_routes()

    @property
    def stats(self) -> Stats:
        """What was served since start or reset."""
        return self._ledger.stats

    @property
    def knowledge(self) -> Knowledge:
        """What the model knows, and `expected_right`; read from disk when first asked for."""
        if self._knowledge is None:
            settings = self.settings
            known = self._known
            if known is None:
                known = load_known(settings.benchmarks, settings.dataset_args, settings.dataset_dir)
            self._knowledge = Knowledge(known)
        return self._knowledge

    def expected_right(self, samples: Iterable[KnownSample] | None = None, request_seed: int | None = None) -> int:
        """How many of the samples (`None`: all) are answered right when each is asked once with this seed."""
        return self.knowledge.expected_right(self.settings.skill, samples, request_seed)

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Listens; port 0 takes a free one. Returns the URL to give as `--api-url`: `http://HOST:PORT/v1`."""
        if self._server is not None:
            raise FailedPrecondition("The simulator is running already; stop it before starting it again.")
        loop = asyncio.get_running_loop()
        self._planner = Planner(self.settings, self.knowledge)
        self._wheel = Wheel()
        self._started_s = time.monotonic()
        self._server = await loop.create_server(self._connect, host, port, backlog=_BACKLOG)
        address = self._server.sockets[0].getsockname()
        shown = f"[{address[0]}]" if ":" in address[0] else address[0]
        return f"http://{shown}:{address[1]}/v1"

    async def stop(self) -> None:
        """Stops listening, drops what is in flight, closes all connections."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=_DRAIN_S)
        for connection in tuple(self._connections):
            connection.close()
        await asyncio.sleep(0)
        for connection in tuple(self._connections):
            connection.abort()
        self._wheel.stop()
        await server.wait_closed()

    def reset_stats(self) -> None:
        """Forgets what was served; counted faults and tries start over."""
        self._ledger.reset()
        if self._server is not None:
            self._wheel.late_max_s = 0.0

    # Connections and routes.

    def _connect(self) -> Connection:
        return Connection(self._handle, self.settings.max_body_bytes, self._connection_changed)

    def _connection_changed(self, connection: Connection, is_open: bool) -> None:  # noqa: FBT001 - a callback's shape
        stats = self.stats
        if is_open:
            self._connections.add(connection)
            stats.total_connections += 1
        else:
            self._connections.discard(connection)
        stats.connections = len(self._connections)
        stats.max_connections = max(stats.max_connections, stats.connections)

    def _make_routes(self) -> dict[str, tuple[str, Callable[[HttpRequest, Exchange], None]]]:
        routes: dict[str, tuple[str, Callable[[HttpRequest, Exchange], None]]] = {
            path: ("POST", partial(self._generate, endpoint, version)) for path, endpoint, version in _GENERATING
        }
        routes |= {
            "/tokenize": ("POST", self._tokenize),
            "/models": ("GET", self._models),
            "/stats": ("GET", self._stats),
            "/stats/reset": ("POST", self._reset),
            "/truth": ("GET", self._tell_truth),
            "/truth/summary": ("GET", self._tell_truth),
            "/metrics": ("GET", self._metrics),
            "/health": ("GET", lambda _, exchange: exchange.send(200, b'{"status":"ok"}')),
        }
        return routes | {f"/v1{path}": route for path, route in routes.items()}

    def _handle(self, request: HttpRequest, exchange: Exchange) -> None:
        route = self._routes.get(request.path.rstrip("/"))
        if request.too_large:
            limit = self.settings.max_body_bytes
            message = f"The request body is longer than the {limit} bytes this server takes."
            exchange.send(413, error_body(message, "invalid_request_error"))
        elif route is None:
            message = f"There is nothing at {request.method} {request.path}; the API lives under /v1."
            exchange.send(404, error_body(message, "invalid_request_error"))
        elif request.method != route[0] and (request.method, route[0]) != ("HEAD", "GET"):
            message = f"{request.path} takes {route[0]}, not {request.method}."
            allow = f"Allow: {route[0]}\r\n".encode()
            exchange.send(405, error_body(message, "invalid_request_error"), allow)
        else:
            route[1](request, exchange)

    def _stats(self, request: HttpRequest, exchange: Exchange) -> None:
        wanted = parse_qs(request.query).get("samples", ["1"])[-1]
        self.stats.running = self._gate.running
        exchange.send(200, json_body(self.stats.as_json(with_samples=wanted not in {"0", "false"})))

    def _metrics(self, _: HttpRequest, exchange: Exchange) -> None:
        if self.settings.metrics == "none":
            exchange.send(
                404, error_body("This simulator has no metrics; start it without --metrics none.", "not_found")
            )
            return
        text = self._ledger.meter.text(self._gate)
        exchange.send(200, text, content_type=b"text/plain; version=0.0.4; charset=utf-8")

    def _tokenize(self, request: HttpRequest, exchange: Exchange) -> None:
        if not self._is_allowed(request, exchange):
            return
        try:
            tokens = self._planner.tokenize(request.body)
        except InvalidInput as error:
            self._invalid(error, exchange)
            return
        exchange.send(200, json_body({"count": len(tokens), "max_model_len": _MAX_MODEL_LEN, "tokens": tokens}))

    def _invalid(self, error: InvalidInput, exchange: Exchange) -> None:
        self.stats.invalid += 1
        exchange.send(400, error_body(str(error), "invalid_request_error"))

    def _tell_truth(self, request: HttpRequest, exchange: Exchange) -> None:
        if not self._ledger.truth.keeps:
            message = "This simulator keeps no times of requests; start it with --truth."
            exchange.send(404, error_body(message, "invalid_request_error"))
            return
        query = {name: values[-1] for name, values in parse_qs(request.query).items()}
        since = query.get("since", "0")
        seq = int(since) if since.isdigit() else 0
        if request.path.rstrip("/").endswith("/summary"):
            late = {"late_max_ms": 1e3 * self._wheel.late_max_s}
            exchange.send(200, json_body(self._ledger.truth.summary(seq) | late))
        else:
            lines = self._ledger.truth.lines(seq, with_times=query.get("times") in {"1", "true"})
            exchange.send(200, lines, content_type=b"application/x-ndjson")

    def _reset(self, _: HttpRequest, exchange: Exchange) -> None:
        self.reset_stats()
        exchange.send(200, b"{}")

    def _models(self, request: HttpRequest, exchange: Exchange) -> None:
        if self._is_allowed(request, exchange):
            exchange.send(200, models_body(self.settings.models or (DEFAULT_MODEL,), self._created))

    def _is_allowed(self, request: HttpRequest, exchange: Exchange) -> bool:
        key = self.settings.api_key
        if not key or request.authorization == f"Bearer {key}":
            return True
        self.stats.unauthorized += 1
        message = "The API key is missing or wrong; send it as Authorization: Bearer KEY."
        exchange.send(401, error_body(message, "authentication_error", "invalid_api_key"))
        return False

    # Generation.

    def _generate(self, endpoint: str, version: str, request: HttpRequest, exchange: Exchange) -> None:
        if not self._is_allowed(request, exchange):
            return
        try:
            prompted = self._planner.read(endpoint, request.body, version)
        except InvalidInput as error:
            self._invalid(error, exchange)
            return
        if self.settings.models and prompted.body.model not in self.settings.models:
            self.stats.invalid += 1
            message = f"The model {prompted.body.model!r} does not exist here; /v1/models lists those that do."
            exchange.send(404, error_body(message, "invalid_request_error", "model_not_found"))
            return
        self._admit(prompted, exchange, self._ledger.begin(request, prompted))

    def _admit(self, prompted: Prompted, exchange: Exchange, trace: Trace) -> None:
        ledger = self._ledger
        fault = self._faults.decide(trace.number, prompted.questions[0].names, trace.tries)
        if fault is not None:
            ledger.hit(trace, prompted, fault)
            if fault.status is not None:
                _refuse(exchange, fault, prompted.endpoint)
                ledger.refused(trace, exchange, fault.kind)
                return
        has_slot = self._gate.try_enter()
        if not has_slot and self.settings.overload == "reject":
            self.stats.overloaded += 1
            message = f"All {self.settings.max_concurrency} slots are taken; try again later."
            exchange.send(429, error_body(message, "overloaded"), b"Retry-After: 1\r\n")
            ledger.refused(trace, exchange, "overloaded")
            return
        plan = self._planner.plan(prompted, fault, trace.tries)
        if has_slot and self._is_instant(plan):
            ledger.started(trace, plan)
            is_done = send(plan, exchange, trace)
            self._gate.leave()
            ledger.ended(trace, plan, exchange, self.stats, "ok" if is_done else trace.fault)
        else:
            self._spawn(self._serve(plan, exchange, trace, has_slot=has_slot), exchange)

    def _is_instant(self, plan: Plan) -> bool:
        """Whether nothing has to be waited for; broken streams need turns of the event loop to break in the middle."""
        settings = self.settings
        fault = plan.fault
        if plan.rng is not None or (fault is not None and (plan.streamed is not None or fault.kind in DELAYS)):
            return False
        if settings.freeze is None:
            return True
        return not frozen_for_s(settings.freeze, time.monotonic() - self._started_s)

    async def _serve(self, plan: Plan, exchange: Exchange, trace: Trace, *, has_slot: bool) -> None:
        ledger, stats = self._ledger, self.stats
        outcome = trace.fault
        try:
            if not has_slot:
                await self._gate.enter()
                has_slot = True
            ledger.started(trace, plan)
            pacer = Pacer(self.settings, plan.rng, self._started_s, self._wheel)
            if await serve(plan, exchange, pacer, trace):
                outcome = "ok"
        except asyncio.CancelledError:
            stats.aborted += 1
            outcome = "aborted"
            raise
        finally:
            if has_slot:
                self._gate.leave()
            ledger.ended(trace, plan, exchange, stats, outcome)

    def _spawn(self, work: Coroutine[Any, Any, None], exchange: Exchange) -> None:
        task = asyncio.get_running_loop().create_task(work)
        exchange.on_gone = task.cancel
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _refuse(exchange: Exchange, fault: Fault, endpoint: str) -> None:
    status = fault.status or 500
    retry = status in {429, 503, 529}
    headers = f"Retry-After: {max(0, round(fault.retry_after_s))}\r\n".encode() if retry else b""
    message = f"The simulator was told to answer this request with status {status}."
    kind = "rate_limit_error" if status == 429 else "server_error"
    body = messages_error(status, message) if endpoint == "messages" else error_body(message, kind)
    exchange.send(status, body, headers)
