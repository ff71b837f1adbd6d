"""How the server counts tokens, where nobody gave a tokenizer: two requests of known length, and its own usage."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evalmesh.domain.errors import EvalmeshError
from evalmesh.domain.free_values import parse_json
from evalmesh.domain.load_test import LoadTestSpec
from evalmesh.load_generator.probes.probing import hello_body
from evalmesh.load_generator.prompts.calibration import calibrate, calibration_prompts, needs_calibration
from evalmesh.ports.load_tests.probe import LoadProbe

_LOG = logging.getLogger(__name__)
_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class TokenScale:
    """Tokens of a prompt of n words: `offset + scale * n`; a scale of 0: not measured."""

    scale: float = 0.0
    offset: int = 0
    notes: tuple[str, ...] = ()


async def measure_tokens(spec: LoadTestSpec, probe: LoadProbe) -> TokenScale:
    """Asks the server how it counts, when the prompts' length depends on it."""
    if not needs_calibration(spec):
        return TokenScale()
    prompts = calibration_prompts(spec.seed)
    timeout_s = min(_TIMEOUT_S, spec.target.read_timeout_s)
    usages: list[int] = []
    for text, _ in prompts:
        try:
            answer = await probe.send(spec.target, hello_body(spec, text), timeout_s)
        except EvalmeshError as error:
            _LOG.warning("calibration: %s", error.message)
            return TokenScale(notes=(f"{_UNKNOWN}. {error.message}",))
        if answer.status >= 300:
            return TokenScale(notes=(f"{_UNKNOWN}: it answered with status {answer.status}.",))
        usage = _prompt_tokens(answer.body)
        if usage is None:
            return TokenScale(notes=(_NOT_SAID,))
        usages.append(usage)
    scale, offset = calibrate([length for _, length in prompts], usages)
    return TokenScale(scale, offset)


_UNKNOWN = "How the server counts tokens could not be asked"
_NOT_SAID = "The server does not say how many tokens a prompt has."


def _prompt_tokens(body: bytes) -> int | None:
    try:
        decoded = parse_json(body)
    except ValueError:
        return None
    usage: Any = decoded.get("usage") if isinstance(decoded, Mapping) else None
    if not isinstance(usage, Mapping):
        return None
    for key in ("prompt_tokens", "input_tokens", "total_tokens"):
        if isinstance(usage.get(key), int) and usage[key] > 0:
            return int(usage[key])
    return None
