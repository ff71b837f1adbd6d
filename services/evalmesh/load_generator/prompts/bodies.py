"""Prompts to the bytes of HTTP bodies.

An API makes a body once per distinct limit, with a mark where the text belongs; after that a prompt's text is put in
its place, which is twenty times cheaper than making the body again. Whether the API puts texts into bodies unchanged is
tried with other texts first; one that does not is asked for every body.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from evalmesh.dialect.bodies import merged
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.load_test import LoadTarget, PromptSpec
from evalmesh.load_generator.apis.base import Ask, LoadApi
from evalmesh.load_generator.prompts.base import LoadPrompt

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_MARK = "evalmesh-text-goes-here-3f9a61c2"
_PROBES = ("plain words", 'quotes " and \\ and \n, ümlaut and 漢字', "")
_MOST_FORMS = 2048
_OURS = ("stream", "stream_options")
"""Keys of a recorded body that the target decides, since answers are read accordingly."""


class Bodies:
    """Makes the bodies of one load test."""

    def __init__(self, api: LoadApi, target: LoadTarget, spec: PromptSpec) -> None:
        """Raises `InvalidInput` when `spec.template` is no JSON object."""
        self._api = api
        self._target = target
        self._spec = spec
        self._template = _template(spec.template)
        self._chats = bool(api.turns_key)
        self._forms: dict[tuple[int, bool], list[bytes] | None] = {}
        self._around: dict[tuple[bool, bool], msgspec.Raw] = {}
        self._filler: dict[str, Any] | None = None

    def of(self, prompt: LoadPrompt, limit: int) -> bytes:
        """The body of a prompt; `limit`: its `max_tokens`, 0 for none."""
        if prompt.body is not None:
            return self._recorded(prompt, limit)
        if not prompt.text or prompt.messages or prompt.token_ids is not None or prompt.texts:
            return self._made(prompt, limit)
        key = (limit, prompt.exact_output)
        if key not in self._forms:
            if len(self._forms) >= _MOST_FORMS:
                self._forms.clear()
            self._forms[key] = self._form(limit, exact_output=prompt.exact_output)
        form = self._forms[key]
        if form is None:
            return self._made(prompt, limit)
        return _encode(prompt.text)[1:-1].join(form)

    def around_turns(self, *, exact_output: bool, limited: bool) -> msgspec.Raw:
        """The body of a conversation without its messages, and without a limit where turns have their own; an object.

        Raises `InvalidInput` for an API without conversations.
        """
        key = (exact_output, limited)
        if key not in self._around:
            self._around[key] = self._made_around(exact_output=exact_output, limited=limited)
        return self._around[key]

    def _made_around(self, *, exact_output: bool, limited: bool) -> msgspec.Raw:
        if not self._chats:
            raise InvalidInput(
                f"The API '{self._api.name}' has no conversations; use chat or responses.", {"field": "target.api"}
            )
        prompt = LoadPrompt(messages=({"role": "user", "content": ""},), exact_output=exact_output)
        body = _decode(self._made(prompt, 1 if exact_output else 0))
        body.pop(self._api.turns_key, None)
        if limited or exact_output:
            body.pop(self._api.limit_key, None)
        return msgspec.Raw(_encode(body))

    def _form(self, limit: int, *, exact_output: bool) -> list[bytes] | None:
        def made(text: str) -> bytes:
            return self._made(LoadPrompt(text=text, exact_output=exact_output), limit)

        parts = made(_MARK).split(_MARK.encode())
        if len(parts) < 2:
            return None
        for probe in _PROBES:
            if _decode(_encode(probe)[1:-1].join(parts)) != _decode(made(probe)):
                return None
        return parts

    def _made(self, prompt: LoadPrompt, limit: int) -> bytes:
        messages = prompt.messages
        if self._chats and not messages:
            messages = ({"role": "user", "content": prompt.text},)
        extra = self._extra(prompt, limit)
        if self._template is not None:
            values = {
                "prompt": prompt.text or _last_text(messages),
                "model": self._target.model,
                "messages": messages,
                "max_tokens": limit,
            }
            return _encode(merged(_filled(self._template, values), extra))
        return self._api.body(
            Ask(
                model=self._target.model,
                stream=self._target.stream,
                messages=messages,
                text=prompt.text,
                token_ids=prompt.token_ids,
                texts=prompt.texts,
                query=prompt.query,
                max_tokens=limit,
                min_tokens=self._spec.min_tokens or 0,
                extra=extra,
            )
        )

    def _extra(self, prompt: LoadPrompt, limit: int) -> Mapping[str, object]:
        """`prompts.body`; and where the length of answers is part of the load, the wish to ignore end marks."""
        if prompt.exact_output and limit:
            return {"ignore_eos": True, **self._spec.body}
        return self._spec.body

    def _recorded(self, prompt: LoadPrompt, limit: int) -> bytes:
        """A recorded body as it is. `prompts.body` and limits fill in what it does not say."""
        recorded = {key: value for key, value in (prompt.body or {}).items() if key not in _OURS}
        if self._filler is None:
            body: dict[str, Any] = _decode(self._made(LoadPrompt(text=" "), 0))
            body.pop(self._api.turns_key or "prompt", None)
            self._filler = body
        body = {**self._filler, **recorded}
        if limit and (prompt.exact_output or self._api.limit_key not in recorded):
            body[self._api.limit_key] = limit
            if prompt.exact_output:
                body.setdefault("ignore_eos", True)
        for key in [key for key, value in self._spec.body.items() if value is None]:
            body.pop(key, None)
        return _encode(self._with_model(body))

    def _with_model(self, body: dict[str, Any]) -> dict[str, Any]:
        """`args.model_override` replaces every recorded model, `args.model_mapping` those it names."""
        override, mapping = self._spec.args.get("model_override"), self._spec.args.get("model_mapping")
        if override:
            body["model"] = override
        elif isinstance(mapping, Mapping):
            body["model"] = mapping.get(str(body.get("model")), body.get("model"))
        return body


def _template(text: str) -> Any:
    if not text:
        return None
    try:
        value = _decode(text.encode())
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidInput(
            f"prompts.template is no valid JSON: {error}. Give a body with {{prompt}} and {{model}} in it.",
            {"field": "prompts.template"},
        ) from error
    if not isinstance(value, dict):
        raise InvalidInput(
            f"prompts.template is a JSON {type(value).__name__}; give an object, the body of a request.",
            {"field": "prompts.template"},
        )
    return value


def _filled(node: Any, values: Mapping[str, Any]) -> Any:
    """A copy with placeholders replaced; a string that is nothing but a placeholder becomes its value."""
    if isinstance(node, dict):
        return {key: _filled(value, values) for key, value in node.items()}
    if isinstance(node, list):
        return [_filled(value, values) for value in node]
    if not isinstance(node, str):
        return node
    for name, value in values.items():
        if node == "{" + name + "}":
            return value
    # In one pass over the template's own text, so that a prompt that contains `{model}` stays as it is.
    before, mark, after = node.partition("{prompt}")
    parts = [before.replace("{model}", values["model"])]
    while mark:
        parts.append(values["prompt"])
        before, mark, after = after.partition("{prompt}")
        parts.append(before.replace("{model}", values["model"]))
    return "".join(parts)


def _last_text(messages: tuple[Mapping[str, object], ...]) -> str:
    content = messages[-1].get("content") if messages else ""
    return content if isinstance(content, str) else ""
