"""Which call an address names, and where the other calls of the same server are. The query belongs to every one."""

import re
from collections.abc import Mapping
from typing import Literal, NamedTuple
from urllib.parse import urlsplit, urlunsplit

Call = Literal["chat", "completions", "responses", "embeddings", "rerank", "images", "messages", "generate"]

PATHS: Mapping[Call, str] = {
    "chat": "/chat/completions",
    "completions": "/completions",
    "responses": "/responses",
    "embeddings": "/embeddings",
    "rerank": "/rerank",
    "images": "/images/generations",
    "messages": "/messages",
    "generate": "/generate",
}
_ENDINGS: tuple[tuple[str, Call | None], ...] = (
    # The longer ones first.
    ("/chat/completions", "chat"),
    ("/completions", "completions"),
    ("/responses", "responses"),
    ("/embeddings", "embeddings"),
    ("/reranks", "rerank"),
    ("/rerank", "rerank"),
    ("/images/generations", "images"),
    ("/messages", "messages"),
    ("/models", None),
)
_VERSION = re.compile(r"/v\d+$")
_AZURE = re.compile(r"/openai/deployments/[^/]+$")


class Address(NamedTuple):
    """An address, taken apart."""

    base: str
    """Without the call's path, with the query; never ends in a slash."""
    call: Call | None
    """What the path names; `None`: only the server."""
    ending: str = ""
    """How the path names it."""

    def url(self, call: Call) -> str:
        """Where this call is; the address as it was given, where it names that call."""
        if call == "generate":  # SGLang's own, which is no part of the API under `/v1`
            parts = urlsplit(self.base)
            return urlunsplit(parts._replace(path=_VERSION.sub("", parts.path) + PATHS[call]))
        return self._at(self.ending if call == self.call else PATHS[call])

    @property
    def models_url(self) -> str:
        """Where the list of models is. Azure keeps it above the deployments."""
        parts = urlsplit(self.base)
        path = _AZURE.sub("/openai", parts.path) + "/models"
        return urlunsplit(parts._replace(path=path))

    def _at(self, path: str) -> str:
        parts = urlsplit(self.base)
        return urlunsplit(parts._replace(path=parts.path + path))


def read_address(url: str) -> Address:
    """Takes an address apart. Raises `ValueError` for what is no address at all.

    `http://host:8000`, without any path, means the API that is there under `/v1`.
    """
    parts = urlsplit(url.strip())
    path = parts.path.rstrip("/")
    ending, call = next(((end, call) for end, call in _ENDINGS if path.endswith(end)), ("", None))
    base = path.removesuffix(ending)
    if not base and not ending:
        base = "/v1"
    return Address(urlunsplit(parts._replace(path=base, fragment="")), call, ending)


def key_header(url: str, key: str) -> tuple[str, str]:
    """The header that carries a key: a bearer token, but for the keys of Azure's deployments."""
    if _AZURE.search(urlsplit(read_address(url).base).path) and not key.startswith("eyJ"):
        # What begins like this is a token of Entra, which Azure takes as everybody does.
        return "api-key", key
    return "Authorization", f"Bearer {key}"


def provider_url(model: str) -> str:
    """What stands for a provider whose address only litellm knows: keys are bound to it as to any other host."""
    provider = "".join(letter if letter.isalnum() else "-" for letter in model.partition("/")[0].lower())
    return f"https://{provider.strip('-') or 'none'}.litellm"
