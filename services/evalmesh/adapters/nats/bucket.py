"""A key-value bucket on JetStream that keeps the newest value of each key.

A plain stream in the layout that every NATS client knows as a bucket (`nats kv get runs ...` works). Reads go
through the stream's leader, so whoever was told of a write sees it.
"""

import base64
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any
from uuid import uuid4

from evalmesh.adapters.nats.connection import ApiError, NatsConnection, decode_answer
from evalmesh.adapters.nats.pull import follow
from evalmesh.adapters.nats.streams import ensure_stream, nanoseconds
from evalmesh.domain.errors import Conflict
from evalmesh.ports.records import Versioned
from evalmesh.wire import subjects

_MARK_TTL = "1h"
_NO_MESSAGE = 10037
# The same refusal, worded for one and for many servers.
_WRONG_SEQUENCE = frozenset({10071, 10164})


class Bucket:
    """Values by key; keys are checked by the caller (`wire.subjects`)."""

    def __init__(self, connection: NatsConnection, name: str, replicas: int) -> None:
        self._connection = connection
        self.name = name
        self._replicas = replicas
        self._stream = subjects.bucket_stream(name)
        self._prefix = subjects.bucket_subject(name, "")

    async def ensure(self) -> None:
        """Creates the bucket when it is missing. Raises `Unavailable`, `FailedPrecondition`, `ResourceExhausted`."""
        config = {
            "name": self._stream,
            "subjects": [f"{self._prefix}>"],
            "storage": "file",
            "num_replicas": self._replicas,
            "max_msgs_per_subject": 1,
            "discard": "new",
            "allow_rollup_hdrs": True,
            "deny_delete": True,
            "allow_direct": False,
            "allow_msg_ttl": True,
            "duplicate_window": nanoseconds(120),
        }
        await ensure_stream(self._connection, config)

    async def get(self, key: str) -> Versioned[bytes] | None:
        """The newest value; `None` when there is none. Raises `Unavailable`."""
        message = await self._last(key)
        if message is None:
            return None
        return Versioned(base64.b64decode(message.get("data", "")), int(message["seq"]))

    async def put(self, key: str, value: bytes, expected: int | None = None) -> int:
        """Writes; returns the new revision.

        Args:
            key: Where.
            value: What.
            expected: The revision that must be the newest; 0: the key must not exist; `None`: whatever is there.

        Raises:
            Conflict: `expected` is not the newest revision.
            Unavailable: the server cannot be reached.
        """
        write_id = uuid4().hex
        return await self._write(key, value, {"Nats-Msg-Id": write_id}, expected)

    async def _write(self, key: str, value: bytes, headers: dict[str, str], expected: int | None) -> int:
        write_id = headers["Nats-Msg-Id"]
        if expected is not None:
            headers["Nats-Expected-Last-Subject-Sequence"] = str(expected)
        answer = await self._connection.request(f"{self._prefix}{key}", value, headers)
        try:
            return int(decode_answer(answer.data)["seq"])
        except ApiError as error:
            if error.err_code not in _WRONG_SEQUENCE:
                raise error.as_domain() from error
        # Refused, perhaps because this very write went through before the connection broke and was then repeated.
        newest = await self._last_mark(key)
        if newest is not None and write_id.encode() in base64.b64decode(newest.get("hdrs", "")):
            return int(newest["seq"])
        found = newest["seq"] if newest is not None else 0
        raise Conflict(
            f"{self.name}/{key} is at revision {found}, not {expected}: somebody else changed it. "
            "Read it again and redo the change.",
            {"key": key},
        )

    async def remove(self, key: str, expected: int | None = None) -> None:
        """Watchers are told that the key is gone; the mark that says so goes by itself. Raises as `put` does."""
        headers = {"Nats-Msg-Id": uuid4().hex, "KV-Operation": "DEL", "Nats-TTL": _MARK_TTL}
        await self._write(key, b"", headers, expected)

    async def forget(self, pattern: str) -> None:
        """Takes keys away without telling watchers."""
        try:
            await self._connection.api(f"STREAM.PURGE.{self._stream}", {"filter": f"{self._prefix}{pattern}"})
        except ApiError as error:
            raise error.as_domain() from error

    async def keys(self, pattern: str) -> Sequence[str]:
        """Keys that match a subject pattern. Raises `Unavailable`."""
        keys: list[str] = []
        while True:
            request = {"subjects_filter": f"{self._prefix}{pattern}", "offset": len(keys)}
            try:
                info = await self._connection.api(f"STREAM.INFO.{self._stream}", request)
            except ApiError as error:
                raise error.as_domain() from error
            page = info["state"].get("subjects") or {}
            keys += [subject.removeprefix(self._prefix) for subject in page]
            if not page or len(keys) >= info.get("total", 0):
                return keys

    async def watch(self, pattern: str = ">") -> AsyncIterator[tuple[str, bytes | None]]:
        """The newest value of every key, then changes, without end; after a broken connection values may repeat.

        `None`: the key was removed.
        """

        def start(_seen: int) -> dict[str, object]:
            return {"deliver_policy": "last_per_subject"}

        async for msg in follow(self._connection, self._stream, f"{self._prefix}{pattern}", start):
            removed = msg.headers is not None and "KV-Operation" in msg.headers
            yield msg.subject.removeprefix(self._prefix), None if removed else msg.data

    async def _last(self, key: str) -> Mapping[str, Any] | None:
        message = await self._last_mark(key)
        if message is None or b"KV-Operation" in base64.b64decode(message.get("hdrs", "")):
            return None
        return message

    async def _last_mark(self, key: str) -> Mapping[str, Any] | None:
        """Also where it says that the key is gone."""
        try:
            answer = await self._connection.api(
                f"STREAM.MSG.GET.{self._stream}", {"last_by_subj": f"{self._prefix}{key}"}
            )
        except ApiError as error:
            if error.err_code == _NO_MESSAGE:
                return None
            raise error.as_domain() from error
        message: Mapping[str, Any] = answer["message"]
        return message
