"""Content digests: what may be reused, and what must be done again.

The generation digest covers everything that can change a completion: the model's identity, the data set, the
benchmark's version, the rendered prompt (few-shot and template are in it, media by sha256), the tools, the generation
options and the repeat.
The scoring digest adds what can change a score.
"""

import dataclasses
import hashlib
import json
from typing import Any

from evalmesh.domain.request import GenerationConfig, Message
from evalmesh.domain.run import OWN_ENGINES, ModelSpec
from evalmesh.domain.shard_data import PlannedSample

_REMEMBERED = 1024
_REMEMBERED_BYTES = 16 << 10
"""Of one message: many long documents would fill the process."""
_HOW_IT_IS_RUN = frozenset({"data_parallel", "devices", "batch_size", "batch_tokens"})
"""Options of our own engines that change no answer."""
_MORE = "\0more"
"""Stands where a role would, and is none."""
_ROLLING = "\0rolling"
"""Comes after the texts of a rolling request."""
_CONTEXTS = "\0contexts"
_FOLLOWUPS = "\0followups"


def canonical_json(value: Any) -> bytes:
    """Equal values give equal bytes: sorted keys, no spaces, dataclasses as objects."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_plain).encode()


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            f.name: found
            for f in dataclasses.fields(value)
            if (found := getattr(value, f.name)) != f.default or f.metadata.get("digest") != "when set"
        }
    raise TypeError(f"cannot digest a {type(value).__name__}")


def sha256_hex(data: bytes) -> str:
    """Lower-case hex."""
    return hashlib.sha256(data).hexdigest()


def model_identity(model: ModelSpec) -> dict[str, Any]:
    """What makes two model specs the same model: nothing that cannot change an answer, such as keys or timeouts.

    The address is left out too: a server that comes back on another port still serves what it was paid for. Reuse is
    only from runs that the user names, who thereby says that the name means the same model.
    """
    identity: dict[str, Any] = {
        "name": model.name,
        "engine": model.engine,
        "kind": model.kind,
        "args": dict(model.args),
    }
    if model.engine in OWN_ENGINES:
        identity["args"] = {name: value for name, value in model.args.items() if name not in _HOW_IT_IS_RUN}
    if model.weights:
        # The same folder may hold another checkpoint tomorrow, and another folder a copy of this one.
        identity |= {"name": "", "weights": model.weights}
    return identity


def pool_id(model: ModelSpec) -> str:
    """Name of the pool that serves this model with these connection settings; safe as a subject token."""
    readable = (
        "".join(c if c.isascii() and c.isalnum() else "-" for c in model.label.lower()).strip("-")[:32] or "model"
    )
    return f"{readable}-{sha256_hex(canonical_json(model))[:10]}"


class GenerationDigest:
    """Computes generation digests of one benchmark; the common part is hashed once."""

    def __init__(
        self, model: ModelSpec, benchmark: str, version: int, dataset_digest: str, config: GenerationConfig
    ) -> None:
        common = {
            "model": model_identity(model),
            "benchmark": benchmark,
            "version": version,
            "dataset": dataset_digest,
            "generation": config,
        }
        self._common = hashlib.sha256(canonical_json(common))
        self._known: dict[int, tuple[Message, bytes]] = {}
        """Framed messages by identity: solved examples come again with every sample. The message keeps its id taken."""

    def of(self, planned: PlannedSample, repeat: int) -> str:
        """Digest of one repeat; `planned.digests` is not looked at."""
        digest = self._common.copy()
        before = (planned.sample.id, planned.kind, planned.prompt, str(repeat))
        digest.update(b"".join([*map(_framed, before), *map(self._message, planned.messages)]))
        # Marks that no text can be make it another question; so requests of before the fields keep their digest.
        parts = [*planned.continuations, *([_ROLLING] if planned.rolling else [])]
        parts += [_CONTEXTS, *planned.contexts] if planned.contexts else []
        parts += [_FOLLOWUPS, *planned.followups] if planned.followups else []
        if not all(message.plain for message in planned.messages) or planned.tools or planned.tool_choice:
            # What a plain text cannot say comes after it, so that plain requests keep the digest they always had.
            parts += [_MORE, canonical_json([planned.messages, planned.tools, planned.tool_choice]).decode()]
        digest.update(b"".join(map(_framed, parts)))
        return digest.hexdigest()

    def _message(self, message: Message) -> bytes:
        known = self._known.get(id(message))
        if known is not None:
            return known[1]
        framed = _framed(message.role) + _framed(message.text)
        if len(framed) <= _REMEMBERED_BYTES:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[id(message)] = (message, framed)
        return framed


def _framed(part: str) -> bytes:
    """With its length, so that two texts never run together."""
    data = part.encode()
    return len(data).to_bytes(8, "big") + data
