"""`perf.json`: what a load test measured, put together from its record and its levels' documents.

Fields are explained in docs/perf-schema.md; change both together.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

import msgspec

from evalmesh.domain.load_test import LoadTarget, LoadTest
from evalmesh.load.measure.best import best
from evalmesh.load.objective.search import Search, observations
from evalmesh.report_aggregator.load_tests.repeats import repeat_groups
from evalmesh.results.json_values import duration_s, iso, own_version, plain, public_key_ref, public_url

SCHEMA_VERSION = 1
"""Grows when a reader of the old schema could misread the new one; added fields do not count."""

Document = Mapping[str, Any]


def build_perf(test: LoadTest, levels: Sequence[Document], created_time: float) -> dict[str, Any]:
    """Puts a load test into the documented schema.

    Args:
        test: The load test in the state the document should show.
        levels: The documents of its levels, in order of execution.
        created_time: When the document is made, in Unix seconds.

    Returns:
        Plain JSON values; no key, and no number that is not finite.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "evalmesh_version": own_version(),
        "create_time": iso(created_time),
        "load_test": _load_test(test),
        "target": _target(test.spec.target),
        "spec": _spec(test),
        "client_limited": any(level["client_limited"] for level in levels),
        "best": best(levels),
        "search": _search(test, levels),
        "repeats": repeat_groups(levels),
        "notes": _notes(test, levels),
        "levels": list(levels),
    }


def encode_perf(document: Mapping[str, Any]) -> bytes:
    """The document as text: one field per line, and in `levels` one level per line, for tools that read lines."""
    encoder = msgspec.json.Encoder()
    lines = []
    for name, value in document.items():
        if name == "levels" and value:
            text = b"[\n" + b",\n".join(b"    " + encoder.encode(level) for level in value) + b"\n  ]"
        elif isinstance(value, Mapping | list):
            text = msgspec.json.format(encoder.encode(value), indent=2).replace(b"\n", b"\n  ")
        else:
            text = encoder.encode(value)
        lines.append(b"  " + encoder.encode(name) + b": " + text)
    return b"{\n" + b",\n".join(lines) + b"\n}\n"


def _load_test(test: LoadTest) -> dict[str, Any]:
    return {
        "id": test.id,
        "display_name": test.spec.display_name,
        "state": test.state.value,
        "attempt": test.attempt,
        "create_time": iso(test.create_time),
        "start_time": iso(test.start_time),
        "end_time": iso(test.end_time),
        "duration_s": duration_s(test.start_time, test.end_time),
        "error": test.error,
        "error_reason": test.error_reason,
        "labels": dict(test.spec.labels),
    }


def _target(target: LoadTarget) -> dict[str, Any]:
    return {
        "url": public_url(target.url),
        "model": target.model,
        "api": target.api,
        "stream": target.stream,
        "key_ref": public_key_ref(target.key_ref),
        "transport": target.transport,
    }


def _spec(test: LoadTest) -> dict[str, Any]:
    spec = test.spec
    headers = dict.fromkeys(spec.target.headers, "***")
    shown = dataclasses.replace(
        spec,
        target=dataclasses.replace(
            spec.target,
            url=public_url(spec.target.url),
            key_ref=public_key_ref(spec.target.key_ref),
            headers=headers,
        ),
        server_metrics=tuple(public_url(url) for url in spec.server_metrics),
    )
    values: dict[str, Any] = plain(msgspec.to_builtins(shown, enc_hook=_enum))
    return values


def _enum(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else str(value)


def _search(test: LoadTest, levels: Sequence[Document]) -> dict[str, Any] | None:
    """What follows from the probes: as the conductor decided it, by the same rules."""
    spec = test.spec.search
    if spec is None:
        return None
    probes = [level for level in levels if level["slo"]]
    return Search(spec).answer(observations(probes, spec.variable)).document()


def _notes(test: LoadTest, levels: Sequence[Document]) -> list[str]:
    """What is said of no single level: levels that were begun or planned, and have no figures."""
    known = {level["index"] for level in levels}
    missing = (status for status in test.levels if status.index not in known)
    return [f"Level {status.index} has no figures; it is {status.state}. {status.note}".strip() for status in missing]
