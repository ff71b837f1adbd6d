"""What the standard OTEL_* variables say. How each signal is sampled, batched and sent, the SDK reads for itself."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

SIGNALS = ("traces", "metrics", "logs")
PROTOCOLS = ("http/protobuf", "grpc")
_NAME = "evalmesh"
_CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


@dataclass(frozen=True, slots=True)
class Export:
    """What is sent."""

    protocols: Mapping[str, str]
    """By signal: `http/protobuf` or `grpc`; signals that are not there are not sent."""
    where: str = ""
    """The address of the first of them."""
    complaints: tuple[str, ...] = ()
    """Wishes that cannot be met."""


def export_wanted(environment: Mapping[str, str] = os.environ) -> Export:
    """A signal is sent where an endpoint or OTEL_<SIGNAL>_EXPORTER=otlp says so."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return Export({})
    protocols, places, complaints = {}, [], []
    for signal in SIGNALS:
        variable = f"OTEL_{signal.upper()}_EXPORTER"
        exporter = environment.get(variable, "").strip().lower()
        there = environment.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT") or environment.get(
            "OTEL_EXPORTER_OTLP_ENDPOINT"
        )
        if exporter == "otlp" or (there and not exporter):
            protocol = _protocol(signal, environment)
            if protocol not in PROTOCOLS:
                complaints.append(
                    f"OTEL_EXPORTER_OTLP_PROTOCOL={protocol}: only {' and '.join(PROTOCOLS)} are known here, so no "
                    f"{signal} are sent"
                )
                continue
            protocols[signal] = protocol
            places.append(_shown(there or "localhost"))
        elif exporter not in {"", "none"}:
            complaints.append(f"{variable}={exporter}: only otlp and none are known here, so no {signal} are sent")
    return Export(protocols, places[0] if places else "", tuple(complaints))


def _shown(url: str) -> str:
    """Without what may be secret in an address."""
    return url.rpartition("@")[2].partition("?")[0]


def _protocol(signal: str, environment: Mapping[str, str]) -> str:
    own = environment.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL")
    return (own or environment.get("OTEL_EXPORTER_OTLP_PROTOCOL") or "http/protobuf").strip().lower()


def service_name(room: str, *, alone: bool, environment: Mapping[str, str] = os.environ) -> str:
    """`service.name` of a room: OTEL_SERVICE_NAME itself where the process is one room's, else with the room behind it.

    A command (no room) is called as the whole.
    """
    given = environment.get("OTEL_SERVICE_NAME", "").strip() or _named_as_resource(environment)
    if not room or (alone and given):
        return given or _NAME
    return f"{given or _NAME}-{room.replace('_', '-')}"


def _named_as_resource(environment: Mapping[str, str]) -> str:
    pairs = (one.partition("=") for one in environment.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","))
    return next((unquote(value.strip()) for name, _, value in pairs if name.strip() == "service.name"), "")


def captures_content(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether spans of model calls carry what was said; it may be private, so only on request."""
    return environment.get(_CAPTURE, "").strip().lower() in {"true", "span_only", "span_and_event"}
