"""What the spec of a load test must fulfil, whoever made it: refused whole, with the first thing that is wrong.

Only what the spec alone can tell. Whether data set, tokenizer and endpoint work, the load generator says.
"""

import math
from collections.abc import Sequence
from typing import get_args

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.free_values import parse_json
from evalmesh.domain.layout import is_safe_name
from evalmesh.domain.load_test import (
    Arrival,
    ArrivalSpec,
    ImageMode,
    LengthKind,
    Lengths,
    LoadLevel,
    LoadTarget,
    LoadTestSpec,
    PromptSpec,
    SearchSpec,
    SearchVariable,
    SloTerm,
    Stage,
    Transport,
)
from evalmesh.load.objective.slo import flaw_of
from evalmesh.wire.runs.checks import (
    DIGEST,
    bad,
    check_client_config,
    check_free,
    check_headers,
    check_int,
    check_key_ref,
    check_labels,
    check_text,
    check_url,
)
from evalmesh.wire.values import check_text_encodes

_INT64 = 2**63 - 1
_AUTHORIZATION = frozenset({"authorization"})
_MAX_TEXT_CHARS = 256 << 10
_MAX_LEVELS = 1000
_MAX_GENERATORS = 1000
_MAX_STAGES = 1000
_MAX_TERMS = 100
_MAX_PIXELS = 1 << 28
"""Of the images of one request: each is made in memory."""
_MAX_TOKENS = 1 << 24
_MAX_PARALLEL = 1_000_000
_MAX_RATE = 1e6
_MAX_SECONDS = 30 * 86_400.0


def check_load_spec(spec: LoadTestSpec) -> None:
    """Raises `InvalidInput`; `details["field"]` is the path in the spec of the public API."""
    _check_target(spec.target)
    _check_prompts(spec.prompts)
    _check_arrival(spec.arrival, spec.prompts)
    _check_levels(spec)
    _check_between_levels(spec)
    if len(spec.slo) > _MAX_TERMS:
        raise bad("slo", len(spec.slo), f"give at most {_MAX_TERMS} terms.")
    for i, term in enumerate(spec.slo):
        _check_slo(term, f"slo[{i}]")
    if spec.search is not None:
        _check_search(spec.search, spec)
    _check_generators(spec)
    if not -_INT64 <= spec.seed <= _INT64:
        raise bad("seed", spec.seed, "use a number that fits into 64 bits.")
    if len(spec.server_metrics) > 64:
        raise bad("server_metrics", len(spec.server_metrics), "scrape at most 64 addresses.")
    for i, url in enumerate(spec.server_metrics):
        if url not in {"auto", "nvml"}:
            way_out = "use `auto`, `nvml`, or an address like `http://127.0.0.1:8000/metrics`."
            check_url(f"server_metrics[{i}]", url, way_out)
    check_text("display_name", spec.display_name)
    check_labels(spec.labels)
    check_client_config(spec.client_config)


def _check_target(target: LoadTarget) -> None:
    way_out = "use the full address that is asked, e.g. `http://127.0.0.1:8000/v1/chat/completions` (--url)."
    check_url("target.url", target.url, way_out)
    if not target.model.strip():
        raise bad("target.model", target.model, "name the model as its endpoint knows it (--model).")
    check_text("target.model", target.model)
    _check_name(
        "target.api", target.api, "use `chat`, `completions`, `responses`, `embeddings`, `rerank` or a plug-in."
    )
    check_key_ref("target.key_ref", target.key_ref, "load generator")
    check_headers("target.headers", target.headers, key_ref_only=_AUTHORIZATION)
    for name in ("connect_timeout", "read_timeout", "total_timeout"):
        _check_number(f"target.{name}", getattr(target, f"{name}_s"), above=0.0, up_to=1e9, what="seconds")
    _check_choice("target.transport", target.transport, get_args(Transport))
    check_text("target.ca_file", target.ca_file, 4096)
    check_text("target.connection", target.connection, 256)


def _check_prompts(prompts: PromptSpec) -> None:
    _check_name("prompts.dataset", prompts.dataset, "use a kind that ListLoadDatasets names, e.g. `random`.")
    for name in ("file_digest", "tokenizer_digest"):
        digest = getattr(prompts, name)
        if digest and not DIGEST.fullmatch(digest):
            raise bad(f"prompts.{name}", digest, "use the digest ImportLoadFile returned.")
    check_text("prompts.file_name", prompts.file_name, 255)
    if len(prompts.prompt) > _MAX_TEXT_CHARS:
        raise bad("prompts.prompt", prompts.prompt, "above 256 Ki characters, upload a file: dataset `line_by_line`.")
    check_text_encodes(prompts.prompt, "prompts.prompt")
    _check_template(prompts.template)
    _check_sizes(prompts)
    for name in ("input_tokens", "output_tokens"):
        lengths = getattr(prompts, name)
        if lengths is not None:
            _check_lengths(f"prompts.{name}", lengths)
    for name in ("body", "args"):
        check_free(f"prompts.{name}", getattr(prompts, name))


def _check_template(template: str) -> None:
    if not template:
        return
    way_out = (
        'write a JSON object with {prompt} in it, e.g. {"model": "{model}", "prompt": "{prompt}"} (--query-template).'
    )
    if len(template) > _MAX_TEXT_CHARS or "{prompt}" not in template:
        raise bad("prompts.template", template, way_out)
    try:
        body = parse_json(template)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise bad("prompts.template", template, way_out)


def _check_sizes(prompts: PromptSpec) -> None:
    check_int("prompts.prefix_tokens", prompts.prefix_tokens, 0, "use 0 for none.")
    check_int("prompts.prefix_count", prompts.prefix_count, 1, "use at least 1 prefix.")
    check_int("prompts.offset", prompts.offset, 0, "use 0 to start at the first row.")
    check_int("prompts.document_count", prompts.documents, 0, "use 0 for the data set's own.")
    inputs = prompts.input_tokens
    if inputs is not None and inputs.kind != "trace" and prompts.prefix_tokens > inputs.high:
        way_out = f"the prefix is part of input_tokens, which are at most {inputs.high}."
        raise bad("prompts.prefix_tokens", prompts.prefix_tokens, way_out)
    if prompts.min_tokens is not None:
        check_int("prompts.min_tokens", prompts.min_tokens, 0, "use 0 or more tokens, or leave it out.")
        outputs = prompts.output_tokens
        if outputs is not None and outputs.kind != "trace" and prompts.min_tokens > outputs.low:
            way_out = f"no answer can be longer than output_tokens, which start at {outputs.low}."
            raise bad("prompts.min_tokens", prompts.min_tokens, way_out)
    images, turns = prompts.images, prompts.turns
    if images is not None:
        check_int("prompts.images.count", images.count, 1, "send at least 1 image, or leave images out.")
        for name in ("width", "height"):
            size = getattr(images, name)
            if not 1 <= size <= 16_384:
                raise bad(f"prompts.images.{name}", size, "use 1 to 16384 pixels.")
        pixels = images.count * images.width * images.height
        if pixels > _MAX_PIXELS:
            raise bad("prompts.images", f"{pixels} pixels", f"use at most {_MAX_PIXELS} in a request.")
        _check_choice("prompts.images.mode", images.mode, get_args(ImageMode))
    if turns is not None:
        _check_bounds("prompts.turns", turns.low, turns.high)
        _check_number("prompts.turns.think_mean", turns.think_mean_s, up_to=_MAX_SECONDS, what="seconds")


def _check_lengths(field: str, lengths: Lengths) -> None:
    _check_choice(f"{field}.kind", lengths.kind, get_args(LengthKind))
    _check_bounds(field, lengths.low, lengths.high)
    if lengths.kind == "fixed" and lengths.low != lengths.high:
        raise bad(f"{field}.high", lengths.high, f"a fixed length has one value: {lengths.low}; or use `uniform`.")
    if lengths.kind in {"normal", "lognormal"}:
        _check_number(f"{field}.spread", lengths.spread, up_to=1e9, what="0 or more")
        if not lengths.low <= lengths.mean <= lengths.high:
            way_out = f"it must lie between low and high ({lengths.low} to {lengths.high})."
            raise bad(f"{field}.mean", lengths.mean, way_out)


def _check_arrival(arrival: ArrivalSpec, prompts: PromptSpec) -> None:
    _check_choice("arrival.kind", arrival.kind, get_args(Arrival))
    _check_number("arrival.burstiness", arrival.burstiness, above=0.0, up_to=1e6, what="the shape, 1 is Poisson")
    _check_number("arrival.speed", arrival.speed, above=0.0, up_to=1e6, what="2 replays twice as fast")
    if arrival.kind != "trace":
        return
    if not prompts.file_digest:
        raise bad("prompts.file_digest", "", "a trace is a file: upload it and name its digest (--dataset-path).")
    if prompts.turns is not None:
        way_out = "the times of a trace are those of single requests; leave out turns, or use another arrival."
        raise bad("prompts.turns", f"{prompts.turns.low} to {prompts.turns.high}", way_out)


def _check_levels(spec: LoadTestSpec) -> None:
    levels = spec.levels
    if not 1 <= len(levels) <= _MAX_LEVELS:
        raise bad("levels", len(levels), f"give 1 to {_MAX_LEVELS} levels of load.")
    if spec.search is not None and len(levels) > 1:
        raise bad("levels", len(levels), "a search makes its own levels; give one, the template of them.")
    for i, level in enumerate(levels):
        field = f"levels[{i}]"
        _check_amounts(level, field)
        if len(level.stages) > _MAX_STAGES:
            raise bad(f"{field}.stages", len(level.stages), f"give at most {_MAX_STAGES}.")
        for j, stage in enumerate(level.stages):
            _check_stage(stage, f"{field}.stages[{j}]")
        if spec.search is None:
            _check_load(level, spec.arrival, field)
            _check_end(level, spec.arrival, field)


def _check_amounts(level: LoadLevel, field: str) -> None:
    if not 0 <= level.parallel <= _MAX_PARALLEL:
        raise bad(f"{field}.parallel", level.parallel, f"use 1 to {_MAX_PARALLEL} requests in flight; 0: no cap.")
    _check_number(f"{field}.rate", level.rate, up_to=_MAX_RATE, what="arrivals per second")
    check_int(
        f"{field}.number",
        level.number,
        0,
        f"use a count of requests, at most {2**31 - 1}; 0: as many as the duration allows.",
    )
    _check_number(f"{field}.duration", level.duration_s, up_to=_MAX_SECONDS, what="seconds")


def _check_stage(stage: Stage, field: str) -> None:
    _check_number(f"{field}.duration", stage.duration_s, above=0.0, up_to=_MAX_SECONDS, what="seconds")
    _check_number(f"{field}.start_load", stage.start, up_to=_MAX_RATE, what="requests per second or in flight")
    _check_number(f"{field}.end_load", stage.end, up_to=_MAX_RATE, what="requests per second or in flight")


def _check_load(level: LoadLevel, arrival: ArrivalSpec, field: str) -> None:
    """The load of a level and the way requests arrive must mean the same thing."""
    if level.rate and level.stages:
        raise bad(f"{field}.rate", level.rate, "stages say the load; leave out rate.")
    if level.stages and not any(stage.start or stage.end for stage in level.stages):
        raise bad(f"{field}.stages", "no load", "at least one stage needs a load above 0.")
    if arrival.kind in {"closed", "trace"} and level.rate:
        other = "`constant`, `poisson` or `gamma`"
        raise bad(
            f"{field}.rate",
            level.rate,
            f"arrival `{arrival.kind}` knows no rate; leave out one of them, or use {other}.",
        )
    if arrival.kind == "trace":
        if level.stages:
            raise bad(f"{field}.stages", len(level.stages), "the trace says the load; leave out the stages.")
        return
    if arrival.kind == "closed" and not (level.parallel or level.stages):
        raise bad(f"{field}.parallel", 0, "a closed loop keeps requests in flight: say how many (--parallel).")
    if arrival.kind != "closed" and not (level.rate or level.stages):
        raise bad(
            f"{field}.rate", 0, f"arrival `{arrival.kind}` needs rate, what is due per second (--rate), or stages."
        )


def _check_end(level: LoadLevel, arrival: ArrivalSpec, field: str) -> None:
    if not (level.number or level.duration_s or level.stages or arrival.kind == "trace"):
        raise bad(f"{field}.number", 0, "the level would never end: give a number of requests or a duration.")


def _check_between_levels(spec: LoadTestSpec) -> None:
    if not 1 <= spec.repeats <= 1000:
        raise bad("repeats", spec.repeats, "run each level 1 to 1000 times.")
    _check_number("pause", spec.pause_s, up_to=86_400.0, what="seconds")
    what = "a count of requests, or below 1 a share"
    _check_number("warmup", spec.warmup, up_to=float(2**31 - 1), what=what)
    if spec.warmup >= 1 and not float(spec.warmup).is_integer():
        raise bad("warmup", spec.warmup, "use a whole number of requests, or a share below 1.")
    if 0 < spec.warmup < 1 and not all(level.number for level in spec.levels):
        raise bad("warmup", spec.warmup, "a share needs a number of requests in each level; give a count.")


def _check_slo(term: SloTerm, field: str) -> None:
    flaw = flaw_of(term)
    if flaw is not None:
        name, way_out = flaw
        raise bad(f"{field}.{name}", getattr(term, name), f"{way_out}.")


def _check_search(search: SearchSpec, spec: LoadTestSpec) -> None:
    _check_choice("search.variable", search.variable, get_args(SearchVariable))
    if not spec.slo:
        raise bad("slo", [], "a search needs slo, the objective: the highest load that meets it is looked for (--slo).")
    opened = spec.arrival.kind in {"constant", "poisson", "gamma"}
    if search.variable == "rate" and not opened:
        way_out = "a search for the rate needs `constant`, `poisson` or `gamma`."
        raise bad("arrival.kind", spec.arrival.kind, way_out)
    if search.variable == "parallel" and spec.arrival.kind != "closed":
        raise bad("arrival.kind", spec.arrival.kind, "a search for requests in flight needs `closed`.")
    if spec.levels[0].stages:
        raise bad("levels[0].stages", len(spec.levels[0].stages), "a search holds each load; leave out the stages.")
    top = _MAX_RATE if search.variable == "rate" else float(_MAX_PARALLEL)
    _check_number("search.low", search.low, above=0.0, up_to=top, what="the load to start at")
    _check_number("search.high", search.high, up_to=top, what="the highest load to try; 0: no bound")
    if search.high and search.high < search.low:
        raise bad("search.high", search.high, f"it must be at least search.low, {search.low:g}; 0: no bound.")
    if search.variable == "parallel" and search.low < 1:
        raise bad("search.low", search.low, "start at 1 request in flight or more.")
    _check_number("search.resolution", search.resolution, above=0.0, up_to=1.0, what="a relative width like 0.05")
    _check_number("search.level_duration", search.level_s, above=0.0, up_to=_MAX_SECONDS, what="seconds")
    check_int("search.repeats", search.repeats, 1, "probe each load at least once.")
    _check_number("search.max_duration", search.max_s, above=0.0, up_to=_MAX_SECONDS, what="seconds")


def _check_generators(spec: LoadTestSpec) -> None:
    if not 1 <= spec.generators <= _MAX_GENERATORS:
        raise bad("generator_count", spec.generators, f"use 1 to {_MAX_GENERATORS} generators.")
    slots = [level.parallel for level in spec.levels if not level.stages]
    # A smaller level than the largest one leaves some of them idle; one that is idle always is a mistake.
    if spec.arrival.kind == "closed" and spec.search is None and slots and spec.generators > max(slots):
        raise InvalidInput(
            f"generator_count: {spec.generators} processes cannot share {max(slots)} requests in flight; use at most "
            f"{max(slots)}.",
            {"field": "generator_count"},
        )


def _check_name(field: str, name: str, way_out: str) -> None:
    if not is_safe_name(name):
        raise bad(field, name, way_out)


def _check_choice(field: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise bad(field, value, f"use one of {', '.join(f'`{choice}`' for choice in allowed)}.")


def _check_bounds(field: str, low: int, high: int) -> None:
    check_int(f"{field}.low", low, 1, f"use at least 1 and at most {_MAX_TOKENS}.", _MAX_TOKENS)
    check_int(f"{field}.high", high, 1, f"use at least 1 and at most {_MAX_TOKENS}.", _MAX_TOKENS)
    if low > high:
        raise bad(f"{field}.low", low, f"it must not be above {field}.high, {high}.")


def _check_number(field: str, value: float, *, above: float | None = None, up_to: float, what: str) -> None:
    enough = value > above if above is not None else value >= 0
    if not (math.isfinite(value) and enough and value <= up_to):
        least = "above 0" if above is not None else "0 or more"
        raise bad(field, value, f"use a number {least}, at most {up_to:g}: {what}.")
