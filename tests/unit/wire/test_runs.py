from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.request import GenerationConfig
from evalmesh.domain.run import BenchmarkProgress, BenchmarkSpec, ModelSpec, Run, RunSpec, RunState
from evalmesh.v1 import runs_pb2
from evalmesh.wire.runs.checks import check_spec
from evalmesh.wire.runs.specs import run_from_proto, run_to_proto, spec_from_proto, spec_to_proto

NAMES = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,20}", fullmatch=True)
LINE = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=20)
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
NUMBER = st.floats(-1e6, 1e6, allow_nan=False) | st.integers(-(2**53), 2**53)
JSON = st.recursive(
    st.none() | st.booleans() | TEXT | NUMBER.map(lambda n: int(n) if float(n).is_integer() else n),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
FREE = st.dictionaries(TEXT.map(lambda t: f"x{t}"), JSON, max_size=3)
LIMIT = st.none() | st.integers(1, 2**40) | st.floats(0, 1, exclude_min=True, exclude_max=True)
SECONDS = st.integers(1, 10**9).map(lambda ms: ms / 1000)
MODEL = st.builds(
    ModelSpec,
    name=LINE.filter(str.strip),
    display_name=LINE,
    url=st.just("https://host:8000/v1"),
    key_ref=st.sampled_from(["", "env:KEY_1", "secret:team-a/key"]),
    kind=st.sampled_from(["chat", "completion"]),
    stream=st.booleans(),
    concurrency=st.integers(1, 65_536),
    max_tries=st.integers(1, 100),
    try_timeout_s=SECONDS,
    total_timeout_s=SECONDS,
    outage_timeout_s=SECONDS,
    headers=st.dictionaries(st.from_regex(r"X-[A-Za-z]{1,9}", fullmatch=True), LINE, max_size=2),
    args=FREE,
    ca_file=LINE,
    verify_tls=st.booleans(),
)
BENCHMARK = st.builds(
    BenchmarkSpec,
    name=NAMES,
    local_path=st.none() | LINE,
    dataset_id=st.none() | LINE,
    revision=st.none() | LINE,
    subsets=st.none() | st.lists(LINE.filter(bool), min_size=1, max_size=3, unique=True).map(tuple),
    split=st.none() | LINE,
    few_shot_split=st.none() | LINE,
    few_shot_num=st.none() | st.integers(0, 64),
    few_shot_random=st.none() | st.booleans(),
    prompt_template=st.none() | TEXT,
    system_prompt=st.none() | TEXT,
    shuffle=st.booleans(),
    shuffle_choices=st.booleans(),
    limit=LIMIT,
    remove_until=st.none() | TEXT,
    extra=FREE,
)
GENERATION = st.builds(
    GenerationConfig,
    max_tokens=st.none() | st.integers(1, 10**6),
    temperature=st.none() | st.floats(0, 2),
    top_p=st.none() | st.floats(0, 1),
    top_k=st.none() | st.integers(-1, 1000),
    frequency_penalty=st.none() | st.floats(-2, 2),
    presence_penalty=st.none() | st.floats(-2, 2),
    repetition_penalty=st.none() | st.floats(0, 2),
    stop=st.lists(TEXT, max_size=2).map(tuple),
    seed=st.none() | st.integers(-(2**63) + 1, 2**63 - 1),
    reasoning_effort=st.none() | LINE,
    extra_body=FREE,
)
SPEC = st.builds(
    RunSpec,
    model=MODEL,
    benchmarks=st.lists(BENCHMARK, min_size=1, max_size=3, unique_by=lambda b: b.name).map(tuple),
    generation=GENERATION,
    limit=LIMIT,
    repeats=st.integers(1, 4096),
    seed=st.integers(0, 2**62),
    on_error=st.sampled_from(["exclude", "zero", "fail"]),
    reuse_runs=st.lists(NAMES, max_size=2).map(tuple),
    dataset_dir=LINE,
    dataset_hub=st.sampled_from(["local", "huggingface", "modelscope"]),
    shard_size=st.sampled_from([0, 1]),
    stop_after_failures=st.integers(0, 1000),
    display_name=LINE,
    labels=st.dictionaries(LINE.filter(bool), LINE, max_size=2),
    roles=st.dictionaries(st.sampled_from(["judge", "embedder"]), MODEL, max_size=2),
    client_config=st.sampled_from(["", '{"model": "m"}']),
)
PROGRESS = st.builds(
    BenchmarkProgress,
    name=NAMES,
    total=st.integers(0, 2**40),
    done=st.integers(0, 2**40),
    in_flight=st.integers(0, 100),
    generated=st.integers(0, 100),
    errored=st.integers(0, 100),
    unscored=st.integers(0, 100),
    value=st.none() | st.floats(-1, 1),
)
TIME = st.floats(1e9, 4e9)
RUN = st.builds(
    Run,
    id=NAMES,
    spec=SPEC,
    state=st.sampled_from(list(RunState)),
    create_time=TIME,
    start_time=st.none() | TIME,
    end_time=st.none() | TIME,
    attempt=st.integers(0, 9),
    error=TEXT,
    error_reason=st.just("INTERNAL"),
    benchmarks=st.lists(PROGRESS, max_size=2).map(tuple),
    notes=st.lists(LINE, max_size=2).map(tuple),
    moved_url=LINE,
    moved_key_ref=st.none() | LINE,
)

GOOD = RunSpec(model=ModelSpec(name="m", url="http://h/v1"), benchmarks=(BenchmarkSpec(name="gsm8k"),))


def over_the_wire(spec: RunSpec) -> RunSpec:
    return spec_from_proto(runs_pb2.RunSpec.FromString(spec_to_proto(spec).SerializeToString()))


@given(SPEC)
def test_a_spec_survives_the_wire(spec):
    back = over_the_wire(spec)
    assert back == spec
    assert type(back.limit) is type(spec.limit)
    assert [type(b.limit) for b in back.benchmarks] == [type(b.limit) for b in spec.benchmarks]
    assert repr(back.model.args) == repr(spec.model.args) or dict(back.model.args) == spec.model.args


@given(RUN)
def test_a_run_survives_the_wire(run):
    assert run_from_proto(runs_pb2.Run.FromString(run_to_proto(run).SerializeToString())) == run


def test_whole_numbers_of_free_mappings_stay_whole():
    model = replace(GOOD.model, args={"n": 3, "x": 0.5, "deep": {"list": [1, 2.5, True, None]}})
    args = over_the_wire(replace(GOOD, model=model)).model.args
    assert repr(args) == repr({"x": 0.5, "n": 3, "deep": {"list": [1, 2.5, True, None]}}) or args == model.args
    assert type(args["n"]) is int
    assert type(args["x"]) is float


def test_an_empty_spec_of_a_foreign_client_gets_the_defaults():
    proto = runs_pb2.RunSpec(
        model={"model": "m", "url": "http://h/v1"}, benchmarks=[runs_pb2.BenchmarkSpec(benchmark="gsm8k")]
    )
    assert spec_from_proto(proto) == GOOD


def bench(**changes):
    return replace(GOOD, benchmarks=(replace(GOOD.benchmarks[0], **changes),))


def model(**changes):
    return replace(GOOD, model=replace(GOOD.model, **changes))


@pytest.mark.parametrize(
    ("spec", "field", "shown"),
    [
        (model(name=" "), "model.model", "--model"),
        (model(url=""), "model.url", "--api-url"),
        (model(url="ftp://x"), "model.url", "ftp://x"),
        (model(url="http://[::1"), "model.url", "http://"),
        (model(concurrency=-1), "model.concurrency", "-1"),
        (model(max_tries=-2), "model.max_tries", "-2"),
        (model(try_timeout_s=0.0), "model.try_timeout", "0"),
        (model(total_timeout_s=float("inf")), "model.total_timeout", "inf"),
        (model(headers={"X-A": "b\r\nX-C: d"}), "model.headers", "single lines"),
        (replace(GOOD, benchmarks=()), "benchmarks", "--datasets"),
        (replace(GOOD, benchmarks=GOOD.benchmarks * 2), "benchmarks[1].benchmark", "once"),
        (bench(name="../etc"), "benchmarks[0].benchmark", "../etc"),
        (bench(name="a.b"), "benchmarks[0].benchmark", "a.b"),
        (bench(limit=0), "benchmarks[0].limit", "0"),
        (bench(few_shot_num=-1), "benchmarks[0].few_shot_num", "-1"),
        (bench(subsets=("a", "a")), "benchmarks[0].subsets", "once"),
        (bench(subsets=("a\nb",)), "benchmarks[0].subsets", "line"),
        (bench(local_path="a\0b"), "benchmarks[0].local_path", "line"),
        (replace(GOOD, limit=0), "limit", "0"),
        (replace(GOOD, limit=-3), "limit", "-3"),
        (replace(GOOD, limit=1.0), "limit", "fraction"),
        (replace(GOOD, limit=float("nan")), "limit", "nan"),
        (replace(GOOD, repeats=-1), "repeats", "-1"),
        (replace(GOOD, shard_size=-64), "shard_size", "-64"),
        (replace(GOOD, repeats=4097), "repeats", "4096"),
        (replace(GOOD, repeats=100, shard_size=41), "shard_size", "use 40 or less"),
        (replace(GOOD, repeats=2_000_000_000), "repeats", "2000000000"),
        (replace(GOOD, reuse_runs=("r",) * 65), "reuse_runs", "64"),
        (replace(GOOD, generation=GenerationConfig(stop=("x",) * 65)), "generation.stop", "64"),
        (replace(GOOD, generation=GenerationConfig(stop=("x" * 1025,))), "generation.stop", "1024"),
        (replace(GOOD, generation=GenerationConfig(extra_body={"a": "x" * 2**21})), "generation.extra_body", "1048576"),
        (replace(GOOD, generation=GenerationConfig(reasoning_effort="x" * 65)), "generation.reasoning_effort", "64"),
        (replace(GOOD, benchmarks=tuple(BenchmarkSpec(f"b{i}") for i in range(1001))), "benchmarks", "1000"),
        (bench(subsets=tuple(map(str, range(10_001)))), "benchmarks[0].subsets", "10000"),
        (bench(prompt_template="x" * 262_145), "benchmarks[0].prompt_template", "262144"),
        (bench(system_prompt="half \ud800"), "benchmarks[0].system_prompt", "surrogate"),
        (bench(subsets=("half \ud800",)), "benchmarks[0].subsets", "surrogate"),
        (bench(extra={"a": [0] * 100_000}), "benchmarks[0].extra", "100000 values"),
        (model(name="half \ud800"), "model.model", "surrogate"),
        (model(url="http://h/" + "x" * 4096), "model.url", "4096"),
        (model(concurrency=65_537), "model.concurrency", "65536"),
        (model(headers={f"X-{i}": "" for i in range(65)}), "model.headers", "64"),
        (model(headers={"X-A": "x" * 8001}), "model.headers", "8000"),
        (model(args={"half": "half \ud800"}), "model.args.half", "surrogate"),
        (replace(GOOD, reuse_runs=("../x",)), "reuse_runs[0]", "../x"),
        (replace(GOOD, completions_digest="ab"), "completions_digest", "ab"),
        (replace(GOOD, completions_digest="a" * 64), "completions_digest", "recorded"),
        (model(engine="recorded"), "completions_digest", "recorded"),
        (replace(GOOD, labels={"": "x"}), "labels", "name"),
        (replace(GOOD, client_config="model: m"), "client_config", "JSON object"),
        (replace(GOOD, client_config='["m"]'), "client_config", "JSON object"),
        (replace(GOOD, client_config='{"m": "' + "x" * 65536 + '"}'), "client_config", "64 KiB"),
        (replace(GOOD, client_config='{"api_key": "sk-1"}'), "client_config", "withheld"),
        (replace(GOOD, client_config='{"a": [{"Authorization": "Bearer x"}]}'), "client_config", "withheld"),
        (replace(GOOD, generation=GenerationConfig(temperature=-0.1)), "generation.temperature", "-0.1"),
        (replace(GOOD, generation=GenerationConfig(top_p=1.5)), "generation.top_p", "1.5"),
        (replace(GOOD, generation=GenerationConfig(max_tokens=0)), "generation.max_tokens", "0"),
    ],
)
def test_a_wrong_spec_is_refused_by_field_and_value(spec, field, shown):
    with pytest.raises(InvalidInput) as caught:
        check_spec(spec)
    assert caught.value.details["field"] == field
    assert caught.value.message.startswith(field)
    assert shown in caught.value.message
    check_spec(GOOD)


def test_the_wire_refuses_what_the_check_refuses():
    proto = spec_to_proto(replace(GOOD, repeats=-1))
    with pytest.raises(InvalidInput, match=r"^repeats: -1"):
        spec_from_proto(proto)


@pytest.mark.parametrize(
    "spec",
    [
        model(key_ref="sk-very-secret"),
        model(key_ref="env:sk-very-secret"),
        model(headers={"Authorization": "Bearer sk-very-secret"}),
        model(url="http://user:sk-very-secret@host/v1"),
        model(args={"api_key": "sk-very-secret"}),
        replace(GOOD, generation=GenerationConfig(extra_body={"api_key": "sk-very-secret"})),
    ],
)
def test_a_literal_key_is_refused_and_never_repeated(spec):
    with pytest.raises(InvalidInput) as caught:
        check_spec(spec)
    assert "sk-very-secret" not in caught.value.message + str(caught.value.details)
    assert "env:NAME" in caught.value.message


def test_values_json_cannot_carry_are_named_by_path():
    with pytest.raises(InvalidInput, match=r"model\.args\.a\[1\]"):
        spec_to_proto(model(args={"a": [1, 2**60]}))
    with pytest.raises(InvalidInput, match=r"model\.args\.x"):
        spec_to_proto(model(args={"x": float("nan")}))


def test_many_repeats_make_smaller_shards_unless_a_size_was_asked_for():
    sizes = {repeats: replace(GOOD, repeats=repeats).samples_per_shard for repeats in (1, 64, 65, 100, 4096)}
    assert sizes == {1: 64, 64: 64, 65: 63, 100: 40, 4096: 1}
    assert replace(GOOD, repeats=2, shard_size=1000).samples_per_shard == 1000
    check_spec(replace(GOOD, repeats=2, shard_size=2048))


def test_an_unknown_policy_is_refused():
    for number in (-1, 99):
        proto = spec_to_proto(GOOD)
        proto.on_error = number
        with pytest.raises(InvalidInput, match=f"on_error: {number}"):
            spec_from_proto(proto)


def test_a_spec_is_bounded_as_a_whole():
    one = spec_to_proto(GOOD).benchmarks[0]
    proto = spec_to_proto(GOOD)
    for number in range(8):
        more = proto.benchmarks.add()
        more.CopyFrom(one)
        more.benchmark, more.prompt_template = f"b{number}", "x" * 200_000
    with pytest.raises(InvalidInput, match=r"spec: .* at most 1048576"):
        spec_from_proto(proto)


def nested(levels: int):
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


def loop():
    value: dict[str, object] = {}
    value["again"] = value
    return value


def bush():
    """A million values, made of sixty."""
    value: list[object] = [1] * 10
    for _ in range(5):
        value = [value] * 10
    return {"a": value}


@pytest.mark.parametrize("value", [{"a": nested(33)}, {"a": nested(100_000)}, loop(), bush()], ids=range(4))
def test_values_without_end_are_refused_on_every_way(value):
    for spec in (model(args=value), bench(extra=value), replace(GOOD, generation=GenerationConfig(extra_body=value))):
        with pytest.raises(InvalidInput, match=r"nested more than 32 levels|more than 100000 values"):
            check_spec(spec)
        with pytest.raises(InvalidInput, match=r"nested more than 32 levels|more than 100000 values"):
            spec_to_proto(spec)
