"""OpenAI's text completions: one prompt, as text or as token ids. Answers differ from a chat's only in `text`."""

from typing import Any

from evalmesh.load_generator.apis.base import Ask, LoadApi, json_body
from evalmesh.load_generator.apis.chat import ChoicesReader, generation_keys


class CompletionsApi(LoadApi):
    """`/v1/completions`."""

    name = "completions"
    path = "/completions"

    def body(self, ask: Ask) -> bytes:
        prompt: object = ask.text if ask.token_ids is None else ask.token_ids
        if not prompt and ask.messages:
            prompt = "\n".join(str(message.get("content") or "") for message in ask.messages)
        body: dict[str, Any] = {"model": ask.model, "prompt": prompt, "stream": ask.stream}
        return json_body(ask, body | generation_keys(ask))

    def reader(self) -> ChoicesReader:
        return ChoicesReader()
