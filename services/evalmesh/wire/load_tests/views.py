"""What is seen of a load test before and while it goes on: snapshots, and request bodies as they would be sent."""

from dataclasses import dataclass

from evalmesh.domain.load_test import LatencyQuantiles, LoadSnapshot
from evalmesh.v1 import load_generators_pb2, load_tests_pb2
from evalmesh.wire.values import (
    duration_from_proto,
    duration_to_proto,
    milliseconds_from_proto,
    milliseconds_to_proto,
)


@dataclass(frozen=True, slots=True)
class PreviewedRequest:
    """A request body, as it would be sent."""

    body: str
    """JSON."""
    prepared_tokens: int = 0
    """Length of the prompt, the chat template included; 0: unknown."""


def previewed_from_proto(proto: load_generators_pb2.PreviewedRequest) -> PreviewedRequest:
    """One body."""
    return PreviewedRequest(proto.body, proto.prepared_tokens)


def snapshot_to_proto(snapshot: LoadSnapshot) -> load_tests_pb2.LoadSnapshot:
    """What is unknown stays absent."""
    return load_tests_pb2.LoadSnapshot(
        level_index=snapshot.level_index,
        elapsed=duration_to_proto(snapshot.elapsed_s),
        window=duration_to_proto(snapshot.window_s),
        offered_rate=snapshot.offered_rate,
        sent_rate=snapshot.sent_rate,
        ok_rate=snapshot.ok_rate,
        output_token_rate=snapshot.output_token_rate,
        in_flight_count=snapshot.in_flight,
        queued_count=snapshot.queued,
        sent_count=snapshot.sent,
        ok_count=snapshot.ok,
        error_counts=snapshot.errors,
        latencies={name: _quantiles_to_proto(value) for name, value in snapshot.latencies.items()},
        client_cpu=snapshot.client_cpu,
        client_lag=milliseconds_to_proto(snapshot.client_lag_ms),
        generator_count=snapshot.generators,
        good_share=snapshot.good_share,
    )


def snapshot_from_proto(proto: load_tests_pb2.LoadSnapshot) -> LoadSnapshot:
    """What is unknown stays absent."""
    return LoadSnapshot(
        level_index=proto.level_index,
        elapsed_s=duration_from_proto(proto.elapsed),
        window_s=duration_from_proto(proto.window),
        offered_rate=proto.offered_rate,
        sent_rate=proto.sent_rate,
        ok_rate=proto.ok_rate,
        output_token_rate=proto.output_token_rate,
        in_flight=proto.in_flight_count,
        queued=proto.queued_count,
        sent=proto.sent_count,
        ok=proto.ok_count,
        errors=dict(proto.error_counts),
        latencies={name: _quantiles_from_proto(value) for name, value in proto.latencies.items()},
        client_cpu=proto.client_cpu,
        client_lag_ms=milliseconds_from_proto(proto.client_lag),
        generators=proto.generator_count,
        good_share=proto.good_share if proto.HasField("good_share") else None,
    )


def _quantiles_to_proto(value: LatencyQuantiles) -> load_tests_pb2.LatencyQuantiles:
    return load_tests_pb2.LatencyQuantiles(
        p50=milliseconds_to_proto(value.p50_ms),
        p90=milliseconds_to_proto(value.p90_ms),
        p99=milliseconds_to_proto(value.p99_ms),
    )


def _quantiles_from_proto(proto: load_tests_pb2.LatencyQuantiles) -> LatencyQuantiles:
    return LatencyQuantiles(
        milliseconds_from_proto(proto.p50), milliseconds_from_proto(proto.p90), milliseconds_from_proto(proto.p99)
    )
