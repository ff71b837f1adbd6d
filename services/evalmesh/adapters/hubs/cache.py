"""What was downloaded on this machine, in the layout of the Hugging Face cache; and that cache itself, which is read.

{repo}/blobs/{sum}                   the bytes
{repo}/snapshots/{commit}/{path}     a link to them
{repo}/refs/{revision}               the commit that a revision was last
{repo}/listings/{commit}.json        ours alone: all files of the commit, so that a pinned one asks no hub again
"""

import asyncio
import fcntl
import os
import re
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from evalmesh.domain.errors import InternalError, ResourceExhausted
from evalmesh.domain.hub import BRANCHES, Repo, RepoFile, Snapshot, is_commit
from evalmesh.process.files import appearing
from evalmesh.wire.codec import decode_json, encode_json

_SHA256, _GIT_OID = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")
_LOCK_LOOK_S = 0.2
_SAFE_NAME = re.compile(r"[\w.-]{1,128}", re.ASCII)


class HubCache:
    """One folder that is written, and others that are only read."""

    def __init__(self, folder: Path, others: Sequence[Path] = ()) -> None:
        self.folder = folder
        self._others = tuple(others)

    def snapshot_dir(self, repo: Repo, commit: str) -> Path:
        """Where the files of a commit are, or will be."""
        return self.folder / repo.folder / "snapshots" / commit

    def has(self, snapshot: Snapshot, file: RepoFile) -> bool:
        """Whether the file is there; one that another client's cache has is taken from there."""
        path = self.snapshot_dir(snapshot.repo, snapshot.commit) / file.path
        if _size(path) == file.size_bytes:
            return True
        for other in self._others:
            theirs = other / snapshot.repo.folder / "snapshots" / snapshot.commit / file.path
            blob = Path(os.path.realpath(theirs))
            # The name of the bytes is their sum there; what is none (no links on that machine) is not believed.
            if blob.name == file.blob and _size(blob) == file.size_bytes:
                _link(path, blob)
                return True
        return False

    def part(self, snapshot: Snapshot, file: RepoFile) -> Path:
        """Where the file is collected until it is whole."""
        name = file.blob or f"{snapshot.commit}-{file.path.replace('/', '--')}"
        return self.folder / snapshot.repo.folder / "blobs" / f"{name[:200]}.incomplete"

    def keep(self, snapshot: Snapshot, files: Sequence[RepoFile], sha256: str, part: Path) -> None:
        """Takes in a part that is whole, as each of the files, which have the same bytes."""
        blob = part.parent / (files[0].blob or sha256)
        part.replace(blob)
        for file in files:
            _link(self.snapshot_dir(snapshot.repo, snapshot.commit) / file.path, blob)

    def remember(self, snapshot: Snapshot) -> None:
        """That there is such a commit, with these files, and that the revision was it."""
        base = self.folder / snapshot.repo.folder
        try:
            for path, data in (
                (base / "listings" / f"{snapshot.commit}.json", encode_json(snapshot)),
                (base / "refs" / snapshot.revision, snapshot.commit.encode()),
            ):
                if path.name != snapshot.commit:  # a commit refers to itself
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with appearing(path) as file:
                        file.write(data)
        except OSError as error:
            raise ResourceExhausted(
                f"'{self.folder}', where downloads are kept, cannot be written to "
                f"({(error.strerror or str(error)).lower()}); set EVALMESH_HUB_CACHE to another folder."
            ) from error

    def listing(self, repo: Repo, commit: str) -> Snapshot | None:
        """All files of the commit, where they were listed before."""
        path = self.folder / repo.folder / "listings" / f"{commit}.json"
        if _SAFE_NAME.fullmatch(commit) is None:
            return None
        with suppress(OSError, InternalError):
            return decode_json(Snapshot, path.read_bytes(), str(path))
        return None

    def known(self, repo: Repo, revision: str) -> Snapshot | None:
        """What was downloaded of a revision, here or by another client: of several commits the one it was last."""
        for folder in (self.folder, *self._others):
            base = folder / repo.folder
            for commit in _commits(base, repo, revision):
                files = tuple(_files(base / "snapshots" / commit))
                if files:
                    return Snapshot(repo, revision or BRANCHES[repo.hub], commit, files)
        return None

    @asynccontextmanager
    async def locked(self, repo: Repo) -> AsyncIterator[None]:
        """One process of this machine at a time downloads from a repository."""
        path = self.folder / repo.folder / ".lock"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("ab")
        except OSError as error:
            raise ResourceExhausted(
                f"'{self.folder}', where downloads are kept, cannot be written to "
                f"({(error.strerror or str(error)).lower()}); set EVALMESH_HUB_CACHE to another folder."
            ) from error
        with file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    await asyncio.sleep(_LOCK_LOOK_S)
            yield


def _commits(base: Path, repo: Repo, revision: str) -> Iterator[str]:
    """What the revision may be, the surest first; of no revision at all the only commit there is, too."""
    if is_commit(revision):
        yield revision
        return
    ref = base / "refs" / (revision or BRANCHES[repo.hub])
    with suppress(OSError, UnicodeDecodeError):
        if (commit := ref.read_text(encoding="utf-8").strip()) and _SAFE_NAME.fullmatch(commit):
            yield commit
            return
    with suppress(OSError):
        found = sorted(one.name for one in (base / "snapshots").iterdir() if one.is_dir())
        if not revision and len(found) == 1:
            yield found[0]


def _files(folder: Path) -> Iterator[RepoFile]:
    for base, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(base) / name
            blob = Path(os.path.realpath(path)).name
            sums = {"sha256": blob} if _SHA256.fullmatch(blob) else {}
            sums = {"git_oid": blob} if _GIT_OID.fullmatch(blob) else sums
            if path.is_file():
                yield RepoFile(path.relative_to(folder).as_posix(), _size(path), **sums)


def _size(path: Path) -> int:
    """-1 where there is no such file."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _link(path: Path, blob: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    relative = Path(os.path.relpath(blob, path.parent))
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(relative)
    except OSError:  # a file system without links
        shutil.copyfile(blob, fresh)
    fresh.replace(path)


def kept_in(folder: Path) -> Iterator[dict[str, Any]]:
    """What a cache holds: one entry per repository and commit."""
    for base in sorted(folder.glob("*s--*")) if folder.is_dir() else ():
        kind, _, id_ = base.name.removeprefix("modelscope--").partition("--")
        if kind not in {"datasets", "models"}:
            continue
        for one in sorted((base / "snapshots").glob("*")):
            files = list(_files(one))
            if files:
                yield {
                    "hub": "modelscope" if base.name.startswith("modelscope--") else "huggingface",
                    "kind": kind.removesuffix("s"),
                    "id": id_.replace("--", "/", 1),
                    "commit": one.name,
                    "n_files": len(files),
                    "size_bytes": sum(file.size_bytes for file in files),
                    "folder": one,
                }
