"""What the standard variables ask for, and that nothing is loaded or made where they ask for nothing."""

import subprocess
import sys

import pytest

from evalmesh.runtime.telemetry.settings import captures_content, export_wanted, service_name

HTTP = "http/protobuf"
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.mark.parametrize(
    ("environment", "protocols"),
    [
        ({}, {}),
        ({ENDPOINT: ""}, {}),
        ({"OTEL_SERVICE_NAME": "x", "OTEL_TRACES_SAMPLER": "always_on"}, {}),
        ({ENDPOINT: "http://c:4318"}, {"traces": HTTP, "metrics": HTTP, "logs": HTTP}),
        ({ENDPOINT: "http://c:4318", "OTEL_SDK_DISABLED": "TRUE"}, {}),
        ({ENDPOINT: "http://c:4318", "OTEL_LOGS_EXPORTER": "none"}, {"traces": HTTP, "metrics": HTTP}),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, {"traces": HTTP}),
        ({"OTEL_METRICS_EXPORTER": "otlp"}, {"metrics": HTTP}),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            {"traces": "grpc"},
        ),
        (
            {
                ENDPOINT: "http://c:4317",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
                "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "http/protobuf",
            },
            {"traces": "grpc", "metrics": "grpc", "logs": HTTP},
        ),
    ],
)
def test_a_signal_is_sent_where_an_endpoint_or_an_exporter_says_so(environment, protocols):
    export = export_wanted(environment)
    assert (export.protocols, export.complaints) == (protocols, ())


def test_an_exporter_that_is_not_known_is_said_and_the_others_are_used():
    export = export_wanted({ENDPOINT: "http://c:4318", "OTEL_TRACES_EXPORTER": "zipkin"})
    assert set(export.protocols) == {"metrics", "logs"}
    (complaint,) = export.complaints
    assert "OTEL_TRACES_EXPORTER=zipkin" in complaint


def test_a_protocol_that_is_not_known_is_said():
    export = export_wanted({ENDPOINT: "http://c:4318", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"})
    assert set(export.protocols) == {"metrics", "logs"}
    (complaint,) = export.complaints
    assert "http/json" in complaint


def test_what_may_be_secret_in_an_address_is_not_shown():
    assert export_wanted({ENDPOINT: "https://user:secret@c:4318/x?key=secret"}).where == "c:4318/x"


@pytest.mark.parametrize(
    ("room", "alone", "environment", "name"),
    [
        ("model_runner", True, {}, "evalmesh-model-runner"),
        ("model_runner", False, {}, "evalmesh-model-runner"),
        ("model_runner", True, {"OTEL_SERVICE_NAME": "runner-a"}, "runner-a"),
        ("model_runner", False, {"OTEL_SERVICE_NAME": "eu"}, "eu-model-runner"),
        ("", False, {"OTEL_SERVICE_NAME": "eu"}, "eu"),
        ("", False, {}, "evalmesh"),
        ("scorer", False, {"OTEL_RESOURCE_ATTRIBUTES": "a=b, service.name=e%20u"}, "e u-scorer"),
        ("scorer", False, {"OTEL_RESOURCE_ATTRIBUTES": "service.name=x", "OTEL_SERVICE_NAME": "y"}, "y-scorer"),
    ],
)
def test_every_room_has_a_name_of_its_own(room, alone, environment, name):
    assert service_name(room, alone=alone, environment=environment) == name


@pytest.mark.parametrize(
    ("value", "captured"), [(None, False), ("false", False), ("NO_CONTENT", False), ("true", True), ("SPAN_ONLY", True)]
)
def test_what_was_said_is_recorded_on_request_alone(value, captured):
    name = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
    assert captures_content({} if value is None else {name: value}) is captured


def test_no_sdk_is_loaded_where_nothing_is_sent():
    """By a platform with all its services, which is where it would be."""
    program = """
import sys
from evalmesh.local.hosting import load
from evalmesh.local.settings import LocalSettings
from evalmesh.runtime.serve import run_service
from evalmesh.runtime.telemetry.opening import telemetry_sent
from pathlib import Path
with telemetry_sent(alone=False):
    load(LocalSettings(Path("nowhere")))
print(sorted(name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))))
"""
    clean = {"PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60, env=clean
    )
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr
