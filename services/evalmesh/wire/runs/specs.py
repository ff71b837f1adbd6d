"""Runs and their specs of the public API."""

from typing import Any, cast, get_args

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.hub import HubChoice
from evalmesh.domain.row_form import RowForm
from evalmesh.domain.run import BenchmarkProgress, BenchmarkSpec, OnError, Run, RunSpec, RunState
from evalmesh.v1 import runs_pb2 as pb
from evalmesh.wire.names import make_name, parse_name
from evalmesh.wire.runs.checks import MOST_SPEC_BYTES, bad, check_spec
from evalmesh.wire.runs.models import (
    generation_from_proto,
    generation_to_proto,
    model_from_proto,
    model_to_proto,
)
from evalmesh.wire.values import one_of, struct_from_proto, struct_to_proto, timestamp_from_proto, timestamp_to_proto

_OPTIONALS = (
    "local_path",
    "dataset_id",
    "revision",
    "split",
    "few_shot_split",
    "few_shot_num",
    "few_shot_random",
    "prompt_template",
    "system_prompt",
    "remove_until",
)


def _limit_to_proto(limit: float) -> pb.Limit:
    return pb.Limit(count=limit) if isinstance(limit, int) else pb.Limit(fraction=limit)


def _limit_from_proto(limit: pb.Limit, field: str) -> int | float:
    kind = limit.WhichOneof("kind")
    if kind is None:
        raise InvalidInput(
            f"{field}: neither `count` nor `fraction` is set; set one, or leave the limit out.", {"field": field}
        )
    return limit.count if kind == "count" else limit.fraction


def benchmark_spec_to_proto(spec: BenchmarkSpec, field: str = "benchmark") -> pb.BenchmarkSpec:
    """Absent stays absent; an empty list of subsets means all, as `None` does."""
    proto = pb.BenchmarkSpec(
        benchmark=spec.kind,
        label=spec.name if spec.benchmark else "",
        subsets=spec.subsets or (),
        shuffle=spec.shuffle,
        shuffle_choices=spec.shuffle_choices,
        extra=struct_to_proto(spec.extra, f"{field}.extra"),
    )
    if spec.form:
        form = spec.form
        proto.form.CopyFrom(pb.RowForm(columns=form.columns, encoding=form.encoding, delimiter=form.delimiter))
    for name in _OPTIONALS:
        value = getattr(spec, name)
        if value is not None:
            setattr(proto, name, value)
    if spec.limit is not None:
        proto.limit.CopyFrom(_limit_to_proto(spec.limit))
    return proto


def benchmark_spec_from_proto(proto: pb.BenchmarkSpec, field: str = "benchmark") -> BenchmarkSpec:
    """Absent stays absent."""
    optionals: dict[str, Any] = {
        name: getattr(proto, name)
        for name in _OPTIONALS
        if proto.HasField(name)  # type: ignore[arg-type]
    }
    return BenchmarkSpec(
        name=proto.label or proto.benchmark,
        benchmark=proto.benchmark if proto.label and proto.label != proto.benchmark else "",
        form=RowForm(dict(proto.form.columns), proto.form.encoding, proto.form.delimiter),
        subsets=tuple(proto.subsets) or None,
        shuffle=proto.shuffle,
        shuffle_choices=proto.shuffle_choices,
        limit=_limit_from_proto(proto.limit, f"{field}.limit") if proto.HasField("limit") else None,
        extra=struct_from_proto(proto.extra),
        **optionals,
    )


def spec_to_proto(spec: RunSpec) -> pb.RunSpec:
    """Every field; raises `InvalidInput` for what JSON cannot carry. See `check_spec` for the rest."""
    proto = pb.RunSpec(
        model=model_to_proto(spec.model),
        benchmarks=[benchmark_spec_to_proto(b, f"benchmarks[{i}]") for i, b in enumerate(spec.benchmarks)],
        generation=generation_to_proto(spec.generation),
        repeats=spec.repeats,
        seed=spec.seed,
        on_error=pb.RunSpec.OnError.Value(spec.on_error.upper()),
        reuse_runs=[make_name("runs", run) for run in spec.reuse_runs],
        reuse_completions=spec.reuse_completions,
        completions_digest=spec.completions_digest,
        dataset_dir=spec.dataset_dir,
        dataset_hub=spec.dataset_hub,
        shard_size=spec.shard_size,
        display_name=spec.display_name,
        labels=spec.labels,
        client_config=spec.client_config,
        stop_after_failures=spec.stop_after_failures,
        roles={role: model_to_proto(model) for role, model in spec.roles.items()},
    )
    if spec.limit is not None:
        proto.limit.CopyFrom(_limit_to_proto(spec.limit))
    return proto


def spec_from_proto(proto: pb.RunSpec) -> RunSpec:
    """The checked spec: raises `InvalidInput` naming the first field that is wrong, its value and the way out."""
    if proto.ByteSize() > MOST_SPEC_BYTES:
        raise bad("spec", f"{proto.ByteSize()} bytes", f"a spec has at most {MOST_SPEC_BYTES}; put data into files.")
    spec = _decode_spec(proto)
    check_spec(spec)
    return spec


def _on_error(number: int) -> OnError:
    for name, known in pb.RunSpec.OnError.items():
        if known == (number or pb.RunSpec.EXCLUDE):
            return cast("OnError", name.lower())
    raise bad("on_error", number, "use EXCLUDE, ZERO or FAIL.")


def _decode_spec(proto: pb.RunSpec) -> RunSpec:
    default = RunSpec(model=model_from_proto(proto.model), benchmarks=())
    return RunSpec(
        model=default.model,
        benchmarks=tuple(benchmark_spec_from_proto(b, f"benchmarks[{i}]") for i, b in enumerate(proto.benchmarks)),
        generation=generation_from_proto(proto.generation),
        limit=_limit_from_proto(proto.limit, "limit") if proto.HasField("limit") else None,
        repeats=proto.repeats or default.repeats,
        stop_after_failures=(
            proto.stop_after_failures if proto.HasField("stop_after_failures") else default.stop_after_failures
        ),
        seed=proto.seed if proto.HasField("seed") else default.seed,
        on_error=_on_error(proto.on_error),
        reuse_runs=tuple(parse_name("runs", name) for name in proto.reuse_runs),
        reuse_completions=tuple(proto.reuse_completions),
        completions_digest=proto.completions_digest,
        dataset_dir=proto.dataset_dir,
        dataset_hub=hub_choice(proto.dataset_hub or default.dataset_hub),
        shard_size=proto.shard_size,
        display_name=proto.display_name,
        labels=dict(proto.labels),
        client_config=proto.client_config,
        roles={role: model_from_proto(model) for role, model in proto.roles.items()},
    )


def progress_to_proto(progress: BenchmarkProgress) -> pb.BenchmarkProgress:
    """Counts of one benchmark."""
    return pb.BenchmarkProgress(
        benchmark=progress.name,
        total_count=progress.total,
        done_count=progress.done,
        in_flight_count=progress.in_flight,
        generated_count=progress.generated,
        errored_count=progress.errored,
        unscored_count=progress.unscored,
        value=progress.value,
        outcome_counts=progress.outcomes,
    )


def progress_from_proto(proto: pb.BenchmarkProgress) -> BenchmarkProgress:
    """Counts of one benchmark."""
    return BenchmarkProgress(
        name=proto.benchmark,
        total=proto.total_count,
        done=proto.done_count,
        in_flight=proto.in_flight_count,
        generated=proto.generated_count,
        errored=proto.errored_count,
        unscored=proto.unscored_count,
        value=proto.value if proto.HasField("value") else None,
        outcomes=dict(proto.outcome_counts),
    )


def run_to_proto(run: Run) -> pb.Run:
    """The record, less `request_id`, which only the gateway knows. Without an id (validation only) there is no name."""
    proto = pb.Run(
        name=make_name("runs", run.id) if run.id else "",
        spec=spec_to_proto(run.spec),
        state=pb.Run.State.Value(run.state.value),
        create_time=timestamp_to_proto(run.create_time),
        attempt=run.attempt,
        error=run.error,
        error_reason=run.error_reason,
        benchmarks=[progress_to_proto(b) for b in run.benchmarks],
        notice=run.notice,
        notes=run.notes,
        moved_url=run.moved_url,
        moved_key_ref=run.moved_key_ref,
        host=run.host,
        size_bytes=run.size_bytes,
    )
    if run.start_time is not None:
        proto.start_time.CopyFrom(timestamp_to_proto(run.start_time))
    if run.end_time is not None:
        proto.end_time.CopyFrom(timestamp_to_proto(run.end_time))
    return proto


def run_from_proto(proto: pb.Run) -> Run:
    """The record as the client sees it; raises `InvalidInput` for a state this build does not know."""
    states = dict(pb.Run.State.items())
    name = next((label for label, number in states.items() if number == proto.state), "")
    return Run(
        id=parse_name("runs", proto.name) if proto.name else "",
        spec=_decode_spec(proto.spec),
        state=RunState(one_of(name, tuple(RunState), "state")),
        create_time=timestamp_from_proto(proto.create_time),
        start_time=timestamp_from_proto(proto.start_time) if proto.HasField("start_time") else None,
        end_time=timestamp_from_proto(proto.end_time) if proto.HasField("end_time") else None,
        attempt=proto.attempt,
        error=proto.error,
        error_reason=proto.error_reason,
        benchmarks=tuple(progress_from_proto(b) for b in proto.benchmarks),
        notice=proto.notice,
        notes=tuple(proto.notes),
        moved_url=proto.moved_url,
        moved_key_ref=proto.moved_key_ref if proto.HasField("moved_key_ref") else None,
        host=proto.host,
        size_bytes=proto.size_bytes,
    )


def hub_choice(text: str) -> HubChoice:
    """Raises `InvalidInput`."""
    return cast("HubChoice", one_of(text, get_args(HubChoice), "dataset_hub"))
