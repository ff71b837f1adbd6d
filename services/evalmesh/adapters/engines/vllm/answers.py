"""vLLM's output of a request as a completion."""

from collections.abc import Iterable, Sequence
from typing import Any

from evalmesh.adapters.engines.vllm.parsing import Parsed
from evalmesh.domain.completion import Completion, FinishReason, Timing, TokenLogprob, Usage
from evalmesh.domain.request import Request

_FINISHES: dict[str, FinishReason] = {"stop": "stop", "length": "length", "repetition": "stop"}


class Gathered:
    """What comes of a request bit by bit."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.token_ids: list[int] = []
        self.logprobs: list[TokenLogprob] = []
        self.finish: str | None = None
        self._input_tokens = 0
        self._cached_tokens: int | None = None

    def add(self, output: Any, top: int | None) -> None:
        """One output of the stream. `top`: of how many alternatives log probabilities were asked."""
        said = output.outputs[0]
        self.text.append(said.text)
        self.token_ids += said.token_ids
        if top is not None and said.logprobs:
            self.logprobs += _token_logprobs(said.logprobs, top)
        self.finish = said.finish_reason or self.finish
        self._input_tokens = len(output.prompt_token_ids or ())
        self._cached_tokens = output.num_cached_tokens or self._cached_tokens

    def completion(self, request: Request, parsed: Parsed, timing: Timing) -> Completion:
        """The whole of it."""
        finish = _FINISHES.get(self.finish or "", "unknown")
        return Completion(
            request.sample_id,
            request.repeat,
            request.digest,
            text=parsed.text,
            reasoning=parsed.reasoning,
            finish_reason="tool_calls" if parsed.tool_calls else finish,
            tool_calls=parsed.tool_calls,
            top_logprobs=tuple(self.logprobs),
            usage=Usage(self._input_tokens, len(self.token_ids), parsed.reasoning_tokens, self._cached_tokens),
            timing=timing,
        )


def _token_logprobs(positions: Iterable[dict[int, Any]], top: int) -> Iterable[TokenLogprob]:
    """The token itself stands first in each position, whether or not it is among the likeliest."""
    for position in positions:
        values = list(position.values())
        ranked: Sequence[Any] = sorted(values, key=lambda one: -one.logprob)[:top]
        alternatives = tuple((one.decoded_token or "", one.logprob) for one in ranked)
        yield TokenLogprob(values[0].decoded_token or "", values[0].logprob, alternatives)
