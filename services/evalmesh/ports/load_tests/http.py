"""How the load generator's engine sends requests."""

from typing import Protocol

from evalmesh.load.exchange import Exchange


class LoadTransport(Protocol):
    """The connections to one endpoint.

    A transport is made with a function that it calls with each exchange that has ended: once per exchange that was
    sent, never from within `send` or `cancel`, and never for one that was cancelled.
    """

    opened: int
    """Connections opened so far."""

    def send(self, exchange: Exchange) -> None:
        """Begins an exchange; returns at once. Does not raise.

        A connection that the server closed while it was idle, so that the request crossed its end on the way, is no
        failure: the request is sent once more, on a new connection, and keeps its first time of sending.
        """

    def cancel(self, exchange: Exchange) -> None:
        """Drops an exchange under way, and its connection."""

    async def close(self) -> None:
        """Closes all connections, also those in use."""
