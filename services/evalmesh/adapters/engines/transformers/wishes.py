"""What a request asks for beside its prompt; where it is silent, what the model's generation_config.json says."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evalmesh.adapters.engines.engine import EngineRequest
from evalmesh.adapters.engines.texts import Refused
from evalmesh.domain.request import GenerationConfig


@dataclass(frozen=True, slots=True)
class Wish:
    """How one answer is chosen, and where it ends."""

    seed: int
    max_tokens: int | None = None
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    ends: frozenset[int] = frozenset()
    """Tokens that end the answer and are no part of it."""
    temperature: float = 0.0
    """0: always the likeliest."""
    top_p: float = 1.0
    top_k: int = 0
    """0: all."""
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    top_logprobs: int | None = None
    keep_special: bool = False

    @property
    def penalised(self) -> bool:
        """Whether what was said before changes what is said next."""
        return bool(self.repetition_penalty != 1 or self.frequency_penalty or self.presence_penalty)


EXTRA = frozenset(
    {"min_p", "min_tokens", "ignore_eos", "stop_token_ids", "skip_special_tokens", "chat_template_kwargs", "seed"}
)
"""The keys of `extra_body` that mean something here, named as in vLLM."""


class Wishes:
    """Reads them, for one model."""

    def __init__(self, generation_config: Any, ends: frozenset[int]) -> None:
        self._ends = ends
        said = generation_config.to_dict() if generation_config is not None else {}
        self._own: Mapping[str, Any] = {name: value for name, value in said.items() if value is not None}

    def read(self, asked: EngineRequest) -> Wish:
        """Raises `Refused`."""
        config, extra = asked.config, asked.config.extra_body
        if unknown := sorted(extra.keys() - EXTRA):
            raise Refused(
                f"The engine transformers has no option {unknown[0]!r} (generation config, extra_body); "
                f"it takes {', '.join(sorted(EXTRA))} there."
            )
        if getattr(config, "guided", None):
            raise Refused("The engine transformers cannot hold answers to a schema (guided); --engine vllm can.")
        temperature = self._temperature(config)
        ends = frozenset() if extra.get("ignore_eos") else self._ends
        return Wish(
            seed=asked.seed if asked.seed is not None else _seed(asked),
            max_tokens=_either(config.max_tokens, self._own.get("max_new_tokens")),
            min_tokens=_number(extra, "min_tokens", int, 0),
            stop=tuple(filter(None, config.stop)),
            ends=ends | frozenset(_token_ids(extra)),
            temperature=temperature,
            top_p=float(_either(config.top_p, self._own.get("top_p"), 1.0)),
            top_k=max(0, int(_either(config.top_k, self._own.get("top_k"), 0))),
            min_p=_number(extra, "min_p", float, float(self._own.get("min_p", 0.0))),
            repetition_penalty=float(_either(config.repetition_penalty, self._own.get("repetition_penalty"), 1.0)),
            frequency_penalty=float(config.frequency_penalty or 0.0),
            presence_penalty=float(config.presence_penalty or 0.0),
            top_logprobs=config.top_logprobs,
            keep_special=extra.get("skip_special_tokens") is False,
        )

    def _temperature(self, config: GenerationConfig) -> float:
        """As `generate` has it where nothing is said: greedy, unless the model's own config samples."""
        if config.temperature is not None:
            return float(config.temperature)
        return float(self._own.get("temperature", 1.0)) if self._own.get("do_sample") else 0.0


def _seed(asked: EngineRequest) -> int:
    """Another for each request, and the same whenever it is asked."""
    request = asked.request
    return int.from_bytes(hashlib.sha256(f"{request.digest}\0{request.id}".encode()).digest()[:8], "little")


def _either(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _number(extra: Mapping[str, object], name: str, kind: type, default: Any) -> Any:
    value = extra.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refused(f"extra_body.{name} is {value!r}; give a number.")
    return kind(value)


def _token_ids(extra: Mapping[str, object]) -> list[int]:
    given = extra.get("stop_token_ids") or []
    if not isinstance(given, list | tuple) or not all(isinstance(one, int) for one in given):
        raise Refused(f"extra_body.stop_token_ids is {given!r}; give a list of token numbers.")
    return list(given)
