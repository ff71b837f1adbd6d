"""Whether an endpoint answers at all, before any load: one short request."""

from dataclasses import replace

from evalmesh.dialect.errors import said_in_body
from evalmesh.dialect.sse import is_stream
from evalmesh.domain.errors import InvalidInput, NotFound, PermissionDenied, Unauthenticated, Unavailable
from evalmesh.domain.load_test import LoadTestSpec
from evalmesh.load.measure.records import Outcome, printable
from evalmesh.load_generator.apis import registry as apis
from evalmesh.load_generator.prompts.base import LoadPrompt
from evalmesh.load_generator.prompts.bodies import Bodies
from evalmesh.ports.load_tests.probe import LoadProbe, ProbeAnswer

_TIMEOUT_S = 60.0
_SHOWN = 300
_HELLO = "Hello"
_TEXTS = frozenset({"embeddings", "rerank"})


async def check_endpoint(spec: LoadTestSpec, probe: LoadProbe) -> list[str]:
    """What the user should know although the endpoint answers.

    Raises:
        Unavailable: it does not answer, or answers with a server error.
        Unauthenticated, PermissionDenied: it refuses the key.
        NotFound: there is nothing at this address, or no such model.
        InvalidInput: it does not understand the request.
    """
    target = spec.target
    timeout_s = min(_TIMEOUT_S, target.read_timeout_s)
    answer = await probe.send(replace(target, stream=False), hello_body(spec, _HELLO), timeout_s)
    if answer.status < 300:
        _check_readable(spec, answer)
        return []
    if answer.status == 429:
        return [f"The endpoint is busy already: it answered a first request with 429 ({said(answer)})."]
    field = {"field": "url"}
    message = f"url: {target.url} answered a first request with status {answer.status} ({said(answer)})."
    if answer.status < 400:
        raise InvalidInput(f"{message} Redirects are not followed; give the address it points to.", field)
    if answer.status == 401:
        raise Unauthenticated(f"{message} Check the key (api_key).", {"field": "api_key"})
    if answer.status == 403:
        raise PermissionDenied(f"{message} The key (api_key) may not do this.", {"field": "api_key"})
    if answer.status == 404:
        raise NotFound(f"{message} Check the path of url and the name of the model ({target.model!r}).", field)
    if answer.status < 500:
        raise InvalidInput(f"{message} Check url, api ({target.api}) and the extra arguments of the body.", field)
    raise Unavailable(f"{message} The server is up and not ready, or the request breaks it.", field)


def _check_readable(spec: LoadTestSpec, answer: ProbeAnswer) -> None:
    """Raises when this is no answer of the API at all, as every one of the load test would be."""
    if is_stream(answer.body):
        return  # a server that streams whatever it is asked
    reader = apis.get(spec.target.api).reader()
    reader.whole(answer.body, 0.0)
    if reader.failure is Outcome.MALFORMED:
        raise InvalidInput(
            f"url: {spec.target.url} answered a first request with something else than api {spec.target.api!r} does: "
            f"{said(answer)}. Check the path of url, and api.",
            {"field": "url"},
        )


def hello_body(spec: LoadTestSpec, text: str) -> bytes:
    """A short request of the spec's form, not streamed: one token is asked for."""
    prompt = LoadPrompt(texts=(text,), query=text) if spec.target.api in _TEXTS else LoadPrompt(text=text)
    target = replace(spec.target, stream=False)
    return Bodies(apis.get(target.api), target, replace(spec.prompts, min_tokens=None)).of(prompt, 1)


def said(answer: ProbeAnswer) -> str:
    """What the server gives as a reason, where it sends one to, or the beginning of what it said; no full stop."""
    said = said_in_body(answer.body)
    return printable(said.message.strip() or "nothing").rstrip(".")[:_SHOWN]
