"""The command line that asks for the same load test again, from the spec in `perf.json`."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Spec = Mapping[str, Any]
Option = Sequence[str]
_SEED = 42
"""Where no seed is said."""


def command(spec: Spec) -> str:
    """One option per line."""
    options = (*_target(spec["target"]), *_load(spec), *_prompts(spec["prompts"]), *_body(spec), *_objective(spec))
    return " \\\n  ".join(["evalmesh perf", *(shlex.join(option) for option in options)])


def _target(target: Spec) -> Iterator[Option]:
    yield "--url", target["url"]
    yield "--model", target["model"]
    yield "--api", target["api"]
    if target["key_ref"]:
        yield "--api-key", target["key_ref"]
    if target["headers"]:
        yield "--headers", *(f"{name}={value}" for name, value in target["headers"].items())
    if not target["stream"]:
        yield ("--no-stream",)
    if target["transport"] != "auto":
        yield "--transport", target["transport"]
    if not target["verify_tls"]:
        yield ("--insecure",)
    for name, standard in (("connect_timeout_s", 10.0), ("read_timeout_s", 600.0), ("total_timeout_s", 21600.0)):
        if target[name] != standard:
            yield f"--{name.removesuffix('_s').replace('_', '-')}", _number(target[name])


def _load(spec: Spec) -> Iterator[Option]:
    levels, arrival = spec["levels"], spec["arrival"]
    if spec["search"]:
        yield from _level_option(levels, "number")
    else:
        for name in ("parallel", "rate", "number"):
            yield from _level_option(levels, name)
        if levels[0]["duration_s"]:
            yield "--duration", _number(levels[0]["duration_s"])
        if levels[0]["stages"]:
            yield "--stages", *(_stage(stage) for stage in levels[0]["stages"])
    yield "--arrival", arrival["kind"]
    if arrival["kind"] == "gamma":
        yield "--burstiness", _number(arrival["burstiness"])
    if arrival["speed"] != 1.0:
        yield "--trace-speed", _number(arrival["speed"])
    for flag, name, standard in (
        ("warmup-num", "warmup", 0),
        ("repeats", "repeats", 1),
        ("generators", "generators", 1),
    ):
        if spec[name] != standard:
            yield f"--{flag}", _number(spec[name])
    yield "--sleep-interval", _number(spec["pause_s"])


def _level_option(levels: Sequence[Spec], name: str) -> Iterator[Option]:
    values = [level[name] for level in levels]
    if any(values):
        yield f"--{name}", *map(_number, values if len(set(values)) > 1 or name != "number" else values[:1])


def _stage(stage: Spec) -> str:
    load = _number(stage["start"])
    if stage["end"] != stage["start"]:
        load += f"-{_number(stage['end'])}"
    return f"{_number(stage['duration_s'])}s:{load}"


def _prompts(prompts: Spec) -> Iterator[Option]:
    yield "--dataset", prompts["dataset"]
    if prompts["file_name"]:
        yield "--dataset-path", prompts["file_name"]
    if prompts["tokenizer_digest"]:
        yield "--tokenizer-path", "TOKENIZER"
    for name, flag in (("prompt", "--prompt"), ("template", "--query-template")):
        if prompts[name]:
            yield flag, prompts[name]
    yield from _lengths(prompts)
    for flag, name, standard in (
        ("prefix-length", "prefix_tokens", 0),
        ("prefix-count", "prefix_count", 1),
        ("dataset-offset", "offset", 0),
        ("documents", "documents", 0),
    ):
        if prompts[name] != standard:
            yield f"--{flag}", _number(prompts[name])
    if prompts["turns"]:
        yield ("--multi-turn",)
        yield "--min-turns", _number(prompts["turns"]["low"])
        yield "--max-turns", _number(prompts["turns"]["high"])
        yield "--think-time", _number(prompts["turns"]["think_mean_s"])
    if prompts["args"]:
        yield "--dataset-args", json.dumps(prompts["args"], ensure_ascii=False)


def _body(spec: Spec) -> Iterator[Option]:
    body = dict(spec["prompts"]["body"])
    if spec["seed"] != _SEED or "seed" in body:
        # The flag puts the seed into bodies too; null keeps it out of those that had none.
        yield "--seed", _number(spec["seed"])
        body.setdefault("seed", None)
    if body:
        yield "--extra-args", json.dumps(body, ensure_ascii=False)


def _lengths(prompts: Spec) -> Iterator[Option]:
    asked, answered = prompts["input_tokens"], prompts["output_tokens"]
    if asked and asked["kind"] in {"fixed", "uniform"}:
        # The flags mean what comes after the shared prefix.
        yield "--min-prompt-length", _number(asked["low"] - prompts["prefix_tokens"])
        yield "--max-prompt-length", _number(asked["high"] - prompts["prefix_tokens"])
    elif asked:
        yield "--input-lengths", _distribution(asked)
    if answered and answered["kind"] in {"fixed", "uniform"}:
        yield "--max-tokens", *(map(_number, dict.fromkeys((answered["low"], answered["high"]))))
    elif answered:
        yield "--output-lengths", _distribution(answered)
    if prompts["min_tokens"] is not None:
        yield "--min-tokens", _number(prompts["min_tokens"])


def _distribution(lengths: Spec) -> str:
    if lengths["kind"] == "trace":
        return "trace"
    return ":".join([lengths["kind"], *(_number(lengths[name]) for name in ("mean", "spread", "low", "high"))])


def _objective(spec: Spec) -> Iterator[Option]:
    if spec["slo"]:
        yield "--slo", ",".join(_term(term) for term in spec["slo"])
    search = spec["search"]
    if not search:
        return
    yield "--find-max", search["variable"]
    yield "--sla-lower-bound", _number(search["low"])
    yield "--duration", _number(search["level_s"])
    if search["high"]:
        yield "--sla-upper-bound", _number(search["high"])
    if search["repeats"] != 1:
        yield "--sla-num-runs", _number(search["repeats"])
    if search["variable"] == "rate" and spec["levels"][0]["parallel"]:
        yield "--sla-fixed-parallel", _number(spec["levels"][0]["parallel"])


def _term(term: Spec) -> str:
    limit = _number(term["limit"]) + ("ms" if term["metric"] in {"ttft", "itl", "tpot", "e2e"} else "")
    return ":".join(part for part in (term["metric"], term["statistic"], limit) if part)


def _number(value: float) -> str:
    return f"{value:g}" if abs(value) < 1e6 else f"{value:.0f}"
