"""Local copies of uploaded data sets and tokenizers: a feeder wants files it can seek in."""

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import mkdtemp

import msgspec

from evalmesh.domain import layout
from evalmesh.domain.errors import InvalidInput, NotFound
from evalmesh.domain.load_test import PromptSpec
from evalmesh.load_generator.scratch import Scratch
from evalmesh.ports.object_store import ObjectStore

_TOKENIZER_FILES = re.compile(r"[A-Za-z0-9_.-]+\.(?:json|jinja|txt|model)")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class LocalCopies:
    """What this process fetched. Each copy was checked against its digest, in a folder nobody else can write to."""

    def __init__(self, objects: ObjectStore, scratch: Scratch) -> None:
        self._objects = objects
        self._scratch = scratch
        self._copies: dict[str, Path] = {}
        self._lock = asyncio.Lock()

    async def data_set(self, prompts: PromptSpec) -> str:
        """Path of the data set file; empty when there is none. Raises `NotFound`, `InvalidInput`."""
        digest = prompts.file_digest
        return str(await self._once(digest, lambda: self._download(digest, "file_digest"))) if digest else ""

    async def tokenizer(self, prompts: PromptSpec) -> str:
        """Path of the tokenizer's folder; empty when there is none. Raises `NotFound`, `InvalidInput`."""
        digest = prompts.tokenizer_digest
        return str(await self._once(f"tokenizer {digest}", lambda: self._unpacked(digest))) if digest else ""

    async def _once(self, name: str, make: Callable[[], Awaitable[Path]]) -> Path:
        async with self._lock:
            path = self._copies.get(name)
            if path is None or not path.is_relative_to(self._scratch.folder) or not path.exists():
                path = self._copies[name] = await make()
            return path

    def _new(self, name: str) -> Path:
        return Path(mkdtemp(dir=self._scratch.folder)) / name

    async def _unpacked(self, digest: str) -> Path:
        packed = await self._download(digest, "tokenizer_digest")
        try:
            return await asyncio.to_thread(_unpack, packed, self._new("tokenizer"))
        finally:
            packed.unlink()

    async def _download(self, digest: str, field: str) -> Path:
        where = {"field": f"prompts.{field}"}
        if not _DIGEST.fullmatch(digest):
            raise InvalidInput(
                f"prompts.{field}: {digest[:80]!r} is no sha256; upload the file and use the digest that comes back.",
                where,
            )
        path, found, complete = self._new("file"), hashlib.sha256(), False
        try:
            with path.open("xb") as file:
                async for piece in self._objects.stream(layout.load_file_key(digest)):
                    found.update(piece)
                    file.write(piece)
            complete = found.hexdigest() == digest
        except NotFound as error:
            raise NotFound(f"prompts.{field}: there is no uploaded file {digest}; upload it first.", where) from error
        finally:
            if not complete:
                path.unlink(missing_ok=True)
        if not complete:
            raise InvalidInput(
                f"prompts.{field}: what is stored under {digest} has another digest; upload the file again.", where
            )
        return path


def _unpack(packed: Path, folder: Path) -> Path:
    """A tokenizer travels as one JSON object: file names and their texts."""
    where = {"field": "prompts.tokenizer_digest"}
    try:
        files = msgspec.json.decode(packed.read_bytes(), type=dict[str, str])
    except msgspec.DecodeError as error:
        raise InvalidInput(
            f"prompts.tokenizer_digest: the uploaded file is no packed tokenizer: {error}; it is a JSON object of "
            "file names and texts.",
            where,
        ) from error
    folder.mkdir()
    for name, text in files.items():
        if not _TOKENIZER_FILES.fullmatch(name):
            raise InvalidInput(f"prompts.tokenizer_digest: {name[:80]!r} is no file of a tokenizer.", where)
        (folder / name).write_text(text, encoding="utf-8")
    return folder
