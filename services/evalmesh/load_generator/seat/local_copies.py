"""Local copies of uploaded data sets and tokenizers: a feeder wants files it can seek in."""

import asyncio
import hashlib
import re
import secrets
from pathlib import Path

import msgspec

from evalmesh.domain import layout
from evalmesh.domain.errors import InvalidInput, NotFound
from evalmesh.domain.load_test import PromptSpec
from evalmesh.ports.object_store import ObjectStore

_TOKENIZER_FILES = re.compile(r"[A-Za-z0-9_.-]+\.(?:json|jinja|txt|model)")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class LocalFiles:
    """A folder of what was fetched, by digest."""

    def __init__(self, objects: ObjectStore, folder: Path) -> None:
        self._objects = objects
        self._folder = folder
        self._lock = asyncio.Lock()

    async def data_set(self, prompts: PromptSpec) -> str:
        """Path of the data set file; empty when there is none. Raises `NotFound`, `InvalidInput`."""
        if not prompts.file_digest:
            return ""
        return str(await self._fetch(prompts.file_digest, "file_digest"))

    async def tokenizer(self, prompts: PromptSpec) -> str:
        """Path of the tokenizer's folder; empty when there is none. Raises `NotFound`, `InvalidInput`."""
        if not prompts.tokenizer_digest:
            return ""
        packed = await self._fetch(prompts.tokenizer_digest, "tokenizer_digest")
        folder = packed.with_name(f"{packed.name}-tokenizer")
        if not folder.is_dir():
            await asyncio.to_thread(_unpack, packed, folder)
        return str(folder)

    async def _fetch(self, digest: str, field: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise InvalidInput(
                f"prompts.{field}: {digest[:80]!r} is no sha256; upload the file and use the digest that comes back.",
                {"field": f"prompts.{field}"},
            )
        path = self._folder / digest
        async with self._lock:
            if not path.is_file():
                await self._download(digest, path, field)
        return path

    async def _download(self, digest: str, path: Path, field: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{digest}.{secrets.token_hex(4)}")
        found = hashlib.sha256()
        try:
            with part.open("wb") as file:
                async for piece in self._objects.stream(layout.load_file_key(digest)):
                    found.update(piece)
                    file.write(piece)
            if found.hexdigest() != digest:
                raise InvalidInput(
                    f"prompts.{field}: what is stored under {digest} has another digest; upload the file again.",
                    {"field": f"prompts.{field}"},
                )
            part.replace(path)
        except NotFound as error:
            raise NotFound(
                f"prompts.{field}: there is no uploaded file {digest}; upload it first.", {"field": f"prompts.{field}"}
            ) from error
        finally:
            part.unlink(missing_ok=True)


def _unpack(packed: Path, folder: Path) -> None:
    """A tokenizer travels as one JSON object: file names and their texts."""
    try:
        files = msgspec.json.decode(packed.read_bytes(), type=dict[str, str])
    except msgspec.DecodeError as error:
        raise InvalidInput(
            f"prompts.tokenizer_digest: the uploaded file is no packed tokenizer: {error}; it is a JSON object of "
            "file names and texts.",
            {"field": "prompts.tokenizer_digest"},
        ) from error
    part = folder.with_name(f"{folder.name}.{secrets.token_hex(4)}")
    part.mkdir()
    for name, text in files.items():
        if not _TOKENIZER_FILES.fullmatch(name):
            raise InvalidInput(
                f"prompts.tokenizer_digest: {name[:80]!r} is no file of a tokenizer.",
                {"field": "prompts.tokenizer_digest"},
            )
        (part / name).write_text(text, encoding="utf-8")
    part.replace(folder)
