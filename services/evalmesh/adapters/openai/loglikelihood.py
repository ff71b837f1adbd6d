"""Ways to ask how likely given continuations are. Which of them a server knows is found out by asking (`endpoint`).

One token is generated besides, for many servers refuse to generate none; it is not counted.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
from yarl import URL

from evalmesh.adapters.openai.target import Target
from evalmesh.adapters.openai.ways import Media, Way
from evalmesh.dialect.answer import Answer, Fault, parse_answer
from evalmesh.dialect.bodies import merged
from evalmesh.dialect.logprobs import ScoredText
from evalmesh.dialect.prompt_scores import (
    echoed,
    judge,
    judge_end,
    parse_chat_scores,
    parse_generated,
    prompt_logprobs,
)
from evalmesh.domain.completion import ContinuationScore, Usage
from evalmesh.domain.request import GenerationConfig, Request

CHAT = "vLLM's prompt_logprobs of a chat"
"""The only one that asks for each continuation by itself."""
_ONE_TOKEN = {"max_tokens": 1, "temperature": 0.0}

_encode = msgspec.json.Encoder().encode
_Fields = Callable[[Request, str], Mapping[str, Any]]


def scoring_ways(model: str, target: Target) -> tuple[Way, ...]:
    """In the order in which they are tried."""
    prefix = target.prefix

    def way(name: str, url: URL, fields: _Fields, read: Callable[[Answer], Sequence[ScoredText | None]]) -> Way:
        def encode(request: Request, config: GenerationConfig, media: Media) -> bytes:
            del media
            found = merged(merged({"model": model}, target.extra_body), config.extra_body)
            return _encode({**found, **fields(request, prefix)})

        def finish(request: Request, config: GenerationConfig, answer: Answer) -> Answer | Fault:
            del config
            return _judged(request, answer, read(answer), name)

        parse = parse_generated if name == _SGLANG else parse_chat_scores if name == CHAT else parse_answer
        return Way(url, encode, parse, None, finish, name, one_by_one=name == CHAT)

    completions = target.url("completions")
    echo = partial(_completions, {"echo": True, "logprobs": 1})
    return (
        way("completions with echo and logprobs", completions, echo, partial(_each, echoed)),
        way(
            "vLLM's prompt_logprobs of completions",
            completions,
            partial(_completions, {"prompt_logprobs": 1}),
            partial(_each, prompt_logprobs),
        ),
        way(_SGLANG, target.url("generate"), _generate, lambda answer: answer.scored),
        way(CHAT, target.url("chat"), _chat, partial(_each, prompt_logprobs)),
    )


_SGLANG = "SGLang's input_token_logprobs of /generate"


def _each(
    read: Callable[[Any], ScoredText | None],
    answer: Answer,
) -> list[ScoredText | None]:
    return [read(choice) for choice in answer.choices]


def _texts(request: Request, prefix: str) -> list[str]:
    """One prompt per continuation, joined as they are."""
    return [prefix + before + continuation for before, continuation in request.pairs]


def _completions(asked: Mapping[str, Any], request: Request, prefix: str) -> Mapping[str, Any]:
    return {**_ONE_TOKEN, **asked, "prompt": _texts(request, prefix)}


def _generate(request: Request, prefix: str) -> Mapping[str, Any]:
    return {
        "text": _texts(request, prefix),
        "sampling_params": {"max_new_tokens": 1, "temperature": 0.0},
        "return_logprob": True,
        "logprob_start_len": 0,
        "top_logprobs_num": 1,
        "return_text_in_logprobs": True,
    }


def _chat(request: Request, prefix: str) -> Mapping[str, Any]:
    """The context is what the user says, and the continuation what the assistant does."""
    ((before, continuation),) = request.pairs
    said = [{"role": "user", "content": prefix + before}] if before else []
    return {
        **_ONE_TOKEN,
        "messages": [*said, {"role": "assistant", "content": continuation}],
        "prompt_logprobs": 1,
        "add_generation_prompt": False,
        "continue_final_message": True,
    }


def _judged(request: Request, answer: Answer, texts: Sequence[ScoredText | None], name: str) -> Answer | Fault:
    """Adds what each continuation's tokens are worth, in the order of the continuations."""
    if answer.finish_reason == "content_filter" and not texts:
        return Fault("reported", "A content filter of the endpoint held the prompt back.", "400")
    if len(texts) != len(request.continuations):
        return _unusable(f"{len(texts)} choices for {len(request.continuations)} prompts", name)
    scores: list[ContinuationScore] = []
    for (before, continuation), found in zip(request.pairs, texts, strict=True):
        judged = judge_end(continuation, found) if name == CHAT else judge(before, continuation, found)
        if isinstance(judged, str):
            return _unusable(judged, name)
        scores.append(judged)
    answer.text, answer.finish_reason = "", "stop"
    answer.continuations = tuple(scores)
    return answer


def _unusable(found: str, name: str) -> Fault:
    return Fault(
        "malformed",
        f"The endpoint does not give the log probabilities of a prompt by {name}: it sent {found}.",
        final=True,
    )


def alone(request: Request) -> list[Request]:
    """A request for each continuation."""
    contexts: list[tuple[str, ...]] = [(one,) for one in request.contexts]
    contexts = contexts or [()] * len(request.continuations)
    return [
        replace(request, continuations=(one,), contexts=context)
        for one, context in zip(request.continuations, contexts, strict=True)
    ]


def joined(answers: Sequence[Answer]) -> Answer:
    """One answer, of those to each continuation by itself."""
    first = answers[0]
    first.continuations = tuple(score for answer in answers for score in answer.continuations)
    counts = [answer.usage for answer in answers if answer.usage is not None]
    if counts:
        first.usage = Usage(sum(one.input_tokens or 0 for one in counts), sum(one.output_tokens or 0 for one in counts))
    return first
