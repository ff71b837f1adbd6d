"""Configs, flags and specs that nobody would write by hand: refused in a sentence, never a defect."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import pytest
import yaml

from evalmesh.cli.eval.config import TaskConfig
from evalmesh.cli.eval.spec import to_run_spec
from evalmesh.cli.options import parse_options, read_config_file
from evalmesh.cli.outputs import LOAD_TESTS, RUNS
from evalmesh.cli.perf.config import PerfConfig
from evalmesh.cli.perf.spec import resolve
from evalmesh.domain.errors import InvalidInput, Unimplemented
from evalmesh.domain.run import BenchmarkSpec, ModelSpec, RunSpec
from evalmesh.wire.runs.checks import check_spec
from evalmesh.wire.runs.specs import spec_from_proto, spec_to_proto

REFUSED = (InvalidInput, Unimplemented)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("deep.json", "[" * 100_000),
        ("deep.json", '{"a": ' * 5_000 + "1" + "}" * 5_000),
        ("deep.json", '{"generation_config": ' + "[" * 200 + "]" * 200 + "}"),
        ("deep.yaml", "a: " + "[" * 5_000 + "]" * 5_000),
        ("deep.yaml", "\n".join(f"{' ' * level}a:" for level in range(900))),
        ("loop.yaml", "&g {a: *g}"),
        ("loop.yaml", "model: m\ngeneration_config: &g\n  extra_body: *g\n"),
        ("loop.yaml", "dataset_args: &d\n  gsm8k: {extra_params: {again: *d}}\n"),
        ("bush.yaml", "a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
            f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9))),
        ("number.json", '{"limit": ' + "9" * 5_000 + "}"),
        ("number.yaml", "limit: " + "9" * 5_000),
        ("date.yaml", "limit: 2024-13-45"),
        ("tag.yaml", "!!python/object/apply:os.system ['true']"),
        ("half.json", '{"model": "\\ud800"}'),
        ("null.yaml", "model: \x00"),
    ],
)  # fmt: skip
def test_a_hostile_file_is_refused_in_a_sentence(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    flags = {"api_url": "http://h/v1", "datasets": ["gsm8k"], "model_id": "x"}
    with pytest.raises(REFUSED) as caught:
        check_spec(to_run_spec(TaskConfig(**{**read_config_file(str(path)), **flags})))
    assert len(caught.value.message) < 1000
    with pytest.raises(REFUSED):
        resolve(PerfConfig(**{"url": "http://h/v1/chat/completions", "prompt": "hi", **read_config_file(str(path))}))


@pytest.mark.parametrize(
    "text", ["extra_body=" + "[" * 100_000, "{" + '"a": {' * 5_000, '{"a": ' + "[" * 100 + "]" * 100 + "}"]
)
def test_a_hostile_flag_is_refused_in_a_sentence(text):
    with pytest.raises(InvalidInput, match="generation_config"):
        parse_options(text, "generation_config")


@contextmanager
def refused_at_most() -> Iterator[None]:
    """Nothing leaves but a refusal that fits onto a screen."""
    said = ""
    try:
        yield
    except REFUSED as error:
        said = error.message
    assert len(said) < 3000


ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**31, 2**63, 2**64, 10**400, 0.0, -0.5, 1e308, float("inf"), float("-inf"), float("nan"),
    "", " ", "x", "\ud800", "\x00", "a\nb", "x" * 100_000, "env:X", "1e999", "9" * 5_000, "[" * 5_000, "{}", "a=b,c",
    "../../etc", "{question}", "$(x)", "🐍" * 300, b"bytes", [], [[]], [None], ["x"] * 5_000, {}, {"": ""}, {1: 2},
    {"a": {"b": [1, {"c": None}]}}, {"messages": []}, {"api_key": "k"}, (1,), {1, 2}, object(),
)  # fmt: skip


def odd(rng: Random, depth: int = 0) -> Any:
    """Mostly one of the above; sometimes such values in lists and mappings."""
    if depth < 3 and rng.random() < 0.2:
        return {str(odd_key(rng)): odd(rng, depth + 1) for _ in range(3)}
    if depth < 3 and rng.random() < 0.1:
        return [odd(rng, depth + 1) for _ in range(3)]
    return rng.choice(ODD)


def odd_key(rng: Random) -> Any:
    return rng.choice(
        ["extra_body", "max_tokens", "timeout", "limit", "subset_list", "filters", "n", "", "\ud800", "x"]
    )


@pytest.mark.parametrize("seed", range(300))
def test_an_odd_eval_config_is_taken_or_refused(seed):
    rng = Random(seed)
    values = {"model": "m", "api_url": "http://h/v1", "datasets": ["gsm8k"], "dataset_args": {"gsm8k": {}}}
    for name in rng.sample(sorted(TaskConfig.model_fields), 3):
        if name != "api_key":  # a literal key goes into the environment
            values[name] = odd(rng)
    if rng.random() < 0.5:
        values["dataset_args"] = {"gsm8k": {rng.choice(["few_shot_num", "filters", "limit", "subset_list"]): odd(rng)}}
    with refused_at_most():
        spec = to_run_spec(TaskConfig(**values))
        check_spec(spec)
        spec_from_proto(spec_to_proto(spec))


@pytest.mark.parametrize("seed", range(200))
def test_an_odd_perf_config_is_taken_or_refused(seed):
    rng = Random(seed)
    values: dict[str, Any] = {"model": "m", "url": "http://h/v1/chat/completions", "prompt": "hi"}
    for name in rng.sample(sorted(PerfConfig.model_fields), 3):
        if name != "api_key":
            values[name] = odd(rng)
    with refused_at_most():
        resolve(PerfConfig(**values))


@pytest.mark.parametrize("seed", range(300))
def test_an_odd_spec_is_taken_or_refused(seed):
    """Of the types that the API's messages have: protobuf has seen to those."""
    rng = Random(seed)
    whole = [number for number in ODD if type(number) is int and abs(number) < 2**63]
    numbers = [number for number in ODD if type(number) in {int, float} and abs(number) < 10**308]
    texts = [text for text in ODD if isinstance(text, str) and "\ud800" not in text]
    free = [value for value in ODD if isinstance(value, dict) and all(isinstance(key, str) for key in value)]
    model = {
        "name": texts, "url": texts, "key_ref": texts, "concurrency": whole, "max_tries": whole,
        "try_timeout_s": numbers, "headers": [{text: text} for text in texts], "args": free,
    }  # fmt: skip
    bench = {
        "name": texts, "subsets": [None, *((text,) for text in texts)], "few_shot_num": whole, "limit": numbers,
        "prompt_template": texts, "system_prompt": texts, "remove_until": texts, "extra": free, "local_path": texts,
    }  # fmt: skip
    run = {
        "limit": numbers, "repeats": whole, "seed": whole, "shard_size": whole, "display_name": texts,
        "reuse_runs": [(text,) for text in texts], "labels": [{text: text} for text in texts],
        "completions_digest": texts, "dataset_dir": texts,
    }  # fmt: skip

    def some(fields: dict[str, list[Any]]) -> dict[str, Any]:
        return {name: rng.choice(fields[name]) for name in rng.sample(sorted(fields), rng.randint(0, 2))}

    spec = RunSpec(
        **{"model": ModelSpec(**{"name": "m", "url": "http://h/v1"} | some(model))}
        | {"benchmarks": (BenchmarkSpec(**{"name": "gsm8k"} | some(bench)),)}
        | some(run)
    )
    with refused_at_most():
        check_spec(spec)
        assert spec_from_proto(spec_to_proto(spec)) == spec


def test_a_report_nested_without_end_is_no_report(tmp_path):
    path = tmp_path / "report.json"
    path.write_text('{"levels": ' + "[" * 100_000)
    for read in (RUNS.read_report, LOAD_TESTS.read_report):
        with pytest.raises(InvalidInput, match=r"report\.json"):
            read(path)


def test_yaml_and_json_of_the_same_config_are_the_same(tmp_path):
    values = {"model": "m", "generation_config": {"extra_body": {"a": [1, {"b": None}]}}}
    (tmp_path / "a.json").write_text(json.dumps(values))
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(values))
    assert read_config_file(str(tmp_path / "a.json")) == read_config_file(str(tmp_path / "a.yaml")) == values
