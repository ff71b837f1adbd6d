"""EvalScope's perf keys that this build takes in another way: what is done instead, or what to do instead."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from evalmesh.domain.errors import InvalidInput, Unimplemented

INSTEAD: Mapping[str, str] = {
    "enable_pd_metrics": "the first gap of each stream is in requests.parquet, and chunk gaps are always reported.",
    "queue_size_multiplier": "requests are prepared as far ahead as a socket buffer takes.",
    "in_flight_task_multiplier": "nothing is scheduled ahead of its time here.",
    "num_workers": "prompts are made while requests are sent, by one process per generator; see generators.",
    "db_commit_interval": "records are written to a file of fixed-size rows; there is no database.",
    "log_every_n_query": "progress is shown all the time on a terminal, and every two seconds elsewhere.",
    "enable_progress_tracker": "follow it from anywhere with `evalmesh perf watch`, or with the SDK.",
    "image_patch_size": "image tokens are taken from the server's usage.",
    "sla_number_multiplier": "a probe goes on until its interval decides; its number of requests follows from that.",
}
"""Accepted; the sentence is said, since it changes nothing that is measured."""

_REFUSED: Mapping[str, str] = {
    "scenario": "agents are not part of this build; replay their traffic with --dataset trace, whose rows may carry "
    "timestamps and session ids.",
}
FOREIGN = (*INSTEAD, *_REFUSED)
APIS: Mapping[str, str] = {
    # What users write -> what the spec calls it; `openai` and local ones follow the path.
    "openai_chat": "chat",
    "chat": "chat",
    "openai_completions": "completions",
    "completions": "completions",
    "openai_responses": "responses",
    "openai_response": "responses",
    "responses": "responses",
    "openai_embedding": "embeddings",
    "embedding": "embeddings",
    "embeddings": "embeddings",
    "openai_rerank": "rerank",
    "rerank": "rerank",
}
API_ADVICE: Mapping[str, str] = {
    "dashscope": "use its OpenAI-compatible address (it ends in /compatible-mode/v1) with api openai",
    "custom": "install a plug-in (entry point group `evalmesh.load_apis`) and give its name",
    "systemone": "only OpenAI's APIs are part of this build; others come as plug-ins (`evalmesh.load_apis`)",
    "autotrust": "only OpenAI's APIs are part of this build; others come as plug-ins (`evalmesh.load_apis`)",
}


_KEYS_OF_SPEC: Mapping[str, str] = {
    # field of the spec -> key of the config
    "arrival.kind": "arrival",
    "arrival.speed": "trace_speed",
    "display_name": "name",
    "generator_count": "generators",
    "pause": "sleep_interval",
    "prompts.args": "dataset_args",
    "prompts.body": "extra_args",
    "prompts.document_count": "documents",
    "prompts.file_digest": "dataset_path",
    "prompts.file_name": "dataset_path",
    "prompts.images.count": "image_num",
    "prompts.images.height": "image_height",
    "prompts.images.mode": "image_format",
    "prompts.images.width": "image_width",
    "prompts.input_tokens": "input_lengths",
    "prompts.offset": "dataset_offset",
    "prompts.output_tokens": "output_lengths",
    "prompts.prefix_tokens": "prefix_length",
    "prompts.template": "query_template",
    "prompts.tokenizer_digest": "tokenizer_path",
    "prompts.turns.high": "max_turns",
    "prompts.turns.low": "min_turns",
    "prompts.turns.think_mean": "think_time",
    "search.high": "sla_upper_bound",
    "search.level_duration": "duration",
    "search.low": "sla_lower_bound",
    "search.repeats": "sla_num_runs",
    "search.variable": "find_max",
    "target.key_ref": "api_key",
    "warmup": "warmup_num",
}
_PATH = re.compile(r"^[a-z_]+(?=:)|\b(?:target|prompts|arrival|search|levels\[\d+\])(?:\.[a-z_]+(?:\[\d+\])?)+")


def in_own_words(error: InvalidInput) -> InvalidInput:
    """The refusal of a spec, in the keys of the config it was made from."""
    return InvalidInput(
        _PATH.sub(lambda found: _key_of(found[0]), error.message),
        {**error.details, "field": _key_of(error.details.get("field", ""))},
    )


@contextmanager
def told_in_keys() -> Iterator[None]:
    """What a spec is refused for, in the block, is told in the keys of the config."""
    try:
        yield
    except InvalidInput as error:
        raise in_own_words(error) from None


def _key_of(path: str) -> str:
    """Of the longest field that is known; others are called as in the spec, without the part they are in."""
    head, parts = path, list[str]()
    while head and head not in _KEYS_OF_SPEC:
        head, _, last = head.rpartition(".")
        parts.insert(0, last)
    return ".".join([_KEYS_OF_SPEC[head], *parts]) if head else path.rpartition(".")[2]


def without_foreign(given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """What this build uses, and a sentence for each key that is taken in another way.

    Raises `Unimplemented` for keys whose wish cannot be met.
    """
    kept = {key: value for key, value in given.items() if key not in FOREIGN}
    return kept, list(_said(given))


def _said(given: Mapping[str, Any]) -> Iterator[str]:
    for key, value in given.items():
        if value is None or value is False:
            continue
        if key in _REFUSED:
            raise Unimplemented(f"{key}: it is EvalScope's and not supported here; {_REFUSED[key]}", {"field": key})
        if key in INSTEAD:
            yield f"{key}: not needed here; {INSTEAD[key]}"
