"""A collector: takes traces, metrics and logs over OTLP (HTTP or gRPC) and keeps them as they were decoded."""

import gzip
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

_KINDS = {
    "/v1/traces": (ExportTraceServiceRequest, ExportTraceServiceResponse),
    "/v1/metrics": (ExportMetricsServiceRequest, ExportMetricsServiceResponse),
    "/v1/logs": (ExportLogsServiceRequest, ExportLogsServiceResponse),
}


@dataclass(frozen=True)
class Span:
    service: str
    name: str
    kind: int
    trace_id: str
    id: str
    parent: str
    start_ns: int
    end_ns: int
    error: bool
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Log:
    service: str
    severity: str
    body: str
    trace_id: str
    span_id: str
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Point:
    """The newest of a series: a sum, a gauge's value, or of a histogram how many values and their sum."""

    service: str
    name: str
    unit: str
    attributes: dict[str, Any]
    value: float
    count: int = 0


@dataclass
class Collector:
    """What came in so far."""

    url: str
    headers: list[dict[str, str]] = field(default_factory=list)
    requests: list[tuple[str, Any]] = field(default_factory=list)

    @property
    def spans(self) -> list[Span]:
        found = []
        for request in self._of("/v1/traces"):
            for resource in request.resource_spans:
                service = _attributes(resource.resource.attributes)["service.name"]
                for scope in resource.scope_spans:
                    found += [_span(service, one) for one in scope.spans]
        return found

    @property
    def logs(self) -> list[Log]:
        return [
            Log(
                _attributes(resource.resource.attributes)["service.name"],
                one.severity_text,
                one.body.string_value,
                one.trace_id.hex(),
                one.span_id.hex(),
                _attributes(one.attributes),
            )
            for request in self._of("/v1/logs")
            for resource in request.resource_logs
            for scope in resource.scope_logs
            for one in scope.log_records
        ]

    @property
    def points(self) -> list[Point]:
        newest: dict[Any, Point] = {}
        for request in self._of("/v1/metrics"):
            for resource in request.resource_metrics:
                who = _attributes(resource.resource.attributes)
                for scope in resource.scope_metrics:
                    for metric in scope.metrics:
                        for point in _points(who["service.name"], metric):
                            key = (
                                who["service.instance.id"],
                                point.service,
                                point.name,
                                *sorted(point.attributes.items()),
                            )
                            newest[key] = point
        return list(newest.values())

    def total(self, name: str, service: str | None = None, **attributes: str) -> float:
        """Sum (of a histogram: number) of the series of a metric; in attributes, `_` stands for a dot."""
        return sum(
            point.count or point.value
            for point in self.points
            if point.name == name
            and service in {None, point.service}
            and all(point.attributes.get(key.replace("__", "."), "") == value for key, value in attributes.items())
        )

    def _of(self, path: str) -> list[Any]:
        return [request for where, request in list(self.requests) if where == path]


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return [_value(one) for one in value.array_value.values] if kind == "array_value" else getattr(value, kind)


def _span(service: str, one: Any) -> Span:
    return Span(
        service,
        one.name,
        one.kind,
        one.trace_id.hex(),
        one.span_id.hex(),
        one.parent_span_id.hex(),
        one.start_time_unix_nano,
        one.end_time_unix_nano,
        one.status.code == 2,
        _attributes(one.attributes),
    )


def _points(service: str, metric: Any) -> Iterator[Point]:
    kind = metric.WhichOneof("data")
    for point in getattr(metric, kind).data_points:
        attributes = _attributes(point.attributes)
        if kind == "histogram":
            yield Point(service, metric.name, metric.unit, attributes, point.sum, point.count)
        else:
            value = getattr(point, point.WhichOneof("value"))
            yield Point(service, metric.name, metric.unit, attributes, float(value))


@contextmanager
def collector(status: int = 200) -> Iterator[Collector]:
    """Listens for the block; answers everything with `status`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            wanted, answer = _KINDS[self.path]
            request = wanted()
            request.ParseFromString(body)
            found.headers.append(dict(self.headers))
            found.requests.append((self.path, request))
            data = answer().SerializeToString()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@contextmanager
def grpc_collector() -> Iterator[Collector]:
    """Listens for the block, over gRPC."""
    server = grpc.server(ThreadPoolExecutor(4))
    found = Collector(f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")

    def keep(path: str, answer: Callable[[], Any]) -> Callable[[Any, grpc.ServicerContext], Any]:
        def export(request: Any, context: grpc.ServicerContext) -> Any:
            found.headers.append({key: value for key, value in context.invocation_metadata() if isinstance(value, str)})
            found.requests.append((path, request))
            return answer()

        return export

    for path, (wanted, answer) in _KINDS.items():
        (service,) = (one for one in wanted.DESCRIPTOR.file.services_by_name.values())
        method = grpc.unary_unary_rpc_method_handler(keep(path, answer), wanted.FromString, answer.SerializeToString)
        handler = grpc.method_handlers_generic_handler(service.full_name, {"Export": method})
        server.add_generic_rpc_handlers((handler,))
    server.start()
    try:
        yield found
    finally:
        server.stop(0).wait(5)
