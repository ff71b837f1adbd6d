"""One nats-server for all platforms on a folder: whoever comes first runs it, and when it goes the next one does.

Port and token stay the same, so clients of the others reconnect and go on; what was confirmed is on disk.
"""

import asyncio
import json
import logging
import time
from contextlib import suppress
from pathlib import Path

from evalmesh.adapters.nats.server import FolderInUse, NatsServerProcess, answers
from evalmesh.domain.errors import EvalmeshError, Unavailable
from evalmesh.runtime.private_files import write_private

_LOG = logging.getLogger(__name__)
_START_S = 20.0
_POLL_S = 0.01
_LOOK_EVERY_S = 0.2


class SharedNats:
    """This process's share in the server of a folder. What is not `async` blocks, for some 20 ms."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "server.json"
        self.server: NatsServerProcess | None = None
        """While this process runs it."""
        self.url = ""
        """Address with the token: a secret."""
        self._at = (0, "")
        """Port and token that clients here were told, which have to stay."""

    def start(self) -> None:
        """Returns once there is a server. Raises `FailedPrecondition`, `Unavailable`."""
        deadline = time.monotonic() + _START_S
        while not (self._take() or self._join()):
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"Another command holds the folder {self._folder}, and its nats-server does not answer; end that "
                    f"command, or see {self._folder / 'nats.log'}."
                )
            time.sleep(_POLL_S)

    def stop(self, *, last: bool) -> None:
        """Ends the server if this process runs it; `last`: nobody else will take it over."""
        if self.server is None:
            return
        if last:
            self._file.unlink(missing_ok=True)
        self.server.stop()
        self.server = None

    async def keep(self, ending: asyncio.Event) -> None:
        """Until `ending`: starts the server again when it dies, and when whoever ran it is gone."""
        while not ending.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(ending.wait(), _LOOK_EVERY_S)
            if ending.is_set() or (self.server is not None and self.server.alive):
                continue
            was_here = self.server is not None
            try:
                taken = await asyncio.to_thread(self._take)
            except EvalmeshError as error:
                _LOG.error("%s", error.message)
                continue
            if taken:
                _LOG.warning(
                    "nats-server ended; it runs again"
                    if was_here
                    else "the command that ran the nats-server of this folder has ended; this one runs it now"
                )

    def _take(self) -> bool:
        """Runs the server, unless another process does."""
        if self.server is not None:
            self.server.stop()
            self.server = None
        port, token = self._known()
        server = NatsServerProcess(self._folder, port, token=token)
        try:
            try:
                server.start(lock_wait_s=0.0)
            except Unavailable:
                if not port:
                    raise
                # Something else listens there by now; whoever still looks for the server there has to start again.
                server = NatsServerProcess(self._folder, token=token)
                server.start(lock_wait_s=0.0)
        except FolderInUse:
            return False
        self.server, self.url, self._at = server, server.url, (server.port, server.token)
        write_private(self._file, json.dumps({"port": server.port, "token": server.token}))
        return True

    def _join(self) -> bool:
        port, token = self._known()
        if not port or not answers(port):
            return False
        self.url, self._at = f"nats://{token}@127.0.0.1:{port}", (port, token)
        return True

    def _known(self) -> tuple[int, str]:
        """Port and token of the server that runs, or ran last."""
        if self._at[0]:
            return self._at
        try:
            known = json.loads(self._file.read_bytes())
            return int(known["port"]), str(known["token"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0, ""
