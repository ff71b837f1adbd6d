"""Looks at data set and tokenizer of a load test before anything is sent."""

from itertools import islice
from typing import Any

import msgspec

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.load_test import LoadTestSpec
from evalmesh.load.arrivals.schedule import Share
from evalmesh.load_generator.prompts.base import LoadPrompt
from evalmesh.load_generator.prompts.calibration import needs_calibration
from evalmesh.load_generator.prompts.opening import OpenedPrompts, open_prompts
from evalmesh.load_generator.protocol import FeederSetup

_ROWS = 2_000
_COUNTED_ROWS = 200
"""Looked at where a tokenizer counts each of them."""
_MADE = 3


def check(spec: LoadTestSpec, file_path: str = "", tokenizer_path: str = "") -> list[str]:
    """What a user should know although nothing is wrong; looks at the first rows of the file.

    Raises `InvalidInput` or `NotFound`, with the field, for a data set, tokenizer or API that cannot be used.
    """
    opened = open_prompts(_setup(spec, file_path, tokenizer_path))
    if spec.arrival.kind == "trace" and not opened.dataset.timed:
        raise InvalidInput(
            f"arrival.kind is 'trace', and the data set '{spec.prompts.dataset}' does not say when its rows were sent; "
            "use the data set 'trace'.",
            {"field": "arrival.kind"},
        )
    rows = 1 if opened.dataset.make is not None else _COUNTED_ROWS if tokenizer_path else _ROWS
    first = opened.source.prompts(0, Share())
    for prompt, limit in islice(first, _MADE):
        _body(opened, prompt, limit)
    if opened.dataset.rows is not None:
        opened.source.look(rows)
    notes = opened.source.notes
    if needs_calibration(spec) and not tokenizer_path:
        notes[0] = "No tokenizer was given: how the server counts words is asked of it, and lengths are set by that."
    return notes


def preview(
    spec: LoadTestSpec, file_path: str = "", tokenizer_path: str = "", count: int = 1
) -> list[tuple[bytes, int]]:
    """The first bodies as they would be sent, each with the length its prompt has (0: unknown).

    Of a conversation it is the first turn. Raises what `check` raises.
    """
    opened = open_prompts(_setup(spec, file_path, tokenizer_path))
    prompts = islice(opened.source.prompts(0, Share()), max(0, count))
    return [(_body(opened, prompt, limit), prompt.tokens or sum(prompt.turn_tokens[:1])) for prompt, limit in prompts]


def _setup(spec: LoadTestSpec, file_path: str, tokenizer_path: str) -> FeederSetup:
    return FeederSetup(spec.target, spec.prompts, file_path, tokenizer_path, spec.seed, 0, 1)


def _body(opened: OpenedPrompts, prompt: LoadPrompt, limit: int) -> bytes:
    if not prompt.turns:
        return opened.bodies.of(prompt, limit)
    around = opened.bodies.around_turns(exact_output=prompt.exact_output, limited=limit > 0)
    body: dict[str, Any] = msgspec.json.decode(around)
    messages = [{"role": "system", "content": prompt.system}] if prompt.system else []
    messages.append({"role": "user", "content": prompt.turns[0]})
    limits = {opened.api.limit_key: limit} if limit else {}
    return msgspec.json.encode({opened.api.turns_key: messages, **body, **limits})
