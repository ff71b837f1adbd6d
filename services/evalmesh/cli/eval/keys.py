"""Which config keys there are, which EvalScope has and this build does not, and what to use instead."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from evalmesh.benchmarks.naming import suggestion
from evalmesh.domain.errors import EvalmeshError, FailedPrecondition, InvalidInput, Unimplemented
from evalmesh.domain.run import Engine

Advice = Mapping[str, tuple[tuple[Any, ...], str]]
"""Key to (values that ask for nothing and are let pass, what to do instead)."""

_TEMPLATE = "an endpoint applies the chat template itself; of a model that runs here it is model_args.chat_template."
_NO_JUDGE = "judges are not part of this build; benchmarks here are scored by rule."
_NO_AGENT = "agents and sandboxes are not part of this build."

TASK_ADVICE: Advice = {
    "model_task": (("text_generation",), "only text generation is part of this build."),
    "chat_template": ((None,), _TEMPLATE),
    "template_type": ((None,), _TEMPLATE),
    "eval_backend": (("Native", "native", None), "only the native backend is part of this build."),
    "eval_config": ((None,), "it belongs to other backends; only the native one is part of this build."),
    "stage": (("all",), "use use_cache with rerun_review to score again without generating."),
    "mem_cache": ((False, True), ""),
    "enable_progress_tracker": ((False,), "follow a run with `evalmesh runs watch`, or with the SDK."),
    "judge": ((None, {}), _NO_JUDGE),
    "judge_strategy": (("auto", "rule"), _NO_JUDGE),
    "judge_model_args": ((None, {}), _NO_JUDGE),
    "judge_worker_num": ((None, 1), _NO_JUDGE),
    "analysis_report": ((False,), _NO_JUDGE),
    "collect_perf": ((True,), "latencies and token counts are always kept; they cost nothing."),
    "agent_config": ((None, {}), _NO_AGENT),
    "sandbox": ((None, {}), _NO_AGENT),
    "use_sandbox": ((False,), _NO_AGENT),
    "sandbox_type": ((None, "docker"), _NO_AGENT),
    "sandbox_manager_config": ((None, {}), _NO_AGENT),
    "evalscope_version": ((), ""),
}
_PASS_ANY = frozenset({"evalscope_version"})

EVAL_TYPES: Mapping[str, Engine] = {
    "openai_api": "openai",
    "service": "openai",
    "llm_ckpt": "transformers",
    "checkpoint": "transformers",
}
"""EvalScope's names, new and old, for the engines."""
EVAL_TYPE_ADVICE = {
    "mock_llm": "use --demo, or `evalmesh simulate` and its URL as api_url.",
}

_USE_EXTRA_BODY = "put it into extra_body, which is merged into the request as it is."
GENERATION_ADVICE: Advice = {
    "max_new_tokens": ((None,), "use max_tokens."),
    "max_length": ((None,), "use max_tokens."),
    "do_sample": ((None,), "use temperature; 0 takes the likeliest token."),
    "num_beams": ((None, 1), "endpoints sample; use temperature."),
    "retry_interval": ((None,), "pauses between tries grow by themselves and follow Retry-After; use retries."),
    "logit_bias": ((None,), _USE_EXTRA_BODY),
    "logprobs": ((None, False), "use top_logprobs; 0 asks for those of the answer alone."),
    "parallel_tool_calls": ((None,), _USE_EXTRA_BODY),
    "response_schema": ((None,), "put `response_format` into extra_body."),
    "chat_template_kwargs": ((None,), _USE_EXTRA_BODY),
    "enable_thinking": ((None,), _USE_EXTRA_BODY),
    "reasoning_tokens": ((None,), _USE_EXTRA_BODY),
    "reasoning_summary": ((None,), _USE_EXTRA_BODY),
    "reasoning_history": ((None, "none"), "benchmarks of this build ask one question at a time."),
    "extra_query": ((None, {}), "put it into api_url: its query goes with every request."),
    "anthropic_cache_control": ((None,), "only OpenAI-compatible endpoints are part of this build."),
    "anthropic_cache_strategy": ((None,), "only OpenAI-compatible endpoints are part of this build."),
    "width": ((None,), "image generation is not part of this build."),
    "height": ((None,), "image generation is not part of this build."),
    "num_inference_steps": ((None,), "image generation is not part of this build."),
    "guidance_scale": ((None,), "image generation is not part of this build."),
}

_FIXED = "it is part of the benchmark's definition here, so that scores of one version can be compared."
DATASET_ADVICE: Advice = {
    "hf_dataset_id": ((None,), "use dataset_id, with dataset_hub huggingface."),
    "default_subset": ((None, "default"), "use subset_list."),
    "query_template": ((None,), "use prompt_template."),
    "few_shot_prompt_template": ((None,), "use prompt_template; examples are put before it."),
    "metric_list": ((None,), _FIXED),
    "aggregation": ((None,), _FIXED),
    "model_adapter": ((None,), _FIXED),
    "review_timeout": ((None,), "the scorer has a deadline per sample of its own."),
    "force_redownload": ((None, False), "data sets are pinned by their content; use dataset_revision."),
    "sandbox_config": ((None, {}), _NO_AGENT),
    "max_image_bytes": ((None,), "images are sent as the data set has them, up to 64 MiB each."),
}
FILTER_ADVICE: Advice = dict.fromkeys(
    ("regex", "regex_pos", "remove_whitespace", "extract", "take_first", "take_first_k", "majority_vote"),
    ((None,), "only remove_until is part of this build; how answers are found belongs to the benchmark."),
)


_KEYS_OF_SPEC: Mapping[str, str] = {
    # field of the spec -> key of the config
    "model.args": "model_args",
    "model.ca_file": "ca_file",
    "model.concurrency": "eval_batch_size",
    "model.connection": "connection",
    "model.display_name": "model_id",
    "model.engine": "engine",
    "model.headers": "headers",
    "model.key_ref": "api_key",
    "model.kind": "request_kind",
    "model.max_tries": "generation_config.retries",
    "model.model": "model",
    "model.outage_timeout": "outage_timeout",
    "model.total_timeout": "timeout",
    "model.try_timeout": "timeout",
    "model.url": "api_url",
    "generation": "generation_config",
    "generation.stop": "generation_config.stop_seqs",
    "benchmarks": "datasets",
    "benchmarks.benchmark": "datasets",
    "benchmarks.few_shot_split": "dataset_args.train_split",
    "benchmarks.split": "dataset_args.eval_split",
    "benchmarks.subsets": "dataset_args.subset_list",
    "benchmarks.revision": "dataset_args.dataset_revision",
    "benchmarks.remove_until": "dataset_args.filters.remove_until",
    "benchmarks.extra": "dataset_args.extra_params",
    "benchmarks.name": "datasets",
    "completions_digest": "completions",
    "display_name": "name",
    "few_shot_split": "train_split",
    "reuse_runs": "use_cache",
}
_NAME = r"[a-z0-9][a-z0-9_-]*"
_PATH = re.compile(
    rf"\b(?:(?:model|generation)(?:\.[a-z_]+)+|benchmarks\.{_NAME}\.[a-z_]+|benchmarks\[\d+\]\.[a-z_]+"
    rf"|benchmarks(?=:)|completions_digest|display_name(?=:)|(?<!\.)few_shot_split|reuse_runs\[\d+\])"
)


def in_own_words(error: EvalmeshError, datasets: Sequence[str]) -> EvalmeshError:
    """The refusal of a spec, in the keys of the config with these benchmarks that it was made from."""
    field = error.details.get("field", "")
    return type(error)(
        _PATH.sub(lambda found: _key_of(found[0], datasets), error.message),
        {**error.details, "field": _key_of(field, datasets) if _PATH.fullmatch(field) else field},
    )


def _key_of(path: str, datasets: Sequence[str]) -> str:
    found = re.fullmatch(rf"benchmarks(?:\[(?P<place>\d+)\]|\.(?P<name>{_NAME}))\.(?P<field>[a-z_]+)", path)
    if found is None:
        head, dot, last = path.rpartition(".")
        return _KEYS_OF_SPEC.get(path.partition("[")[0]) or f"{_KEYS_OF_SPEC.get(head, head)}{dot}{last}"
    place = found["place"]
    name = found["name"] or (datasets[int(place)] if int(place) < len(datasets) else f"[{place}]")
    key = _KEYS_OF_SPEC.get(f"benchmarks.{found['field']}", f"dataset_args.{found['field']}")
    return key.replace("dataset_args.", f"dataset_args.{name}.", 1)


@contextmanager
def told_in_keys(datasets: Sequence[str]) -> Iterator[None]:
    """What a spec is refused for, in the block, is told in the keys of the config."""
    try:
        yield
    except (InvalidInput, FailedPrecondition) as error:
        raise in_own_words(error, datasets) from None


def sift(given: Mapping[str, Any], known: Iterable[str], advice: Advice, field: str) -> dict[str, Any]:
    """The keys this build uses; lets harmless foreign ones pass and refuses the rest.

    Args:
        given: What the user wrote.
        known: Keys this build uses.
        advice: Keys EvalScope has and this build does not.
        field: Path for messages; empty at the top.

    Raises:
        InvalidInput: For a key nobody knows, naming the nearest one.
        Unimplemented: For a key of EvalScope that asks for something this build cannot do.
    """
    known = tuple(known)
    kept: dict[str, Any] = {}
    for key, value in given.items():
        path = f"{field}.{key}" if field else str(key)
        if key in known:
            kept[key] = value
        elif key in advice:
            harmless, way_out = advice[key]
            if key not in _PASS_ANY and not any(value == other and type(value) is type(other) for other in harmless):
                raise Unimplemented(
                    f"{path}: {_shown(value)} is EvalScope's and not supported here; {way_out}", {"field": path}
                )
        else:
            raise InvalidInput(
                f"{path}: there is no such key (its value is {_shown(value)}). {suggestion(str(key), known)}",
                {"field": path},
            )
    return kept


def _shown(value: Any) -> str:
    # Under a mistyped name there may be a key, and keys are long and without spaces.
    if isinstance(value, str) and (len(value) > 40 or value.startswith("sk-")):
        return "withheld"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
