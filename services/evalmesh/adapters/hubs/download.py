"""One file of a hub, brought whole: what is there already is kept, and nothing is believed that does not add up."""

import asyncio
import errno
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import aiohttp
from yarl import URL

from evalmesh.adapters.hubs.http import HubHttp, Refused, Reply, Trouble
from evalmesh.adapters.hubs.routes import file_path, meaning
from evalmesh.domain.errors import Conflict, ResourceExhausted
from evalmesh.domain.hub import RepoFile, Snapshot, is_commit

Note = Callable[[int], None]
"""Told of so many more bytes; fewer than none where a part had to be thrown away."""
_PIECE_BYTES = 1 << 20
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_SHA256 = re.compile(r"[0-9a-f]{64}")


async def download(http: HubHttp, snapshot: Snapshot, file: RepoFile, part: Path, note: Note) -> str:
    """Brings the file to `part`, going on where an earlier try stopped, and returns its sha256.

    Raises `Conflict` when the hub has other bytes there than the snapshot says, `ResourceExhausted` for a full disk,
    `Unavailable` when the hub does not give the file.
    """
    one = _Download(http, snapshot, file, part, note)
    for _ in range(2):
        try:
            await http.persist(one.some, one.size)
        except Refused as refused:
            if refused.status in {401, 403}:
                raise await meaning(http, snapshot.repo, snapshot.revision, refused) from None
            raise Conflict(
                f"{snapshot.repo} does not give {file.path} any more ({refused.status}{_said(refused)}), which it "
                "listed; it may have changed in between."
            ) from None
        sums = await asyncio.to_thread(_sums, part, file)
        if _adds_up(file, sums):
            return sums[0]
        # Either a part that was left by an interrupted download is no beginning of this file, or the file has changed.
        one.drop()
    raise Conflict(
        f"{snapshot.repo} gives another {file.path} than it announced for {snapshot.revision} ({snapshot.commit}): its "
        "bytes do not have the announced sum. It has changed in between, or something on the way changes it."
    )


class _Download:
    """One file, as far as it has come."""

    def __init__(self, http: HubHttp, snapshot: Snapshot, file: RepoFile, part: Path, note: Note) -> None:
        # A revision that never moves where there is one; of the others the sums tell that they have moved.
        revision = snapshot.commit if is_commit(snapshot.commit) else snapshot.revision
        self._url = URL(http.access.endpoint + file_path(snapshot.repo, revision, file.path), encoded=True)
        self._http = http
        self._snapshot = snapshot
        self._file = file
        self._part = part
        self._note = note
        self._told = 0
        self._tell()

    def size(self) -> int:
        """Bytes there are."""
        return size_of(self._part)

    def drop(self) -> None:
        """Begins anew."""
        self._part.unlink(missing_ok=True)
        self._tell()

    def _tell(self) -> None:
        now = self.size()
        self._note(now - self._told)
        self._told = now

    async def some(self) -> None:
        """One try, from where the last one stopped. Raises `Trouble`."""
        start = self.size()
        if start > self._file.size_bytes:
            self.drop()
            start = 0
        if start and start == self._file.size_bytes:
            return
        async with self._http.get(self._url, {"Range": f"bytes={start}-"} if start else {}) as reply:
            _check_announced(self._snapshot, self._file, reply)
            begins = _begin_of(reply.response, start, self._file)
            if begins is None:
                self.drop()
                raise Trouble("it does not go on where a download was broken off")
            await self._write(reply, begins)
        if self.size() < self._file.size_bytes:
            raise Trouble("it broke the connection off")

    async def _write(self, reply: Reply, begins: int) -> None:
        left = self._file.size_bytes - begins
        with _opened(self._part, "ab" if begins else "wb") as target:
            async for piece in reply.response.content.iter_chunked(_PIECE_BYTES):
                left -= len(piece)
                if left < 0:
                    raise Conflict(
                        f"{self._snapshot.repo} gives more bytes for {self._file.path} than the "
                        f"{self._file.size_bytes} it announced; it has changed in between."
                    )
                await asyncio.to_thread(_put, target, piece)
                self._tell()


def _begin_of(response: aiohttp.ClientResponse, start: int, file: RepoFile) -> int | None:
    """Where the bytes of this answer belong; `None`: nowhere."""
    if response.status == 416:
        return None
    if response.status != 206:
        return 0
    found = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
    fits = found is not None and int(found[1]) == start and found[2] in {"*", str(file.size_bytes)}
    return start if fits else None


def _check_announced(snapshot: Snapshot, file: RepoFile, reply: Reply) -> None:
    """Before a byte is read. Raises `Conflict`."""
    commit = reply.announced.get("x-repo-commit", "")
    etag = reply.announced.get("x-linked-etag", "").removeprefix("W/").strip('"').lower()
    moved = is_commit(commit) and is_commit(snapshot.commit) and commit != snapshot.commit
    other = bool(file.sha256) and _SHA256.fullmatch(etag) is not None and etag != file.sha256
    if moved or other:
        what = f"is at {commit}" if moved else f"announces the sum {etag[:12]}... for it, not {file.sha256[:12]}..."
        raise Conflict(
            f"{file.path} of {snapshot.repo} was to be fetched at {snapshot.commit}, and the hub {what}: it has "
            "changed in between."
        )


def _opened(part: Path, mode: str) -> BinaryIO:
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        return part.open(mode, buffering=0)  # type: ignore[return-value]  # both modes are binary
    except OSError as error:
        raise _disk(part, error) from error


def _put(target: BinaryIO, piece: bytes) -> None:
    left = memoryview(piece)
    try:
        while left:
            # Unbuffered: what is counted as there is there, and a full disk is met here and not at the end.
            left = left[target.write(left) :]
    except OSError as error:
        raise _disk(Path(str(target.name)), error) from error


def _disk(part: Path, error: OSError) -> ResourceExhausted:
    full = error.errno in {errno.ENOSPC, errno.EDQUOT}
    way = "free space, or set EVALMESH_HUB_CACHE to another folder" if full else "set EVALMESH_HUB_CACHE to a folder"
    return ResourceExhausted(
        f"What is downloaded cannot be written to '{part.parent}' ({(error.strerror or str(error)).lower()}); {way}"
        f"{'' if full else ' that may be written to'}."
    )


def size_of(part: Path) -> int:
    """Bytes there are; 0 where there is no such file."""
    try:
        return part.stat().st_size
    except OSError:
        return 0


def _sums(path: Path, file: RepoFile) -> tuple[str, str]:
    """(sha256, the name Git has for these bytes)."""
    size_bytes = size_of(path)
    sha256, git = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size_bytes, usedforsecurity=False)
    with path.open("rb") as opened:
        while piece := opened.read(_PIECE_BYTES):
            sha256.update(piece)
            if file.git_oid:
                git.update(piece)
    return sha256.hexdigest(), git.hexdigest()


def _adds_up(file: RepoFile, sums: tuple[str, str]) -> bool:
    """By the sum that was announced; where none was, the size has to do."""
    if file.sha256:
        return sums[0] == file.sha256
    return not file.git_oid or sums[1] == file.git_oid


def _said(refused: Refused) -> str:
    return f" {refused.told}" if refused.told else ""
