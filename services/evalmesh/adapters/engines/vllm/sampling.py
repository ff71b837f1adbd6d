"""The sampling options of a request as vLLM's `SamplingParams`, guided decoding among them."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evalmesh.adapters.engines.engine import EngineRequest
from evalmesh.adapters.engines.texts import Refused
from evalmesh.domain.request import GenerationConfig

_SAME_NAME = ("temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty", "repetition_penalty")
_ALSO = frozenset(
    {
        *("min_p", "min_tokens", "ignore_eos", "skip_special_tokens", "spaces_between_special_tokens", "logit_bias"),
        *("stop_token_ids", "include_stop_str_in_output", "bad_words", "allowed_token_ids", "thinking_token_budget"),
        *("repetition_detection", "max_tokens", "extra_args", *_SAME_NAME),
    }
)
"""Of a request body: those that mean the same in `SamplingParams`."""
_GUIDED = {"guided_json": "json", "guided_regex": "regex", "guided_choice": "choice", "guided_grammar": "grammar"}
_OTHERS = ("structured_outputs", "response_format", "chat_template_kwargs", "max_completion_tokens")
_LENGTHS = ("max_completion_tokens", "max_tokens")


@dataclass(frozen=True, slots=True)
class Wish:
    """What a request asks for beside its text."""

    sampling: Mapping[str, Any]
    """For `SamplingParams`."""
    guided: Mapping[str, Any]
    """For `StructuredOutputsParams`; empty: anything may be said."""
    max_tokens: int | None


def read_wish(question: EngineRequest, defaults: Mapping[str, Any]) -> Wish:
    """`defaults`: what the model's generation_config.json says. Raises `Refused` for a key nobody here knows."""
    config = question.config
    body: dict[str, Any] = {name: value for name, value in config.extra_body.items() if value is not None}
    unset = config.extra_body.keys() - body.keys()
    _check_names(body)
    sampling = {name: value for name, value in defaults.items() if name not in unset}
    sampling |= {name: value for name in _SAME_NAME if (value := getattr(config, name)) is not None}
    sampling |= {name: value for name, value in body.items() if name in _ALSO}
    if config.stop:
        sampling["stop"] = list(config.stop)
    if question.seed is not None:
        sampling["seed"] = question.seed
    if config.top_logprobs is not None:
        sampling["logprobs"] = config.top_logprobs
    longest = next((int(body[name]) for name in _LENGTHS if name in body), config.max_tokens)
    default = sampling.pop("max_tokens", None)
    return Wish(sampling, _guided(body, config), longest or default)


def _check_names(body: Mapping[str, Any]) -> None:
    known = [*_ALSO, *_GUIDED, *_OTHERS]
    for name in body:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            advice = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(sorted(known))}."
            raise Refused(f"generation.extra_body has {name!r}, which the engine vllm does not know; {advice}")


def _mapping(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = body.get(name, {})
    if not isinstance(value, Mapping):
        raise Refused(f"generation.extra_body.{name} is {value!r}; give a mapping.")
    return value


def _guided(body: Mapping[str, Any], config: GenerationConfig) -> Mapping[str, Any]:
    asked = [{own: body[name]} for name, own in _GUIDED.items() if name in body]
    asked += [dict(_mapping(body, "structured_outputs"))] if "structured_outputs" in body else []
    asked += [_response_format(_mapping(body, "response_format"))] if "response_format" in body else []
    asked += [dict(field)] if (field := getattr(config, "guided", None)) else []
    asked = [one for one in asked if one]
    if len(asked) > 1:
        raise Refused("The answer's form is asked for more than once (guided_..., structured_outputs); leave one.")
    return asked[0] if asked else {}


def _response_format(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """As OpenAI's API has it."""
    kind = wanted.get("type")
    if kind == "text":
        return {}
    if kind == "json_object":
        return {"json_object": True}
    schema = wanted.get("json_schema")
    if kind == "json_schema" and isinstance(schema, Mapping) and isinstance(schema.get("schema"), Mapping):
        return {"json": dict(schema["schema"])}
    raise Refused(
        f"generation.extra_body.response_format is {dict(wanted)!r}; give type text, json_object, or json_schema with "
        "a json_schema.schema."
    )
