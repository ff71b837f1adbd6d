"""Anthropic's messages API, of Anthropic or of whoever else speaks it."""

from collections.abc import Sequence

import msgspec

from evalmesh.adapters.openai.target import Manner, Target, check_extra_body
from evalmesh.adapters.openai.ways import Media, Way, cut
from evalmesh.dialect.answer import Answer
from evalmesh.dialect.anthropic.addresses import VERSION, key_header, read_address
from evalmesh.dialect.anthropic.answer import StreamedMessage, parse_message
from evalmesh.dialect.anthropic.body import conversation, option_fields
from evalmesh.dialect.bodies import merged
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.needs import Capabilities, Modality
from evalmesh.domain.request import GenerationConfig, Request, RequestKind
from evalmesh.domain.run import ModelSpec

ANTHROPIC = Manner("anthropic", read_address, key_header, VERSION, "give the address as in https://api.anthropic.com")
_TAKES: frozenset[Modality] = frozenset({"text", "image"})
_encode = msgspec.json.Encoder().encode


class AnthropicDoor:
    """See `ways.Door`."""

    server = "a server of the messages API (engine anthropic)"

    def __init__(self, model: ModelSpec, target: Target) -> None:
        """Raises `InvalidInput` for a kind of model that this API has not."""
        if model.kind != "chat":
            raise InvalidInput(
                f"model.request_kind: {model.kind!r} is not allowed; the engine anthropic has chat (--request-kind).",
                {"field": "model.request_kind"},
            )
        self._model = model
        self._target = target
        self.capabilities = Capabilities(frozenset({"chat"}), seed=False, modalities=_TAKES, logprobs=False)

    def ways(self, kind: RequestKind) -> Sequence[Way]:
        if kind not in self.capabilities.kinds:
            return ()
        return (Way(self._target.url("messages"), self._encode, parse_message, StreamedMessage, _cut),)

    def _encode(self, request: Request, config: GenerationConfig, media: Media) -> bytes:
        check_extra_body(config.extra_body, "generation.extra_body")
        fields = {"model": self._model.name, **option_fields(config)}
        if self._model.stream:
            fields["stream"] = True
        fields = merged(merged(fields, self._target.extra_body), config.extra_body)
        asked = conversation(request, media)
        if request.tools and {"tools", "tool_choice"} & fields.keys():
            raise InvalidInput(
                "generation.extra_body or model.args.extra_body sets tools or tool_choice, and the benchmark brings "
                "its own; remove them there.",
                {"field": "generation.extra_body"},
            )
        try:
            return _encode({**fields, **asked})
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"The prompt of {request.id} cannot be sent as JSON: {error}") from error


def _cut(request: Request, config: GenerationConfig, answer: Answer) -> Answer:
    """Ends the answer at stop sequences that this API does not take."""
    del request
    return cut(answer, [stop for stop in config.stop if not stop.strip()])
