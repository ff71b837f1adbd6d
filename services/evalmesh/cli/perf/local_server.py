"""`evalmesh perf --api local`, `local_vllm`: an engine on this machine, started for a load test and stopped after it.

The engine is a child in a session of its own: Ctrl-C in the terminal does not reach it, and it ends with us, however we
end (`process/guard.py`). Its output goes to a log file, whose last lines are part of every message about its death.
"""

import asyncio
import shlex
import shutil
import socket
import sys
import sysconfig
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

import aiohttp

from evalmesh.domain.errors import DeadlineExceeded, FailedPrecondition, InvalidInput, Unavailable
from evalmesh.process.child import Child, Command, ending, last_lines
from evalmesh.process.environment import everything

LOCAL = "local"
LOCAL_VLLM = "local_vllm"

_HOST = "127.0.0.1"
_GRACE_S = 10.0
_POLL_S = 0.1
_ASK_S = 2.0
_TAIL_LINES = 12
_STARTING = frozenset({502, 503, 504})
_WAYS_OUT = "Or start the server yourself and give --url, or give --server-command with {port} and {model} in it."


@asynccontextmanager
async def serving(  # noqa: PLR0913 - one keyword each for what the command line offers
    kind: str,
    model: str,
    *,
    command: str | None = None,
    port: int | None = None,
    attn_implementation: str | None = None,
    log_file: Path,
    ready_timeout_s: float = 1800.0,
) -> AsyncIterator[str]:
    """Starts a server and yields its base URL, which ends in `/v1`, once it answers; stops it at the end.

    Args:
        kind: `local` (Hugging Face transformers), `local_vllm`; any name with a `command`.
        model: Name or folder of the model.
        command: What to start instead, with `{port}` and `{model}` (and `{host}`) where they belong.
        port: `None`: a free one.
        attn_implementation: For `local`, see transformers.
        log_file: Receives all the server writes; begun anew.
        ready_timeout_s: Longest wait for the model to be loaded.

    Raises:
        InvalidInput: The kind, the command or an option does not fit.
        FailedPrecondition: The engine is not installed, or the port is taken.
        Unavailable: The server ended: while it was waited for, or (at the end of the context) while it was used.
        DeadlineExceeded: It was not ready in time.
    """
    port = _free_port() if port is None else _checked(port)
    words = _filled(command, model, port) if command else _engine(kind, model, port, attn_implementation)
    server = _Server(words, log_file)
    try:
        url = f"http://{_HOST}:{port}/v1"
        await _wait_ready(server, url, ready_timeout_s)
        yield url
        server.check()
    finally:
        await server.end()


class _Server:
    """The engine, under its guard."""

    def __init__(self, words: list[str], log_file: Path) -> None:
        log_file.parent.mkdir(parents=True, exist_ok=True)
        log_file.write_text(f"$ {shlex.join(words)}\n")
        self._log_file = log_file
        # The user's own program gets the user's own environment, a hub's token in it.
        self._child = Child(Command(words, everything(), log_file, guard_s=_GRACE_S))

    def check(self) -> None:
        """Raises `Unavailable` when the engine has ended."""
        if not self._child.alive:
            raise Unavailable(
                f"The local server ended with {ending(self._child.ended.result())}. The last lines of its log "
                f"({self._log_file}):\n{self.log_tail()}"
            )

    async def end(self) -> None:
        """Gently, then by force. That is the guard's work, and done whatever becomes of us."""
        self._child.terminate()
        await asyncio.to_thread(self._child.end, _GRACE_S + 1)

    def log_tail(self) -> str:
        return "\n".join(f"  {line}" for line in last_lines(self._log_file, _TAIL_LINES))


async def _wait_ready(server: _Server, url: str, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_ASK_S)) as session:
        while True:
            server.check()
            if await _is_ready(session, url):
                server.check()
                return
            if time.monotonic() > deadline:
                raise DeadlineExceeded(
                    f"The local server was not ready within {timeout_s:g} s; allow more, or see the last lines of its "
                    f"log:\n{server.log_tail()}"
                )
            await asyncio.sleep(_POLL_S)


async def _is_ready(session: aiohttp.ClientSession, url: str) -> bool:
    """The llama.cpp server lists its model before it is loaded, and says so at `/health`; others have no `/health`."""
    models = await _status(session, f"{url}/models")
    if models is None or models >= 500:
        return False
    health = await _status(session, f"{url.removesuffix('/v1')}/health")
    return health is not None and health not in _STARTING


async def _status(session: aiohttp.ClientSession, url: str) -> int | None:
    try:
        async with session.get(url, allow_redirects=False) as answer:
            return answer.status
    except (aiohttp.ClientError, OSError, TimeoutError):
        return None


def _engine(kind: str, model: str, port: int, attn_implementation: str | None) -> list[str]:
    address = ["--host", _HOST, "--port", str(port)]
    if kind == LOCAL:
        words = [*_transformers(), "serve", model, *address]
        return [*words, "--attn-implementation", attn_implementation] if attn_implementation else words
    if kind == LOCAL_VLLM:
        if attn_implementation:
            raise InvalidInput(
                "attn_implementation is an option of --api local; vLLM takes its own from --server-command "
                "'vllm serve {model} --port {port} --attention-backend ...'.",
                {"field": "attn_implementation"},
            )
        return [*_vllm(model), *address]
    raise InvalidInput(f"There is no local engine {kind!r}; there are {LOCAL} and {LOCAL_VLLM}.", {"field": "api"})


def _transformers() -> list[str]:
    own = find_spec("transformers") is not None
    missing = [name for name in ("torch", "fastapi", "uvicorn") if own and find_spec(name) is None]
    program = _program("transformers")
    if missing or program is None:
        what = f"it lacks {' and '.join(missing)} here" if missing else "it is not installed"
        raise FailedPrecondition(
            f"--api {LOCAL} serves the model with Hugging Face transformers (5 or newer), and {what}; "
            f"pip install 'transformers[serving]' torch. {_WAYS_OUT}"
        )
    return [program]


def _vllm(model: str) -> list[str]:
    program = _program("vllm")
    if program is not None:
        return [program, "serve", model]
    if find_spec("vllm") is not None:
        return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model]
    raise FailedPrecondition(
        f"--api {LOCAL_VLLM} serves the model with vLLM, and it is not installed; pip install vllm. {_WAYS_OUT}"
    )


def _program(name: str) -> str | None:
    """Of this environment, else of one in PATH: engines often live in an environment of their own."""
    return shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)


def _filled(command: str, model: str, port: int) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise InvalidInput(
            f"--server-command cannot be split into words: {error}.", {"field": "server_command"}
        ) from None
    if "{port}" not in command or not words:
        raise InvalidInput(
            "--server-command must have {port} in it, where the server is told which port to listen on.",
            {"field": "server_command"},
        )
    # Not str.format: a command may hold JSON.
    filled = [word.replace("{port}", str(port)).replace("{model}", model).replace("{host}", _HOST) for word in words]
    if shutil.which(filled[0]) is None:
        raise FailedPrecondition(f"--server-command: there is no program {filled[0]!r} in PATH.")
    return filled


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _checked(port: int) -> int:
    """Whoever else listens there would be taken for our server."""
    with socket.socket() as probe:
        # As servers do; else connections of the server before would keep the port for a minute.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError as error:
            raise FailedPrecondition(
                f"Port {port} cannot be listened on ({error.strerror}); end what uses it, or leave the port out: "
                "a free one is taken."
            ) from None
    return port
