"""Load tests, their specs and what is seen of them while they go on: `LoadTestService` of the public API.

What a client leaves out gets the default of the domain, here and nowhere else.
"""

from typing import Any, cast, get_args

from evalmesh.domain.load_test import (
    Arrival,
    ArrivalSpec,
    LevelState,
    LevelStatus,
    LoadLevel,
    LoadTarget,
    LoadTest,
    LoadTestSpec,
    SearchSpec,
    SearchVariable,
    SloTerm,
    Stage,
    Transport,
)
from evalmesh.domain.state import State
from evalmesh.v1 import load_tests_pb2 as pb
from evalmesh.wire.load_tests.checks import check_load_spec
from evalmesh.wire.load_tests.prompts import prompts_from_proto, prompts_to_proto
from evalmesh.wire.names import make_name, parse_name
from evalmesh.wire.runs.checks import MOST_SPEC_BYTES, bad
from evalmesh.wire.values import (
    duration_from_proto,
    duration_to_proto,
    milliseconds_from_proto,
    milliseconds_to_proto,
    one_of,
    timestamp_from_proto,
    timestamp_to_proto,
)

LOAD_TESTS = LoadTest.COLLECTION
"""Collection of the resource names."""

_TIMEOUTS = ("connect_timeout", "read_timeout", "total_timeout")
_STATUS_COUNTS = (("planned", "planned_count"), ("sent", "sent_count"), ("ok", "ok_count"))
_STATUS_TIMES = (
    ("ttft_p50_ms", "ttft_p50"),
    ("ttft_p99_ms", "ttft_p99"),
    ("itl_p50_ms", "itl_p50"),
    ("e2e_p99_ms", "e2e_p99"),
)
_STATUS_FIGURES = ("request_rate", "output_token_rate", "goodput_rate", "meets_slo")


def target_to_proto(target: LoadTarget) -> pb.LoadTarget:
    """Every field, set or not."""
    return pb.LoadTarget(
        url=target.url,
        model=target.model,
        api=target.api,
        key_ref=target.key_ref,
        headers=target.headers,
        stream=target.stream,
        connect_timeout=duration_to_proto(target.connect_timeout_s),
        read_timeout=duration_to_proto(target.read_timeout_s),
        total_timeout=duration_to_proto(target.total_timeout_s),
        transport=target.transport,
        skip_tls_verification=not target.verify_tls,
        ca_file=target.ca_file,
        connection=target.connection,
    )


def target_from_proto(proto: pb.LoadTarget) -> LoadTarget:
    """Raises `InvalidInput` for a transport nobody knows."""
    default = LoadTarget(url="", model="")
    given = {
        f"{name}_s": duration_from_proto(getattr(proto, name))
        for name in _TIMEOUTS
        if proto.HasField(name)  # type: ignore[arg-type]
    }
    transport = one_of(proto.transport or default.transport, get_args(Transport), "target.transport")
    return LoadTarget(
        url=proto.url,
        model=proto.model,
        api=proto.api or default.api,
        key_ref=proto.key_ref,
        headers=dict(proto.headers),
        stream=proto.stream if proto.HasField("stream") else default.stream,
        transport=cast("Transport", transport),
        verify_tls=not proto.skip_tls_verification,
        ca_file=proto.ca_file,
        connection=proto.connection,
        **given,
    )


def level_to_proto(level: LoadLevel) -> pb.LoadLevel:
    """One level of load."""
    return pb.LoadLevel(
        parallel=level.parallel,
        rate=level.rate,
        number=level.number,
        duration=duration_to_proto(level.duration_s) if level.duration_s else None,
        stages=[
            pb.Stage(duration=duration_to_proto(s.duration_s), start_load=s.start, end_load=s.end) for s in level.stages
        ],
    )


def level_from_proto(proto: pb.LoadLevel) -> LoadLevel:
    """One level of load."""
    return LoadLevel(
        parallel=proto.parallel,
        rate=proto.rate,
        number=proto.number,
        duration_s=duration_from_proto(proto.duration),
        stages=tuple(Stage(duration_from_proto(s.duration), s.start_load, s.end_load) for s in proto.stages),
    )


def _arrival_from_proto(proto: pb.ArrivalSpec) -> ArrivalSpec:
    default = ArrivalSpec()
    return ArrivalSpec(
        kind=cast("Arrival", one_of(proto.kind or default.kind, get_args(Arrival), "arrival.kind")),
        burstiness=proto.burstiness or default.burstiness,
        speed=proto.speed or default.speed,
    )


def _search_to_proto(search: SearchSpec) -> pb.LoadSearch:
    return pb.LoadSearch(
        variable=search.variable,
        low=search.low,
        high=search.high,
        resolution=search.resolution,
        level_duration=duration_to_proto(search.level_s),
        repeats=search.repeats,
        max_duration=duration_to_proto(search.max_s),
    )


def _search_from_proto(proto: pb.LoadSearch) -> SearchSpec:
    variable = cast("SearchVariable", one_of(proto.variable, get_args(SearchVariable), "search.variable"))
    default = SearchSpec(variable)
    return SearchSpec(
        variable=variable,
        low=proto.low or default.low,
        high=proto.high,
        resolution=proto.resolution or default.resolution,
        level_s=duration_from_proto(proto.level_duration) if proto.HasField("level_duration") else default.level_s,
        repeats=proto.repeats or default.repeats,
        max_s=duration_from_proto(proto.max_duration) if proto.HasField("max_duration") else default.max_s,
    )


def load_spec_to_proto(spec: LoadTestSpec) -> pb.LoadTestSpec:
    """Every field; raises `InvalidInput` for what JSON cannot carry. See `check_load_spec` for the rest."""
    arrival = spec.arrival
    return pb.LoadTestSpec(
        target=target_to_proto(spec.target),
        prompts=prompts_to_proto(spec.prompts),
        arrival=pb.ArrivalSpec(kind=arrival.kind, burstiness=arrival.burstiness, speed=arrival.speed),
        levels=[level_to_proto(level) for level in spec.levels],
        repeats=spec.repeats,
        pause=duration_to_proto(spec.pause_s),
        warmup=spec.warmup,
        slo=[pb.SloTerm(metric=term.metric, statistic=term.statistic, limit=term.limit) for term in spec.slo],
        search=_search_to_proto(spec.search) if spec.search is not None else None,
        generator_count=spec.generators,
        seed=spec.seed,
        server_metrics=spec.server_metrics,
        skip_server_metrics=not spec.server_metrics,
        skip_endpoint_check=not spec.check_endpoint,
        display_name=spec.display_name,
        labels=spec.labels,
        client_config=spec.client_config,
    )


def load_spec_from_proto(proto: pb.LoadTestSpec) -> LoadTestSpec:
    """The checked spec: raises `InvalidInput` naming the first field that is wrong, its value and the way out."""
    if proto.ByteSize() > MOST_SPEC_BYTES:
        raise bad("spec", f"{proto.ByteSize()} bytes", f"a spec has at most {MOST_SPEC_BYTES}; put data into files.")
    spec = _decode_spec(proto)
    check_load_spec(spec)
    return spec


def _decode_spec(proto: pb.LoadTestSpec) -> LoadTestSpec:
    default = LoadTestSpec(target=target_from_proto(proto.target))
    return LoadTestSpec(
        target=default.target,
        prompts=prompts_from_proto(proto.prompts),
        arrival=_arrival_from_proto(proto.arrival),
        levels=tuple(level_from_proto(level) for level in proto.levels) or default.levels,
        repeats=proto.repeats or default.repeats,
        pause_s=duration_from_proto(proto.pause),
        warmup=proto.warmup,
        slo=tuple(SloTerm(term.metric, term.statistic, term.limit) for term in proto.slo),
        search=_search_from_proto(proto.search) if proto.HasField("search") else None,
        generators=proto.generator_count or default.generators,
        seed=proto.seed if proto.HasField("seed") else default.seed,
        server_metrics=_server_metrics(proto, default.server_metrics),
        check_endpoint=not proto.skip_endpoint_check,
        display_name=proto.display_name,
        labels=dict(proto.labels),
        client_config=proto.client_config,
    )


def _server_metrics(proto: pb.LoadTestSpec, default: tuple[str, ...]) -> tuple[str, ...]:
    """A list that is left out and one that is empty look the same; the flag tells them apart."""
    if proto.skip_server_metrics:
        if proto.server_metrics:
            way_out = "it contradicts server_metrics, which names some; leave one of them out."
            raise bad("skip_server_metrics", proto.skip_server_metrics, way_out)
        return ()
    return tuple(proto.server_metrics) or default


def level_status_to_proto(status: LevelStatus) -> pb.LoadLevelStatus:
    """What is unknown stays absent."""
    proto = pb.LoadLevelStatus(
        index=status.index,
        level=level_to_proto(status.level),
        repeat=status.repeat,
        level_state=status.state,
        error_counts=status.errors,
        client_limited=status.client_limited,
        note=status.note,
    )
    for name, field in _STATUS_COUNTS:
        setattr(proto, field, getattr(status, name))
    for name in _STATUS_FIGURES:
        if getattr(status, name) is not None:
            setattr(proto, name, getattr(status, name))
    for name, field in _STATUS_TIMES:
        if getattr(status, name) is not None:
            getattr(proto, field).CopyFrom(milliseconds_to_proto(getattr(status, name)))
    if status.start_time is not None:
        proto.start_time.CopyFrom(timestamp_to_proto(status.start_time))
    if status.end_time is not None:
        proto.end_time.CopyFrom(timestamp_to_proto(status.end_time))
    return proto


def level_status_from_proto(proto: pb.LoadLevelStatus) -> LevelStatus:
    """Raises `InvalidInput` for a state this build does not know."""
    figures = {name: getattr(proto, name) for name in _STATUS_FIGURES if proto.HasField(name)}  # type: ignore[arg-type]
    times: dict[str, Any] = {
        name: milliseconds_from_proto(getattr(proto, field))
        for name, field in _STATUS_TIMES
        if proto.HasField(field)  # type: ignore[arg-type]
    }
    return LevelStatus(
        index=proto.index,
        level=level_from_proto(proto.level),
        repeat=proto.repeat,
        state=cast("LevelState", one_of(proto.level_state or "pending", get_args(LevelState), "level_state")),
        errors=dict(proto.error_counts),
        client_limited=proto.client_limited,
        note=proto.note,
        start_time=timestamp_from_proto(proto.start_time) if proto.HasField("start_time") else None,
        end_time=timestamp_from_proto(proto.end_time) if proto.HasField("end_time") else None,
        **{name: getattr(proto, field) for name, field in _STATUS_COUNTS},
        **figures,
        **times,
    )


def load_test_to_proto(load_test: LoadTest) -> pb.LoadTest:
    """The record, less `request_id`, which only the gateway knows. Without an id (validation only) there is no name."""
    proto = pb.LoadTest(
        name=make_name(LOAD_TESTS, load_test.id) if load_test.id else "",
        spec=load_spec_to_proto(load_test.spec),
        state=pb.LoadTest.State.Value(load_test.state.value),
        create_time=timestamp_to_proto(load_test.create_time),
        attempt=load_test.attempt,
        error=load_test.error,
        error_reason=load_test.error_reason,
        levels=[level_status_to_proto(level) for level in load_test.levels],
        notes=load_test.notes,
        host=load_test.host,
    )
    if load_test.start_time is not None:
        proto.start_time.CopyFrom(timestamp_to_proto(load_test.start_time))
    if load_test.end_time is not None:
        proto.end_time.CopyFrom(timestamp_to_proto(load_test.end_time))
    return proto


def load_test_from_proto(proto: pb.LoadTest) -> LoadTest:
    """The record as the client sees it; raises `InvalidInput` for a state this build does not know."""
    states = dict(pb.LoadTest.State.items())
    name = next((label for label, number in states.items() if number == proto.state), "")
    return LoadTest(
        id=parse_name(LOAD_TESTS, proto.name) if proto.name else "",
        spec=_decode_spec(proto.spec),
        state=State(one_of(name, tuple(State), "state")),
        create_time=timestamp_from_proto(proto.create_time),
        start_time=timestamp_from_proto(proto.start_time) if proto.HasField("start_time") else None,
        end_time=timestamp_from_proto(proto.end_time) if proto.HasField("end_time") else None,
        attempt=proto.attempt,
        error=proto.error,
        error_reason=proto.error_reason,
        levels=tuple(level_status_from_proto(level) for level in proto.levels),
        notes=tuple(proto.notes),
        host=proto.host,
    )
