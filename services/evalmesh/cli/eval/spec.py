"""From the user's config to the run's spec. A literal key stops here: the spec only ever holds its reference."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from evalmesh.cli.connections import ca_file_of, literal_key, own_connection, reference_to
from evalmesh.cli.eval.config import TaskConfig
from evalmesh.cli.eval.datasets import read_set
from evalmesh.cli.eval.engines import (
    IN_FLIGHT,
    check_runs_here,
    engine_args,
    engine_of,
    kind_for,
    model_name,
    runs_here,
)
from evalmesh.cli.eval.keys import GENERATION_ADVICE, sift
from evalmesh.cli.eval.sets import (
    DEMO_MODEL,
    benchmark_spec,
    path_for,
    sets_of,
    takes_dataset_id,
    typed,
    wrong,
)
from evalmesh.cli.exports import without_keys
from evalmesh.cli.headers import Headers, split_headers
from evalmesh.cli.outputs import client_config
from evalmesh.dialect.addresses import provider_url, read_address
from evalmesh.domain.connection import Connection
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.request import GenerationConfig
from evalmesh.domain.run import OWN_ENGINES, Engine, ModelSpec, RunSpec
from evalmesh.results.json_values import public_url

_SAMPLING = {
    "max_tokens": int,
    "temperature": float,
    "top_p": float,
    "top_k": int,
    "frequency_penalty": float,
    "presence_penalty": float,
    "repetition_penalty": float,
    "seed": int,
    "reasoning_effort": str,
    "top_logprobs": int,
}
_LIMITS = frozenset({"max_completion_tokens", "max_output_tokens"})
"""`max_tokens` by the names of newer servers; it takes the place of the benchmark's."""
_BODY_NAMES = {"top_logprobs": "logprobs"}
_OWN_FLAGS = ("max_tokens", "temperature", "top_p")
"""Sampling options that are options of their own as well, which then count."""
_GENERATION_KEYS = (
    *_SAMPLING,
    *sorted(_LIMITS),
    "stop",
    "stop_seqs",
    "extra_body",
    "n",
    "timeout",
    "retries",
    "stream",
    "extra_headers",
    "batch_size",
)


def to_run_spec(config: TaskConfig) -> RunSpec:
    """The spec this config asks for. `use_cache` must be a run's id by now, and imported completions a digest.

    Raises `InvalidInput` and `Unimplemented`. A literal `api_key` is no part of it: the spec says
    `env:EVALMESH_API_KEY`, and `literal_keys` hands the key itself to the platform.
    """
    generation = _generation(config)
    repeats = config.repeats if config.repeats != 1 else generation.pop("repeats", 1)
    model = _model(config, generation.pop("model"))
    sets = sets_of(config)
    labels = {**config.labels, **({"simulated": "true"} if config.demo else {})}
    if config.dataset_id and not any(takes_dataset_id(one, config) for one in sets):
        raise wrong("dataset_id", config.dataset_id, "it does not say which benchmark it is for; use dataset_args.")
    spec = RunSpec(
        model=model,
        benchmarks=tuple(benchmark_spec(one, config) for one in sets),
        generation=GenerationConfig(**generation["sampling"]),
        limit=config.limit,
        repeats=repeats,
        seed=config.seed,
        on_error=config.on_error,
        reuse_runs=(config.use_cache,) if config.use_cache else (),
        dataset_dir=path_for(config.dataset_dir, config),
        dataset_hub=config.dataset_hub,
        display_name=config.name,
        labels=labels,
        stop_after_failures=config.stop_after_failures,
    )
    return replace(spec, client_config=client_config(repeating(config, spec)))


def repeating(config: TaskConfig, spec: RunSpec) -> dict[str, Any]:
    """The keys of a config that asks for the same run again. Never a key in it: at most the name of what holds it."""
    values = config.model_dump(mode="json", exclude_defaults=True, exclude={"api_key", "dry_run", "debug"})
    if config.export_args:
        values["export_args"] = without_keys(config.export_args)
    if config.demo:
        values.pop("api_url", None)  # the next simulated model may have another port
    elif reference := spec.model.key_ref or ("" if config.api_key is None else key_reference(config)):
        values["api_key"] = reference
    values["headers"] = dict(spec.model.headers)
    # From wherever it is asked for again.
    values["model"] = spec.model.name if spec.model.engine in OWN_ENGINES else config.model
    if "generation_config" in values:
        values["generation_config"].pop("extra_headers", None)  # they are among the headers now
    for name in ("dataset_dir", "completions", "ca_file"):
        if values.get(name):
            values[name] = path_for(values[name], config)
    for name, args in values.get("dataset_args", {}).items():
        local = next((one.local_path for one in spec.benchmarks if one.name == name), None)
        if "local_path" in args and local:
            args["local_path"] = local
    if values.get("datasets"):
        values["datasets"] = [
            str(replace(one, local_path=path_for(one.local_path, config)) if one.local_path else one)
            for one in map(read_set, config.datasets)
        ]
    return {name: values[name] for name in type(config).model_fields if values.get(name) not in (None, {})}


def _model(config: TaskConfig, transport: Mapping[str, Any]) -> ModelSpec:
    engine = engine_of(dict(config))
    if engine in OWN_ENGINES:
        return _own_model(config, transport, engine)
    # What belongs to a provider's address only litellm knows.
    url, kind = base_url(config.api_url) if engine != "litellm" else ((config.api_url or "").strip(), "chat")
    if not url and not config.completions and not config.connection and engine != "litellm":
        raise InvalidInput(
            "api_url: missing; give the endpoint's base URL with --api-url, e.g. http://127.0.0.1:8000/v1, or have the "
            "model run here with --engine transformers, or try --demo for a simulated model.",
            {"field": "api_url"},
        )
    if not config.model and not config.completions and not config.demo:
        raise InvalidInput(
            "model: missing; give the name the endpoint knows the model by with --model.", {"field": "model"}
        )
    default = ModelSpec(name="")
    timeout_s = transport.get("timeout") or config.timeout or default.try_timeout_s
    concurrency = transport.get("batch_size") or config.eval_batch_size or default.concurrency
    headers = _headers(config, transport)
    stream = config.stream if config.stream is not None else transport.get("stream", False)
    return ModelSpec(
        name=config.model or (DEMO_MODEL if config.demo else "recorded"),
        engine=engine,
        display_name=config.model_id or "",
        url="" if config.completions else url,
        key_ref="" if config.completions or config.demo else key_reference(config, headers.bearer),
        kind=config.request_kind or kind,  # type: ignore[arg-type]  # both are checked
        stream=bool(stream),
        concurrency=concurrency,
        max_tries=transport.get("retries", default.max_tries - 1) + 1,
        try_timeout_s=float(timeout_s),
        total_timeout_s=max(default.total_timeout_s, 2.0 * float(timeout_s)),
        headers=headers.shown,
        args=config.model_args,
        connection=config.connection,
        ca_file=ca_file_of(config.ca_file, config.server),
        verify_tls=not config.insecure,
        outage_timeout_s=config.outage_timeout or default.outage_timeout_s,
    )


def _own_model(config: TaskConfig, transport: Mapping[str, Any], engine: Engine) -> ModelSpec:
    check_runs_here({name: getattr(config, name) for name in config.model_fields_set}, engine)
    if not config.model:
        raise InvalidInput(
            f"model: missing; name the folder of the model that {engine} runs, or its name on a hub, with --model.",
            {"field": "model"},
        )
    default = ModelSpec(name="")
    timeout_s = float(transport.get("timeout") or config.timeout or default.try_timeout_s)
    return ModelSpec(
        name=model_name(config.model, config.server),
        engine=engine,
        display_name=config.model_id or "",
        kind=config.request_kind or kind_for(config.model, config.model_args, config.server),
        concurrency=transport.get("batch_size") or config.eval_batch_size or IN_FLIGHT,
        try_timeout_s=timeout_s,
        total_timeout_s=max(default.total_timeout_s, 2.0 * timeout_s),
        args=engine_args(config.model_args, config.server),
        outage_timeout_s=config.outage_timeout or default.outage_timeout_s,
    )


def base_url(text: str | None) -> tuple[str, str]:
    """EvalScope users also give the full address of the call; the base and the kind are in it.

    The address stays whole where the base alone would say less: for the responses and messages APIs, and where the base
    has no path.
    """
    given = (text or "").strip()
    if not given:
        return "", "chat"
    try:
        parts, address = urlsplit(given), read_address(given)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        usable = False
    # What may carry a key is not repeated.
    shown = public_url(given) if "@" in given or "?" in given else given
    if not usable:
        raise wrong("api_url", shown, "give an http address, e.g. http://127.0.0.1:8000/v1.")
    if address.call in {"embeddings", "rerank", "images"}:
        raise wrong("api_url", shown, f"it names {address.call}, and evaluations ask for text.")
    whole = address.call in {"responses", "messages"} or not urlsplit(address.base).path
    return given if whole else address.base, "completion" if address.call == "completions" else "chat"


def key_reference(config: TaskConfig, bearer: str = "") -> str:
    """What the spec says about the key: `env:NAME`, `secret:name/key`, or nothing."""
    key = _key(config) or bearer
    # A connection has its key; the one that is sent where nothing is said belongs elsewhere.
    return "" if config.connection and not key else reference_to(key, config.server, config.api_url or "")


def _key(config: TaskConfig) -> str:
    return config.api_key.get_secret_value().strip() if config.api_key is not None else ""


def _headers(config: TaskConfig, transport: Mapping[str, Any] | None = None) -> Headers:
    given = (_generation(config)["model"] if transport is None else transport).get("extra_headers", {})
    return split_headers({**given, **config.headers}, config.server)


def declared(config: TaskConfig) -> tuple[Connection, ...]:
    """What a platform of this command's own is told about the config's keys: they go to its address."""
    if config.server or config.completions or config.demo or config.connection or runs_here(dict(config)):
        return ()
    headers = _headers(config)
    url = base_url(config.api_url)[0]
    if not url and engine_of(dict(config)) == "litellm":
        url = provider_url(config.model or "")
    return own_connection(url, key_reference(config, headers.bearer), headers.shown)


def literal_keys(config: TaskConfig) -> dict[str, str]:
    """Keys that were typed, by the variable that references name."""
    if config.server or runs_here(dict(config)):
        return {}
    headers = _headers(config)
    return {**headers.keys, **literal_key(_key(config) or headers.bearer)}


def _generation(config: TaskConfig) -> dict[str, Any]:
    field = "generation_config"
    given = sift(config.generation_config, _GENERATION_KEYS, GENERATION_ADVICE, field)
    given = {**given, **{name: value for name in _OWN_FLAGS if (value := getattr(config, name)) is not None}}
    unset = [key for key, value in given.items() if value is None and key in _SAMPLING]
    given = {key: value for key, value in given.items() if value is not None}
    sampling: dict[str, Any] = {
        key: typed(given[key], kind, f"{field}.{key}") for key, kind in _SAMPLING.items() if key in given
    }
    stop = given.get("stop_seqs", given.get("stop", ()))
    stops = (stop,) if isinstance(stop, str) else stop
    if not isinstance(stops, (list, tuple)) or not all(isinstance(item, str) for item in stops):
        raise wrong(f"{field}.stop_seqs", stop, "give text or a list of texts.")
    sampling["stop"] = tuple(stops)
    # Null removes a key: of the benchmark's own options, which say nothing of it then, and of the body.
    extra = dict.fromkeys(map(_BODY_NAMES.get, unset, unset)) | typed(
        given.get("extra_body", {}), dict, f"{field}.extra_body"
    )
    for name in _LIMITS & given.keys():
        extra[name] = typed(given[name], int, f"{field}.{name}")
    sampling["extra_body"] = extra
    kinds = {"timeout": float, "retries": int, "stream": bool, "batch_size": int}
    model = {key: typed(given[key], kind, f"{field}.{key}") for key, kind in kinds.items() if key in given}
    if model.get("retries", 0) < 0:
        raise wrong(f"{field}.retries", model["retries"], "give 0 or more.")
    headers = typed(given.get("extra_headers", {}), dict, f"{field}.extra_headers")
    model["extra_headers"] = {str(name): str(value) for name, value in headers.items()}
    result: dict[str, Any] = {"sampling": sampling, "model": model}
    if "n" in given:
        result["repeats"] = typed(given["n"], int, f"{field}.n")
    return result
