"""Load tests over the wire: nothing is lost, defaults are those of the domain, and a wrong spec is refused by field."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.load_test import (
    ArrivalSpec,
    ImageSpec,
    LatencyQuantiles,
    Lengths,
    LevelStatus,
    LoadLevel,
    LoadSnapshot,
    LoadTarget,
    LoadTest,
    LoadTestSpec,
    PromptSpec,
    SearchSpec,
    SloTerm,
    Stage,
    TurnSpec,
)
from evalmesh.domain.state import State
from evalmesh.v1 import load_tests_pb2 as pb
from evalmesh.wire.load_tests.checks import check_load_spec
from evalmesh.wire.load_tests.specs import (
    load_spec_from_proto,
    load_spec_to_proto,
    load_test_from_proto,
    load_test_to_proto,
)
from evalmesh.wire.load_tests.views import snapshot_from_proto, snapshot_to_proto

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
DIGEST = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
SECONDS = st.integers(1, 10**9).map(lambda ms: ms / 1000)
PAUSE = st.integers(0, 86_400_000).map(lambda ms: ms / 1000)
MS = st.integers(0, 10**9).map(lambda us: us / 1000)
COUNT = st.integers(0, 2**31 - 1)
POSITIVE = st.floats(0.001, 1e5)
TARGET = st.builds(
    LoadTarget,
    url=st.sampled_from(["https://host:8000/v1/chat/completions?x=1", "http://[::1]/v1/embeddings"]),
    model=LINE.filter(str.strip),
    api=NAMES,
    key_ref=st.sampled_from(["", "env:KEY_1", "secret:team-a/key"]),
    headers=st.dictionaries(st.from_regex(r"X-[B-Zb-z]{1,9}", fullmatch=True), LINE, max_size=2),
    stream=st.booleans(),
    connect_timeout_s=SECONDS,
    read_timeout_s=SECONDS,
    total_timeout_s=SECONDS,
    transport=st.sampled_from(["auto", "fast", "compatible"]),
    verify_tls=st.booleans(),
    ca_file=LINE,
)


@st.composite
def lengths(draw):
    kind = draw(st.sampled_from(["fixed", "uniform", "normal", "lognormal", "trace"]))
    low = draw(st.integers(100, 1000))
    high = low if kind == "fixed" else draw(st.integers(low, 2000))
    mean = draw(st.floats(low, high)) if kind in {"normal", "lognormal"} else 0.0
    return Lengths(kind, low, high, mean, draw(st.floats(0, 100)))


PROMPTS = st.builds(
    PromptSpec,
    dataset=NAMES,
    file_digest=DIGEST,
    file_name=LINE,
    tokenizer_digest=st.just("") | DIGEST,
    prompt=TEXT,
    template=st.sampled_from(["", '{"prompt": "{prompt}", "model": "{model}"}']),
    input_tokens=st.none() | lengths(),
    output_tokens=st.none() | lengths(),
    min_tokens=st.none() | st.integers(0, 100),
    prefix_tokens=st.integers(0, 100),
    prefix_count=st.integers(1, 2**31 - 1),
    apply_chat_template=st.booleans(),
    tokenize=st.booleans(),
    offset=COUNT,
    documents=COUNT,
    images=st.none() | st.builds(ImageSpec, st.integers(1, 9), st.integers(1, 999), st.integers(1, 999)),
    turns=st.none() | st.builds(TurnSpec, st.integers(1, 5), st.integers(5, 9), PAUSE),
    body=FREE,
    args=FREE,
)
STAGES = st.lists(st.builds(Stage, SECONDS.filter(lambda s: s < 1e6), POSITIVE, POSITIVE), min_size=1, max_size=3)
ENDS = st.tuples(COUNT, PAUSE).filter(any)


@st.composite
def levels(draw, kind):
    """Levels that suit a way of arriving."""
    made = []
    for _ in range(draw(st.integers(1, 3))):
        number, duration_s = draw(ENDS)
        level = LoadLevel(number=number, duration_s=duration_s)
        if kind == "closed":
            level = replace(level, parallel=draw(st.integers(1, 1_000_000)))
        elif kind != "trace" and draw(st.booleans()):
            level = replace(level, stages=tuple(draw(STAGES)))
        elif kind != "trace":
            level = replace(level, rate=draw(POSITIVE), parallel=draw(st.integers(0, 1000)))
        made.append(level)
    return tuple(made)


SLO = st.builds(
    SloTerm, st.sampled_from(["ttft", "itl", "tpot", "e2e"]), st.sampled_from(["mean", "p50", "p99.9"]), POSITIVE
)
SLO |= st.builds(SloTerm, st.sampled_from(["error_rate", "request_rate", "output_token_rate"]), st.just(""), st.just(1))


@st.composite
def specs(draw):
    kind = draw(st.sampled_from(["closed", "constant", "poisson", "gamma", "trace"]))
    prompts = draw(PROMPTS)
    spec = LoadTestSpec(
        target=draw(TARGET),
        prompts=replace(prompts, turns=None) if kind == "trace" else prompts,
        arrival=ArrivalSpec(kind, draw(POSITIVE), draw(POSITIVE)),
        levels=draw(levels(kind)),
        repeats=draw(st.integers(1, 1000)),
        pause_s=draw(PAUSE),
        warmup=draw(st.sampled_from([0.0, 5.0, 100.0])),
        slo=tuple(draw(st.lists(SLO, max_size=2))),
        seed=draw(st.integers(-(2**63) + 1, 2**63 - 1)),
        server_metrics=draw(st.sampled_from([(), ("auto",), ("http://h:1/metrics", "auto")])),
        check_endpoint=draw(st.booleans()),
        display_name=draw(LINE),
        labels=draw(st.dictionaries(LINE.filter(bool), LINE, max_size=2)),
        client_config=draw(st.sampled_from(["", '{"model": "m"}'])),
    )
    if kind == "trace" or draw(st.booleans()):
        return spec
    variable = "parallel" if kind == "closed" else "rate"
    search = SearchSpec(variable, draw(st.floats(1, 9)), draw(st.sampled_from([0.0, 500.0])), 0.1, 2.5, 3, 60.25)
    return replace(spec, search=search, slo=(SloTerm("ttft", "p99", 5.0),), levels=(LoadLevel(parallel=3),))


STATUS = st.builds(
    LevelStatus,
    index=st.integers(0, 999),
    level=st.builds(LoadLevel, st.integers(0, 9), POSITIVE, COUNT, PAUSE, st.just(()) | STAGES.map(tuple)),
    repeat=st.integers(0, 99),
    state=st.sampled_from(["pending", "running", "done", "failed", "cancelled"]),
    planned=COUNT,
    sent=COUNT,
    ok=COUNT,
    errors=st.dictionaries(st.sampled_from(["reset", "http_429", "lost"]), COUNT),
    request_rate=st.none() | POSITIVE,
    output_token_rate=st.none() | POSITIVE,
    ttft_p50_ms=st.none() | MS,
    ttft_p99_ms=st.none() | MS,
    itl_p50_ms=st.none() | MS,
    e2e_p99_ms=st.none() | MS,
    goodput_rate=st.none() | st.just(0.0) | POSITIVE,
    meets_slo=st.none() | st.booleans(),
    client_limited=st.booleans(),
    start_time=st.none() | st.floats(1e9, 4e9),
    end_time=st.none() | st.floats(1e9, 4e9),
    note=TEXT,
)
TIME = st.floats(1e9, 4e9)
LOAD_TEST = st.builds(
    LoadTest,
    id=NAMES,
    spec=specs(),
    state=st.sampled_from([one for one in State if one is not State.PLANNING]),
    create_time=TIME,
    start_time=st.none() | TIME,
    end_time=st.none() | TIME,
    attempt=st.integers(0, 9),
    error=TEXT,
    error_reason=st.just("INTERNAL"),
    levels=st.lists(STATUS, max_size=2).map(tuple),
)
QUANTILES = st.builds(LatencyQuantiles, MS, MS, MS)
SNAPSHOT = st.builds(
    LoadSnapshot,
    level_index=st.integers(0, 999),
    elapsed_s=PAUSE,
    window_s=PAUSE,
    offered_rate=POSITIVE,
    sent_rate=POSITIVE,
    ok_rate=POSITIVE,
    output_token_rate=POSITIVE,
    in_flight=COUNT,
    queued=COUNT,
    sent=COUNT,
    ok=COUNT,
    errors=st.dictionaries(st.sampled_from(["reset", "http_429"]), COUNT),
    latencies=st.dictionaries(st.sampled_from(["ttft", "itl", "send_lag"]), QUANTILES),
    client_cpu=POSITIVE,
    client_lag_ms=MS,
    generators=st.integers(0, 99),
    good_share=st.none() | st.floats(0, 1),
)

GOOD = LoadTestSpec(LoadTarget("http://h/v1/chat/completions", "m"))


def over_the_wire(spec):
    return load_spec_from_proto(pb.LoadTestSpec.FromString(load_spec_to_proto(spec).SerializeToString()))


@given(specs())
def test_a_spec_survives_the_wire(spec):
    assert over_the_wire(spec) == spec


@given(LOAD_TEST)
def test_a_load_test_survives_the_wire(load_test):
    there = pb.LoadTest.FromString(load_test_to_proto(load_test).SerializeToString())
    assert load_test_from_proto(there) == load_test


@given(SNAPSHOT)
def test_a_snapshot_survives_the_wire(snapshot):
    there = pb.LoadSnapshot.FromString(snapshot_to_proto(snapshot).SerializeToString())
    assert snapshot_from_proto(there) == snapshot


def test_an_empty_spec_of_a_foreign_client_gets_the_defaults():
    proto = pb.LoadTestSpec(target=pb.LoadTarget(url="http://h/v1/chat/completions", model="m"))
    assert load_spec_from_proto(proto) == GOOD


def test_parts_that_are_there_and_empty_get_their_defaults():
    proto = load_spec_to_proto(GOOD)
    proto.prompts.input_tokens.low = 512
    proto.prompts.images.SetInParent()
    proto.prompts.turns.low = 3
    proto.arrival.kind = "poisson"
    proto.levels[0].rate = 5.0
    proto.search.variable = "rate"
    proto.slo.add(metric="ttft", statistic="p99", limit=1.0)
    spec = load_spec_from_proto(proto)
    assert spec.prompts.input_tokens == Lengths("fixed", 512, 512)
    assert (spec.prompts.images, spec.prompts.turns) == (ImageSpec(), TurnSpec(3, 3))
    assert spec.search == SearchSpec("rate")


def test_zero_and_false_are_not_the_same_as_absent():
    proto = load_spec_to_proto(replace(GOOD, prompts=PromptSpec(min_tokens=0, apply_chat_template=False)))
    assert proto.prompts.HasField("min_tokens")
    assert over_the_wire(replace(GOOD, target=replace(GOOD.target, stream=False))).target.stream is False
    assert over_the_wire(replace(GOOD, check_endpoint=False)).check_endpoint is False
    assert proto.skip_endpoint_check is False


def target(**changes):
    return replace(GOOD, target=replace(GOOD.target, **changes))


def prompts(**changes):
    return replace(GOOD, prompts=replace(GOOD.prompts, **changes))


def level(kind="closed", more=(), **changes):
    return replace(GOOD, arrival=ArrivalSpec(kind), levels=(LoadLevel(**changes), *more))


OBJECTIVE = (SloTerm("ttft", "p99", 500.0),)
PROBE = (LoadLevel(),)


def search(kind="poisson", slo=OBJECTIVE, levels=PROBE, **changes):
    wanted = SearchSpec(**{"variable": "rate", **changes})
    return replace(GOOD, arrival=ArrivalSpec(kind), levels=levels, slo=slo, search=wanted)


def slo(*term):
    return replace(GOOD, slo=(SloTerm(*term),))


NAN, INF = float("nan"), float("inf")
TRACE = PromptSpec(dataset="trace", file_digest="a" * 64)


@pytest.mark.parametrize(
    ("spec", "field", "shown"),
    [
        (target(url=""), "target.url", "--url"),
        (target(url="ftp://h/x"), "target.url", "ftp://h/x"),
        (target(url="http:///v1"), "target.url", "http:///v1"),
        (target(url="http://h:99999/v1"), "target.url", "99999"),
        (target(model=" "), "target.model", "--model"),
        (target(api="Chat"), "target.api", "'Chat'"),
        (target(headers={"X-A": "b\r\nX-C: d"}), "target.headers", "single lines"),
        (target(headers={"X\n": "b"}), "target.headers", "single lines"),
        (target(connect_timeout_s=0.0), "target.connect_timeout", "0.0"),
        (target(read_timeout_s=NAN), "target.read_timeout", "nan"),
        (target(total_timeout_s=INF), "target.total_timeout", "inf"),
        (target(transport="quic"), "target.transport", "compatible"),
        (prompts(dataset="a b"), "prompts.dataset", "ListLoadDatasets"),
        (prompts(file_digest="ab"), "prompts.file_digest", "ImportLoadFile"),
        (prompts(tokenizer_digest="A" * 64), "prompts.tokenizer_digest", "ImportLoadFile"),
        (prompts(prompt="x" * 300_000), "prompts.prompt", "line_by_line"),
        (prompts(template="{prompt}"), "prompts.template", "JSON object"),
        (prompts(template='{"prompt": "x"}'), "prompts.template", "{prompt}"),
        (prompts(template='["{prompt}"]'), "prompts.template", "JSON object"),
        (
            prompts(input_tokens=Lengths("uniform", 9, 8)),
            "prompts.input_tokens.low",
            "input_tokens.high, 8",
        ),
        (prompts(input_tokens=Lengths("uniform", 0, 8)), "prompts.input_tokens.low", "at least 1"),
        (prompts(input_tokens=Lengths("uniform", 1, 2**31 - 1)), "prompts.input_tokens.high", "16777216"),
        (prompts(images=ImageSpec(9, 16_384, 16_384)), "prompts.images", "268435456"),
        (prompts(prompt="half \ud800"), "prompts.prompt", "surrogate"),
        (prompts(template='{"a": "{prompt}", "b": ' + "[" * 10_000), "prompts.template", "JSON"),
        (replace(GOOD, slo=(SloTerm("ttft", "p99", 1.0),) * 101), "slo", "100"),
        (level(stages=(Stage(1.0, 1.0, 1.0),) * 1001), "levels[0].stages", "1000"),
        (prompts(input_tokens=Lengths("fixed", 8, 9)), "prompts.input_tokens.high", "uniform"),
        (prompts(output_tokens=Lengths("normal", 8, 9, 0.0, 1.0)), "prompts.output_tokens.mean", "8 to 9"),
        (prompts(output_tokens=Lengths("normal", 8, 9, 8.5, -1.0)), "prompts.output_tokens.spread", "-1"),
        (prompts(output_tokens=Lengths("zipf", 8, 9)), "prompts.output_tokens.kind", "lognormal"),
        (prompts(min_tokens=-1), "prompts.min_tokens", "-1"),
        (prompts(min_tokens=9, output_tokens=Lengths("fixed", 8, 8)), "prompts.min_tokens", "output_tokens"),
        (prompts(prefix_tokens=9, input_tokens=Lengths("fixed", 8, 8)), "prompts.prefix_tokens", "at most 8"),
        (prompts(prefix_count=0), "prompts.prefix_count", "0"),
        (prompts(offset=-1), "prompts.offset", "-1"),
        (prompts(documents=-1), "prompts.document_count", "-1"),
        (prompts(images=ImageSpec(0)), "prompts.images.count", "0"),
        (prompts(images=ImageSpec(1, 0)), "prompts.images.width", "0"),
        (prompts(images=ImageSpec(1, 9, 9, "CMYK")), "prompts.images.mode", "RGB"),
        (prompts(turns=TurnSpec(3, 2)), "prompts.turns.low", "3"),
        (prompts(turns=TurnSpec(1, 2, -1.0)), "prompts.turns.think_mean", "-1.0"),
        (prompts(body={"a": [1, NAN]}), "prompts.body", "a[1]"),
        (prompts(args={"a": {1, 2}}), "prompts.args", "set"),
        (level(), "levels[0].parallel", "--parallel"),
        (level(parallel=-1), "levels[0].parallel", "-1"),
        (level(parallel=1), "levels[0].number", "never end"),
        (level(parallel=1, number=-1), "levels[0].number", "-1"),
        (level(parallel=1, duration_s=-1.0), "levels[0].duration", "-1.0"),
        (level(parallel=1, duration_s=NAN), "levels[0].duration", "nan"),
        (level(parallel=1, number=1, rate=5.0), "levels[0].rate", "poisson"),
        (level("poisson", parallel=9, number=1), "levels[0].rate", "--rate"),
        (level("poisson", rate=INF, number=1), "levels[0].rate", "inf"),
        (level("poisson", rate=5.0), "levels[0].number", "never end"),
        (level("gamma", rate=5.0, stages=(Stage(1.0, 1.0, 2.0),)), "levels[0].rate", "stages"),
        (level("constant", stages=(Stage(0.0, 1.0, 2.0),)), "levels[0].stages[0].duration", "0.0"),
        (level("constant", stages=(Stage(1.0, -1.0, 2.0),)), "levels[0].stages[0].start_load", "-1.0"),
        (level("constant", stages=(Stage(1.0, 0.0, 0.0),)), "levels[0].stages", "above 0"),
        (level("closed", (LoadLevel(number=1),), parallel=1, number=1), "levels[1].parallel", "--parallel"),
        (replace(GOOD, levels=()), "levels", "0"),
        (replace(GOOD, arrival=ArrivalSpec("uniform")), "arrival.kind", "poisson"),
        (replace(GOOD, arrival=ArrivalSpec(burstiness=0.0)), "arrival.burstiness", "0.0"),
        (replace(GOOD, arrival=ArrivalSpec(speed=-1.0)), "arrival.speed", "-1.0"),
        (level("trace"), "prompts.file_digest", "--dataset-path"),
        (replace(level("trace"), prompts=replace(TRACE, turns=TurnSpec())), "prompts.turns", "single requests"),
        (replace(level("trace", rate=5.0), prompts=TRACE), "levels[0].rate", "trace"),
        (replace(level("trace", stages=(Stage(1.0, 1.0, 1.0),)), prompts=TRACE), "levels[0].stages", "trace"),
        (replace(GOOD, repeats=0), "repeats", "0"),
        (replace(GOOD, pause_s=-1.0), "pause", "-1.0"),
        (replace(GOOD, pause_s=INF), "pause", "inf"),
        (replace(GOOD, warmup=-1.0), "warmup", "-1.0"),
        (replace(GOOD, warmup=1.5), "warmup", "whole"),
        (replace(level(parallel=1, duration_s=1.0), warmup=0.1), "warmup", "count"),
        (slo("latency", "p99", 1.0), "slo[0].metric", "ttft"),
        (slo("ttft", "", 1.0), "slo[0].statistic", "p99.9"),
        (slo("ttft", "p5", 1.0), "slo[0].statistic", "p50"),
        (slo("ttft", "p99.95", 1.0), "slo[0].statistic", "p99.9"),
        (slo("ttft", "max", 1.0), "slo[0].statistic", "mean"),
        (slo("error_rate", "p99", 0.1), "slo[0].statistic", "empty"),
        (slo("error_rate", "", 5.0), "slo[0].limit", "share"),
        (slo("itl", "p99", -1.0), "slo[0].limit", "-1.0"),
        (slo("itl", "p99", NAN), "slo[0].limit", "nan"),
        (search(slo=()), "slo", "--slo"),
        (search("closed"), "arrival.kind", "poisson"),
        (search("poisson", variable="parallel"), "arrival.kind", "closed"),
        (search(variable="tokens"), "search.variable", "parallel"),
        (search(low=0.0), "search.low", "0.0"),
        (search(high=0.5), "search.high", "search.low"),
        (search("closed", variable="parallel", low=0.5), "search.low", "0.5"),
        (search(resolution=0.0), "search.resolution", "0.0"),
        (search(level_s=0.0), "search.level_duration", "0.0"),
        (search(repeats=0), "search.repeats", "0"),
        (search(max_s=0.0), "search.max_duration", "0.0"),
        (search(levels=(LoadLevel(), LoadLevel())), "levels", "template"),
        (search(levels=(LoadLevel(stages=(Stage(1.0, 1.0, 1.0),)),)), "levels[0].stages", "stages"),
        (replace(GOOD, generators=0), "generator_count", "0"),
        (replace(GOOD, generators=2), "generator_count", "at most 1"),
        (replace(level(parallel=9999, number=1), generators=1001), "generator_count", "1000"),
        (replace(GOOD, seed=2**64), "seed", "64 bits"),
        (replace(GOOD, server_metrics=("auto", "h:9400")), "server_metrics[1]", "h:9400"),
        (replace(GOOD, labels={"": "x"}), "labels", "name"),
        (replace(GOOD, display_name="a\nb"), "display_name", "line"),
    ],
)
def test_a_wrong_spec_is_refused_by_field_and_value(spec, field, shown):
    with pytest.raises(InvalidInput) as caught:
        check_load_spec(spec)
    # What JSON cannot carry is named by its path within the field.
    assert caught.value.details["field"].startswith(field)
    assert caught.value.message.startswith(field)
    assert shown in caught.value.message


@pytest.mark.parametrize(
    "spec",
    [
        GOOD,
        replace(level("trace"), prompts=TRACE),
        replace(level("closed", (LoadLevel(parallel=8, number=1),), parallel=1, number=1), generators=8),
        level("closed", stages=(Stage(1.0, 1.0, 64.0),)),
        level("poisson", stages=(Stage(1.0, 0.0, 64.0),)),
        level("poisson", rate=0.5, duration_s=2.0),
        search(),
        search("closed", variable="parallel", high=64.0),
        slo("error_rate", "", 0.0),
        slo("ttft", "p75", 100.0),
        target(headers={"X-API-Key": "env:OTHER_KEY"}),
        prompts(prefix_tokens=10, input_tokens=Lengths("lognormal", 1, 100, 50.0, 1.0)),
    ],
)
def test_what_makes_sense_is_accepted(spec):
    check_load_spec(spec)
    assert over_the_wire(spec) == spec


def test_the_wire_refuses_what_the_check_refuses():
    proto = load_spec_to_proto(replace(GOOD, repeats=-1))
    with pytest.raises(InvalidInput, match=r"^repeats: -1"):
        load_spec_from_proto(proto)


@pytest.mark.parametrize(
    ("field", "value"),
    [("target.transport", "quic"), ("arrival.kind", "bursty"), ("prompts.input_tokens.kind", "zipf")],
)
def test_words_nobody_knows_are_named_where_they_are_decoded(field, value):
    proto = load_spec_to_proto(GOOD)
    *path, last = field.split(".")
    message = proto
    for name in path:
        message = getattr(message, name)
    setattr(message, last, value)
    with pytest.raises(InvalidInput) as caught:
        load_spec_from_proto(proto)
    assert caught.value.details["field"] == field
    assert value in caught.value.message


@pytest.mark.parametrize(
    "spec",
    [
        target(key_ref="sk-very-secret"),
        target(headers={"Authorization": "Bearer sk-very-secret"}),
        target(headers={"api-key": "sk-very-secret"}),
        target(url="http://user:sk-very-secret@host/v1"),
        prompts(body={"api_key": "sk-very-secret"}),
        prompts(args={"token": "sk-very-secret"}),
        replace(GOOD, server_metrics=("http://user:sk-very-secret@host/metrics",)),
    ],
)
def test_a_literal_key_is_refused_and_never_repeated(spec):
    with pytest.raises(InvalidInput) as caught:
        check_load_spec(spec)
    assert "sk-very-secret" not in caught.value.message + str(caught.value.details)
    assert "env:NAME" in caught.value.message


def test_authorization_has_one_place():
    with pytest.raises(InvalidInput, match="key_ref"):
        check_load_spec(target(headers={"authorization": "env:KEY"}))
