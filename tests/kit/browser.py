"""A page in a real browser, driven over its debugging protocol."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome")


class Tab:
    """One page, and all that it complained about."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = count(1)
        self.complaints: list[str] = []

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the protocol."""
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": params})
        while True:
            said = await self._socket.receive_json()
            if said.get("method") in {"Runtime.exceptionThrown", "Log.entryAdded", "Page.javascriptDialogOpening"}:
                self.complaints.append(str(said["params"]))
            if said.get("id") == number:
                assert "error" not in said, said
                result: dict[str, Any] = said["result"]
                return result

    async def js(self, expression: str) -> Any:
        """What an expression is."""
        found = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def until(self, expression: str) -> None:
        """Returns when an expression is true."""
        async with asyncio.timeout(30):
            while not await self.js(expression):  # noqa: ASYNC110  (as a reader looks again)
                await asyncio.sleep(0.02)

    async def press(self, *keys: str) -> None:
        """Keys, where the focus is."""
        for key in keys:
            text = {"text": key} if len(key) == 1 else {}
            await self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
            await self.call("Input.dispatchKeyEvent", type="keyUp", key=key)


@asynccontextmanager
async def opened(url: str, *, width: int = 1200, height: int = 900) -> AsyncIterator[Tab]:
    """A page, open; the test is skipped where there is no browser."""
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
        pytest.skip("no Chromium to look at pages with")
    with TemporaryDirectory(prefix="evalmesh-browser-", ignore_cleanup_errors=True) as profile:
        flags = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run")
        place = ("--remote-debugging-port=0", f"--user-data-dir={profile}", f"--window-size={width},{height}")
        process = await asyncio.create_subprocess_exec(
            program, *flags, *place, "about:blank", stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )
        try:
            port = await _port(Path(profile) / "DevToolsActivePort")
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{port}/json") as answer,
            ):
                address = next(one for one in await answer.json() if one["type"] == "page")["webSocketDebuggerUrl"]
                async with session.ws_connect(address, max_msg_size=0) as socket:
                    tab = Tab(socket)
                    for domain in ("Page", "Runtime", "Log"):
                        await tab.call(f"{domain}.enable")
                    await tab.call("Page.navigate", url=url)
                    yield tab
        finally:
            process.kill()
            await process.wait()


async def _port(file: Path) -> int:
    async with asyncio.timeout(30):
        while not (said := await asyncio.to_thread(_said, file)):  # noqa: ASYNC110  (nothing tells that it is there)
            await asyncio.sleep(0.05)
    return int(said.split()[0])


def _said(file: Path) -> str:
    text = file.read_text() if file.exists() else ""
    return text if "\n" in text else ""
