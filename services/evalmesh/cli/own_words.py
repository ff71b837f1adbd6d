"""Fields of a spec in the words of whoever typed them: the keys of a config, which are the names of flags too."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from evalmesh.domain.errors import EvalmeshError


class OwnWords:
    """The keys of one config, by the fields of the spec that is made of it."""

    def __init__(self, keys: Mapping[str, str], parts: str, others: Mapping[str, str] | None = None) -> None:
        """`parts`: a pattern of what paths in messages begin with; `others`: words in messages that are no paths."""
        self._keys = keys
        self._path = re.compile(rf"^[a-z_]+(?=:)|\b(?:{parts})(?:\.[a-z_]+(?:\[\d+\])?)+")
        self._others = others or {}

    def said(self, error: EvalmeshError) -> EvalmeshError:
        """The same error in these words."""
        message = self._path.sub(lambda found: self._key_of(found[0]), error.message)
        for ours, typed in self._others.items():
            message = message.replace(ours, typed)
        field = error.details.get("field")
        named = {} if field is None else {"field": self._key_of(field)}
        return type(error)(message, {**error.details, **named})

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """What is raised inside is said in these words."""
        try:
            yield
        except EvalmeshError as error:
            raise self.said(error) from error

    def _key_of(self, path: str) -> str:
        """Of the longest field that is known; others are called as in the spec, without the part they are in."""
        head, parts = path, list[str]()
        while head and head not in self._keys:
            head, _, last = head.rpartition(".")
            parts.insert(0, last)
        return ".".join([self._keys[head], *parts]) if head else path.rpartition(".")[2]
