"""What each request of a load test asks, and what its body carries beside the prompt."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalmesh.cli.options import from_file
from evalmesh.cli.perf.config import TRACES, PerfConfig
from evalmesh.cli.perf.target import is_generating
from evalmesh.cli.perf.values import parse_lengths, uniform, wrong
from evalmesh.dialect.bodies import LIMITS
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.free_values import parse_json
from evalmesh.domain.load_test import ImageSpec, Lengths, PromptSpec, TurnSpec

_MAX_TOKENS = 2048
_RANDOM_TOKENS = 512
"""Length of the prompts of a load test that says nothing about prompts."""
_SAMPLING = ("temperature", "top_p", "top_k", "frequency_penalty", "repetition_penalty", "logprobs")
_BY_API = {"embeddings": "embedding", "rerank": "rerank"}
_OTHER_NAMES = {"embed": "embedding", "embedding_batch": "embedding", "random_embedding_batch": "random_embedding"}
"""EvalScope's; a batch is `documents` above 1 here."""
_BATCH = 8
_HAVE_TURNS = frozenset({"random", "sharegpt", "share_gpt_zh", "share_gpt_en", "custom"})
_MOST_TURNS = 10_000
_OWN_KEYS = ("messages", "prompt", "input", "model", "stream")
"""Keys of a body that are set for each request, whatever a template says."""


@dataclass(frozen=True, slots=True)
class Uploads:
    """Digests of what was sent to the platform."""

    file: str = ""
    tokenizer: str = ""


def dataset_of(config: PerfConfig, api: str) -> str:
    """The data set; one that was not named is random text, since nothing is downloaded."""
    if not config.dataset:
        if config.dataset_path or config.prompt:
            return _BY_API.get(api, "openqa")
        return f"random_{_BY_API[api]}" if api in _BY_API else "random_multi_turn" if config.multi_turn else "random"
    name = _OTHER_NAMES.get(config.dataset, config.dataset)
    return f"{name}_multi_turn" if config.multi_turn and name in _HAVE_TURNS else name


def prompts_of(config: PerfConfig, api: str, uploads: Uploads) -> PromptSpec:
    """The prompts of the spec. Raises `InvalidInput`."""
    dataset = dataset_of(config, api)
    template, body = _template(config)
    body |= _body(config, api)
    return PromptSpec(
        dataset=dataset,
        file_digest=uploads.file,
        file_name=Path(config.dataset_path).name if config.dataset_path else "",
        tokenizer_digest=uploads.tokenizer,
        prompt=from_file(config.prompt, "prompt") if config.prompt else "",
        template=template,
        input_tokens=_input_tokens(config, dataset),
        output_tokens=_output_tokens(config, api, dataset, body),
        min_tokens=config.min_tokens,
        prefix_tokens=config.prefix_length,
        prefix_count=config.prefix_count,
        apply_chat_template=api != "completions" if config.apply_chat_template is None else config.apply_chat_template,
        tokenize=config.tokenize_prompt,
        offset=config.dataset_offset,
        documents=config.documents or (_BATCH if (config.dataset or "").endswith("_batch") else 0),
        images=_images(config, dataset),
        turns=_turns(config, dataset),
        body=body,
        args=_args(config),
    )


def _input_tokens(config: PerfConfig, dataset: str) -> Lengths | None:
    if config.input_lengths:
        return parse_lengths(config.input_lengths, "input_lengths")
    said = config.model_fields_set & {"min_prompt_length", "max_prompt_length"}
    if not dataset.startswith("random"):
        # Rows of a file are not made to a length; those outside of it are left out.
        low, high = max(1, config.min_prompt_length), config.max_prompt_length
        return uniform(low, high, "max_prompt_length") if said else None
    if not said and not config.dataset:
        return uniform(_RANDOM_TOKENS, _RANDOM_TOKENS, "max_prompt_length")
    if "max_prompt_length" not in said:
        raise InvalidInput(
            f"max_prompt_length: missing; {dataset!r} makes prompts of min_prompt_length to max_prompt_length tokens, "
            f"e.g. --min-prompt-length 512 --max-prompt-length 512.",
            {"field": "max_prompt_length"},
        )
    # EvalScope's prefix stands before prompts of that length; the spec's is a part of them.
    low, high = (
        max(1, length) + config.prefix_length for length in (config.min_prompt_length, config.max_prompt_length)
    )
    return uniform(low, high, "max_prompt_length")


def _output_tokens(config: PerfConfig, api: str, dataset: str, body: dict[str, Any]) -> Lengths | None:
    if not is_generating(api):
        return None
    if config.output_lengths:
        return parse_lengths(config.output_lengths, "output_lengths")
    if config.max_tokens:
        return uniform(config.max_tokens[0], config.max_tokens[-1], "max_tokens")
    if dataset in TRACES:
        return Lengths(kind="trace", low=1, high=1 << 20)
    return None if any(name in body for name in LIMITS) else uniform(_MAX_TOKENS, _MAX_TOKENS, "max_tokens")


def _template(config: PerfConfig) -> tuple[str, dict[str, Any]]:
    """(template, keys of every body). One that says where the prompt goes is a template; another only brings keys."""
    if not config.query_template:
        return "", {}
    text = from_file(config.query_template, "query_template")
    text = text.replace("%p", "{prompt}").replace("%m", "{model}")
    try:
        value = parse_json(text)
    except ValueError as error:
        raise InvalidInput(
            f"query_template: this is no JSON ({error}); write a body like "
            f'{{"messages": [{{"role": "user", "content": "{{prompt}}"}}]}}, or @FILE.',
            {"field": "query_template"},
        ) from None
    if not isinstance(value, dict):
        raise wrong("query_template", text, "write a JSON object.")
    if "{prompt}" in text:
        return text, {}
    return "", {key: item for key, item in value.items() if key not in _OWN_KEYS}


def _body(config: PerfConfig, api: str) -> dict[str, Any]:
    if not is_generating(api):
        return dict(config.extra_args)
    body = {name: getattr(config, name) for name in _SAMPLING}
    body |= {"n": config.n_choices, "seed": config.seed, "stop": config.stop, "stop_token_ids": config.stop_token_ids}
    body["ignore_eos"] = config.ignore_eos or None
    # In the extra arguments, and only there, null means that the key must not be sent.
    return {**{key: value for key, value in body.items() if value is not None}, **config.extra_args}


def _images(config: PerfConfig, dataset: str) -> ImageSpec | None:
    if dataset != "random_vl":
        return None
    return ImageSpec(config.image_num, config.image_width, config.image_height, config.image_format)


def _turns(config: PerfConfig, dataset: str) -> TurnSpec | None:
    if not config.multi_turn and not dataset.endswith("multi_turn"):
        return None
    if dataset.startswith("random") and config.max_turns is None:
        raise InvalidInput(
            f"max_turns: missing; {dataset!r} makes conversations of min_turns to max_turns turns.",
            {"field": "max_turns"},
        )
    return TurnSpec(config.min_turns, config.max_turns or _MOST_TURNS, config.think_time)


def _args(config: PerfConfig) -> dict[str, Any]:
    args = {**config.multi_turn_args, **config.dataset_args}
    args.pop("num_workers", None)
    return args


def prompt_notes(config: PerfConfig) -> list[str]:
    """What is taken in another way than it was said."""
    notes = []
    if not config.dataset and not config.dataset_path and not config.prompt:
        notes.append(
            f"dataset: none was named, and nothing is downloaded: prompts are {_RANDOM_TOKENS} tokens of random words. "
            f"Yours come with --dataset-path."
        )
    if config.prompt and (config.dataset_path or config.dataset):
        notes.append("prompt: every request asks this one text; the data set that is named beside it is not read.")
    if config.data_source not in {None, "local"} and not config.dataset_path:
        notes.append(f"data_source: nothing is downloaded from {config.data_source}; --dataset-path names a file here.")
    return notes
