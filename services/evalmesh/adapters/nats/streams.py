"""Streams and buckets: created when missing, brought up to date when settings changed."""

from collections.abc import Mapping
from typing import Any

from evalmesh.adapters.nats.connection import ApiError, NatsConnection
from evalmesh.domain.errors import FailedPrecondition

_OTHER_CONFIGURATION = 10058
_NO_STREAM = 10059
_OVERLAPS = 10100
# An operator of a cluster sets these; a service that starts must not undo them.
_OPERATORS = frozenset({"num_replicas", "placement"})


def nanoseconds(seconds: float) -> int:
    """JetStream counts durations in nanoseconds."""
    return round(seconds * 1e9)


async def ensure_stream(connection: NatsConnection, config: Mapping[str, Any]) -> None:
    """Creates the stream, or updates one of the same name.

    Raises:
        FailedPrecondition: a stream of this name exists and cannot be turned into this one.
    """
    name = config["name"]
    try:
        await connection.api(f"STREAM.CREATE.{name}", config)
    except ApiError as error:
        if error.err_code != _OTHER_CONFIGURATION:
            raise error.as_domain() from error
        await _update_stream(connection, config)


async def _update_stream(connection: NatsConnection, config: Mapping[str, Any]) -> None:
    name = config["name"]
    current = (await connection.api(f"STREAM.INFO.{name}"))["config"]
    wanted = {**current, **{key: value for key, value in config.items() if key not in _OPERATORS}}
    if wanted == current:
        return
    try:
        await connection.api(f"STREAM.UPDATE.{name}", wanted)
    except ApiError as error:
        raise FailedPrecondition(
            f"The NATS stream {name} exists and cannot be changed to what this version needs: {error}. "
            "Use another NATS account or server, or remove the stream.",
        ) from error


async def ensure_consumer(connection: NatsConnection, stream: str, config: Mapping[str, Any]) -> None:
    """Creates or updates a consumer with one filter; a missing stream is restored first. Any process may be first.

    Raises `FailedPrecondition` where another consumer of a work queue takes the same subjects.
    """
    call = f"CONSUMER.CREATE.{stream}.{config['name']}.{config['filter_subject']}"
    body = {"stream_name": stream, "config": config}
    try:
        try:
            await connection.api(call, body)
        except ApiError as error:
            if error.err_code != _NO_STREAM:
                raise
            await connection.restore()
            await connection.api(call, body)
    except ApiError as error:
        if error.err_code == _OVERLAPS:
            raise FailedPrecondition(f"Another consumer of {stream} takes what {config['name']} is to take.") from error
        raise error.as_domain() from error
