"""What a run spec must fulfil, whoever made it. A spec is refused whole, with the first thing that is wrong.

The checks of load tests (`wire.load_tests.checks`) use the same parts.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from urllib.parse import parse_qsl, urlsplit

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.layout import is_safe_name
from evalmesh.domain.limit import check_limit
from evalmesh.domain.request import GenerationConfig
from evalmesh.domain.row_form import RowForm
from evalmesh.domain.run import MOST_SHARD_REQUESTS, OWN_ENGINES, BenchmarkSpec, ModelSpec, RunSpec
from evalmesh.domain.stage import MODEL
from evalmesh.wire.text_encoding import known_encoding
from evalmesh.wire.values import check_text_encodes, struct_to_proto

_INT32 = 2**31 - 1
_MOST_LOGPROBS = 20
"""What the OpenAI API allows."""
_INT64 = 2**63 - 1
KEY_REF = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|secret:[a-z0-9][a-z0-9.-]*/[A-Za-z0-9._-]+")
_HELD_ELSEWHERE = re.compile(rf"{KEY_REF.pattern}|\*\*\*|EMPTY|")
"""What may stand where a key would: a reference to it, or that it is left out."""
MOST_CLIENT_CONFIG_BYTES = 64 << 10
DIGEST = re.compile(r"[0-9a-f]{64}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_KEY_HEADERS = {"authorization", "proxy-authorization", "api-key", "x-api-key", "cookie"}
_KEY_ARGS = {"api_key", "apikey", "api-key", "authorization", "token", "access_token", "password"}
_KEY_PARAMETERS = {"key", "sig", "signature", "code", "auth", "authorization", "pwd", "pass", "sas", "jwt", "bearer"}
_KEY_ENDINGS = ("apikey", "accesskey", "subscriptionkey", "token", "secret", "password", "signature", "credential")
_MAX_TEXT = 512
MOST_SPEC_BYTES = 1 << 20
"""A spec is part of records and lists; what is larger belongs into a file."""
_MOST_TEMPLATE_CHARS = 256 << 10
_MOST_BENCHMARKS = 1000
_MOST_SUBSETS = 10_000
_MOST_IN_FLIGHT = 65_536
_MOST_TRIES = 1000
_MOST_REUSED = 64
_MOST_STOPS = 64
_MAX_HEADER_CHARS = 8000
"""Servers take 8 KiB a line."""


_SERVER = "http://127.0.0.1:8000/v1"
_EXAMPLES = {"openai": _SERVER, "anthropic": "https://api.anthropic.com", "litellm": _SERVER}
"""Addresses of the engines that have one."""


def bad(field: str, value: object, way_out: str) -> InvalidInput:
    """The error every check raises."""
    shown = repr(value[:120] if isinstance(value, (str, bytes)) else value)
    shown = shown if len(shown) <= 120 else f"{shown[:117]}..."
    return InvalidInput(f"{field}: {shown} is not allowed; {way_out}", {"field": field})


def check_spec(spec: RunSpec) -> None:
    """Raises `InvalidInput`; `details["field"]` is the path in the spec of the public API."""
    check_model(spec.model)
    _check_benchmarks(spec.benchmarks)
    check_generation(spec.generation)
    check_limit(spec.limit, "limit")
    _check_shards(spec)
    if not -_INT64 <= spec.seed <= _INT64:
        raise bad("seed", spec.seed, "use a number that fits into 64 bits.")
    _check_reuse(spec)
    if spec.completions_digest and not DIGEST.fullmatch(spec.completions_digest):
        raise bad("completions_digest", spec.completions_digest, "use the digest ImportCompletions returned.")
    if bool(spec.completions_digest) != (spec.model.engine == "recorded"):
        raise bad(
            "completions_digest",
            spec.completions_digest,
            "imported completions and the engine `recorded` go together: set both or neither.",
        )
    check_text("dataset_dir", spec.dataset_dir, 4096)
    check_text("display_name", spec.display_name)
    check_labels(spec.labels)
    check_client_config(spec.client_config)
    for role, model in spec.roles.items():
        _check_role(role, model)


def _check_reuse(spec: RunSpec) -> None:
    if len(spec.reuse_runs) > _MOST_REUSED:
        raise bad("reuse_runs", len(spec.reuse_runs), f"name at most {_MOST_REUSED} runs.")
    for i, run in enumerate(spec.reuse_runs):
        if not is_safe_name(run):
            raise bad(f"reuse_runs[{i}]", run, "name a run by its id, as `evalmesh runs list` shows it.")
    if len(spec.reuse_completions) > _MOST_REUSED:
        raise bad("reuse_completions", len(spec.reuse_completions), f"name at most {_MOST_REUSED} files.")
    for i, digest in enumerate(spec.reuse_completions):
        if not DIGEST.fullmatch(digest):
            raise bad(f"reuse_completions[{i}]", digest, "use the digest ImportCompletions returned.")


def _check_role(role: str, model: ModelSpec) -> None:
    if not is_safe_name(role) or "." in role or role == MODEL:
        raise bad("roles", role, "name a role as the benchmark's stages do; the model under test is `model` itself.")
    try:
        check_model(model)
    except InvalidInput as error:
        raise InvalidInput(f"roles.{role}: {error.message}", {"field": f"roles.{role}"}) from error


def _check_shards(spec: RunSpec) -> None:
    """A shard's requests are in memory at once, and its results in one object."""
    check_int("repeats", spec.repeats, 1, "ask for at least 1 generation per sample.")
    check_int("stop_after_failures", spec.stop_after_failures, 0, "use a count of requests, or 0 to never stop.")
    check_int("shard_size", spec.shard_size, 0, "use at least 1 sample per shard, or 0 to leave it to the planner.")
    if spec.repeats > MOST_SHARD_REQUESTS:
        way_out = (
            f"ask for at most {MOST_SHARD_REQUESTS} generations per sample; more runs, each with a seed, give more."
        )
        raise bad("repeats", spec.repeats, way_out)
    if spec.repeats * spec.shard_size > MOST_SHARD_REQUESTS:
        way_out = (
            f"with {spec.repeats} repeats a shard would have {spec.repeats * spec.shard_size} requests, and at most "
            f"{MOST_SHARD_REQUESTS} fit: use {MOST_SHARD_REQUESTS // spec.repeats} or less, or leave it out."
        )
        raise bad("shard_size", spec.shard_size, way_out)


def check_model(model: ModelSpec) -> None:
    """The `model` part of `check_spec`."""
    if not model.name.strip():
        raise bad("model.model", model.name, "name the model as its endpoint knows it (--model).")
    check_text("model.model", model.name)
    check_text("model.display_name", model.display_name)
    check_key_ref("model.key_ref", model.key_ref, "model runner")
    check_text("model.connection", model.connection, 256)
    if model.engine in OWN_ENGINES:
        _check_runs_here(model)
    if model.engine in _EXAMPLES and (model.url or not (model.connection or model.engine == "litellm")):
        check_url("model.url", model.url, f"use the base URL, e.g. `{_EXAMPLES[model.engine]}` (--api-url).")
    check_int("model.concurrency", model.concurrency, 1, f"allow 1 to {_MOST_IN_FLIGHT} requests.", _MOST_IN_FLIGHT)
    check_int("model.max_tries", model.max_tries, 1, f"allow 1 to {_MOST_TRIES} tries.", _MOST_TRIES)
    for field in ("try_timeout", "total_timeout", "outage_timeout"):
        timeout_s = getattr(model, f"{field}_s")
        if not (math.isfinite(timeout_s) and 0 < timeout_s <= 1e9):
            raise bad(f"model.{field}", timeout_s, "use a number of seconds above 0.")
    check_headers("model.headers", model.headers)
    check_free("model.args", model.args)
    check_text("model.ca_file", model.ca_file, 4096)


def _check_runs_here(model: ModelSpec) -> None:
    """An engine of our own asks no address, and generates."""
    if model.kind not in {"chat", "completion"}:
        raise bad("model.request_kind", model.kind, f"the engine {model.engine} has chat and completion.")
    for field, value in (
        ("model.url", model.url),
        ("model.connection", model.connection),
        ("model.key_ref", model.key_ref),
        ("model.headers", dict(model.headers)),
        ("model.ca_file", model.ca_file),
    ):
        if value:
            raise bad(
                field, value, f"the engine {model.engine} runs the model itself and asks no server; leave it out."
            )
    if model.weights and not DIGEST.fullmatch(model.weights):
        raise bad("model.weights", model.weights, "leave it out: it is filled in when the run is accepted.")


def check_key_ref(field: str, ref: str, holder: str) -> None:
    """A reference to a key, never the key; `holder` is the service whose environment has it."""
    if ref and not KEY_REF.fullmatch(ref):
        # The value may be a key, so it is not repeated.
        raise InvalidInput(
            f"{field}: this is no reference to a key (its text is withheld, in case it is one); put the key into "
            f"an environment variable of the {holder} and write `env:NAME`, or `secret:name/key` in a cluster.",
            {"field": field},
        )


def check_url(field: str, url: str, way_out: str) -> None:
    """An address that HTTP can reach, without credentials."""
    check_text(field, url, 4096)
    parts = urlsplit("")
    try:
        parts = urlsplit(url)
        has_credentials = parts.username is not None or parts.password is not None
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError as error:
        has_credentials, usable = False, False
        way_out = "a port is a number up to 65535." if "port" in str(error).lower() else way_out
    if named := sorted(name for name, _ in parse_qsl(parts.query, keep_blank_values=True) if is_key_name(name)):
        raise InvalidInput(
            f"{field}: the query of the URL holds {', '.join(named)[:100]} (its text is withheld), which a spec "
            "must not; use key_ref `env:NAME`, or a header whose value is `env:NAME`.",
            {"field": field},
        )
    if has_credentials:
        raise InvalidInput(
            f"{field}: the URL holds a user or password (withheld), which a spec must not; use key_ref `env:NAME`.",
            {"field": field},
        )
    if not usable or _CONTROL.search(url) or " " in url:
        raise bad(field, url, way_out)


def is_key_name(name: str) -> bool:
    """Whether a parameter of a URL carries a key, by its name: API keys, tokens, and signatures that stand for one."""
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    return plain in _KEY_PARAMETERS or plain.endswith(_KEY_ENDINGS)


def check_headers(field: str, headers: Mapping[str, str], *, key_ref_only: frozenset[str] = frozenset()) -> None:
    """Single lines without credentials; a header in `key_ref_only` may not even name a key."""
    if len(headers) > 64:
        raise bad(field, len(headers), "send at most 64 headers.")
    for name, value in headers.items():
        check_text_encodes(name, field)
        if len(value) > _MAX_HEADER_CHARS:  # not shown: it may hold a key
            raise bad(field, name, f"a header's value has at most {_MAX_HEADER_CHARS} characters.")
        check_text_encodes(value, field)
        lower = name.lower()
        if lower in key_ref_only or (lower in _KEY_HEADERS and not KEY_REF.fullmatch(value)):
            here = "" if lower in key_ref_only else "`env:NAME` here, or "
            raise InvalidInput(
                f"{field}: {name!r} carries a credential, which a spec must not hold; put the key into an "
                f"environment variable and name it: {here}as key_ref `env:NAME` (--api-key env:NAME).",
                {"field": field},
            )
        if not 0 < len(name) <= 256 or _CONTROL.search(name + value) or ":" in name:
            raise bad(field, name, "header names and values are single lines, names without `:`, up to 256 characters.")


def check_free(field: str, values: Mapping[str, object]) -> None:
    """A mapping of free form: small enough, JSON, and without what looks like a key."""
    struct_to_proto(values, field)
    check_no_keys(field, values)


def check_no_keys(field: str, names: Iterable[str]) -> None:
    """Free mappings must not carry what looks like a key."""
    for name in names:
        if name.lower() in _KEY_ARGS:
            raise InvalidInput(
                f"{field}: {name!r} looks like a key, which a spec must not hold; use key_ref `env:NAME` "
                f"(--api-key env:NAME).",
                {"field": field},
            )


def _check_benchmarks(specs: Iterable[BenchmarkSpec]) -> None:
    seen: set[str] = set()
    for i, spec in enumerate(specs):
        if i == _MOST_BENCHMARKS:
            raise bad("benchmarks", f"more than {i}", f"name at most {_MOST_BENCHMARKS} in one run.")
        field = f"benchmarks[{i}]"
        if not is_safe_name(spec.name) or "." in spec.name:
            raise bad(f"{field}.benchmark", spec.name, "see `evalmesh benchmarks list` for the names there are.")
        if spec.name in seen:
            way_out = "name each benchmark once, or give each a name of its own, as in `exam=general_mcq`."
            raise bad(f"{field}.benchmark", spec.name, way_out)
        seen.add(spec.name)
        if spec.benchmark and (not is_safe_name(spec.benchmark) or "." in spec.benchmark):
            raise bad(f"{field}.benchmark", spec.benchmark, "see `evalmesh benchmarks list` for the names there are.")
        _check_benchmark(spec, field)
    if not seen:
        raise bad("benchmarks", [], "name at least one benchmark (--datasets); `evalmesh benchmarks list` shows all.")


def _check_benchmark(spec: BenchmarkSpec, field: str) -> None:
    check_limit(spec.limit, f"{field}.limit")
    if spec.few_shot_num is not None:
        check_int(f"{field}.few_shot_num", spec.few_shot_num, 0, "use 0 or more examples.")
    subsets = spec.subsets or ()
    if len(subsets) > _MOST_SUBSETS:
        raise bad(f"{field}.subsets", len(subsets), f"name at most {_MOST_SUBSETS}, or none for all.")
    for subset in subsets:
        check_text(f"{field}.subsets", subset, 200)
        if not subset:
            raise bad(f"{field}.subsets", subset, "a subset is named by a short single line.")
    if len(set(subsets)) != len(subsets):
        raise bad(f"{field}.subsets", list(subsets), "name each subset once.")
    for name in ("local_path", "dataset_id", "revision", "split", "few_shot_split"):
        value = getattr(spec, name)
        if value is not None:
            check_text(f"{field}.{name}", value, 4096)
    for name in ("prompt_template", "system_prompt", "remove_until"):
        value = getattr(spec, name)
        if value is not None:
            check_lines(f"{field}.{name}", value, _MOST_TEMPLATE_CHARS)
    check_free(f"{field}.extra", spec.extra)
    check_form(f"{field}.", spec.form)


def check_form(field: str, form: RowForm) -> None:
    """What the user says of a file; `field` is what stands before `columns`, `encoding` and `delimiter`."""
    for name, given in form.columns.items():
        check_text(f"{field}columns", name, 256)
        check_text(f"{field}columns.{name}", given, 1024)
        if not name or not given:
            raise bad(f"{field}columns", dict(form.columns), "give the column's name here, and its name in the file.")
    if len(set(form.columns.values())) < len(form.columns):
        raise bad(f"{field}columns", dict(form.columns), "one column of the file can stand for one thing only.")
    if form.encoding:
        check_text(f"{field}encoding", form.encoding, 64)
        try:
            known_encoding(form.encoding)
        except ValueError as error:
            raise InvalidInput(f"{field}encoding: {error}", {"field": f"{field}encoding"}) from None
    if form.delimiter and (len(form.delimiter) > 1 or form.delimiter in '\r\n"'):
        raise bad(f"{field}delimiter", form.delimiter, "give the one character that stands between fields.")


def check_generation(config: GenerationConfig) -> None:
    """The `generation` part of `check_spec`."""
    if config.max_tokens is not None:
        check_int("generation.max_tokens", config.max_tokens, 1, "allow at least 1 token.")
    if config.top_k is not None:
        check_int("generation.top_k", config.top_k, -1, "use a count, or -1 to switch it off.")
    if config.top_logprobs is not None and not 0 <= config.top_logprobs <= _MOST_LOGPROBS:
        raise bad("generation.top_logprobs", config.top_logprobs, f"use a count from 0 to {_MOST_LOGPROBS}.")
    if config.seed is not None and not -_INT64 <= config.seed <= _INT64:
        raise bad("generation.seed", config.seed, "use a number that fits into 64 bits.")
    ranges = (
        ("temperature", 0.0, math.inf, "use 0 or more; 0 takes the likeliest token."),
        ("top_p", 0.0, 1.0, "use a part of the probability between 0 and 1."),
        ("frequency_penalty", -math.inf, math.inf, "use a finite number, usually between -2 and 2."),
        ("presence_penalty", -math.inf, math.inf, "use a finite number, usually between -2 and 2."),
        ("repetition_penalty", 0.0, math.inf, "use a finite number of 0 or more; 1 changes nothing."),
    )
    for name, low, high, way_out in ranges:
        value = getattr(config, name)
        if value is not None and not (math.isfinite(value) and low <= value <= high):
            raise bad(f"generation.{name}", value, way_out)
    if len(config.stop) > _MOST_STOPS:
        raise bad("generation.stop", len(config.stop), f"give at most {_MOST_STOPS} texts.")
    for stop in config.stop:
        check_lines("generation.stop", stop, 1024)
    if config.reasoning_effort is not None:
        check_text("generation.reasoning_effort", config.reasoning_effort, 64)
    check_free("generation.extra_body", config.extra_body)


def check_client_config(text: str) -> None:
    """A JSON object of bounded size, whose entries with the names of keys are references to them at most."""
    field = {"field": "client_config"}
    if len(text.encode()) > MOST_CLIENT_CONFIG_BYTES:
        raise InvalidInput(
            f"client_config: it has more than {MOST_CLIENT_CONFIG_BYTES >> 10} KiB; leave it out.", field
        )
    try:
        value = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InvalidInput("client_config: it is no JSON object; leave it out, or send the config as one.", field)
    left: list[object] = [value]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            for name, held in one.items():
                is_key = str(name).lower() in _KEY_ARGS | _KEY_HEADERS and isinstance(held, str)
                if is_key and not _HELD_ELSEWHERE.fullmatch(held):
                    raise InvalidInput(
                        f"client_config: {name!r} holds a key (withheld), which no spec may; write `env:NAME`.",
                        field,
                    )
        left += one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()


def check_int(field: str, value: int, low: int, way_out: str, high: int = _INT32) -> None:
    """A whole number of at least `low` that fits into 32 bits."""
    if isinstance(value, bool) or not low <= value <= high:
        raise bad(field, value, way_out)


def check_text(field: str, value: str, max_chars: int = _MAX_TEXT) -> None:
    """A single line."""
    if len(value) > max_chars or _CONTROL.search(value):
        raise bad(field, value, f"use a single line of at most {max_chars} characters.")
    check_text_encodes(value, field)


def check_lines(field: str, value: str, max_chars: int) -> None:
    """Text of any number of lines."""
    if len(value) > max_chars:
        raise bad(field, value, f"use at most {max_chars} characters.")
    check_text_encodes(value, field)


def check_labels(labels: Mapping[str, str]) -> None:
    """Free labels of a run or load test."""
    if len(labels) > 64:
        raise bad("labels", len(labels), "use at most 64 labels.")
    for key, value in labels.items():
        if not key:
            raise bad("labels", key, "give each label a name.")
        check_text(f"labels[{key[:100]!r}]", key, 256)
        check_text(f"labels[{key[:100]!r}]", value, 256)
