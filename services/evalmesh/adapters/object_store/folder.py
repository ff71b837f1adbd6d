"""Objects as files under a folder."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from stat import S_ISREG

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore

from evalmesh.adapters.object_store.base import ObstoreObjectStore
from evalmesh.adapters.object_store.failures import folder_failure, os_error_number
from evalmesh.adapters.object_store.keys import RESERVED_PREFIX, check_key, check_prefix, is_staging
from evalmesh.domain.errors import EvalmeshError, NotFound, Unavailable
from evalmesh.ports.object_store import ObjectInfo

_LIST_BATCH = 1000
_READS = frozenset({"get", "look-up"})
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR})


class FolderObjectStore(ObstoreObjectStore):
    """One file per object.

    A write goes to `name#N` in the same folder, then a rename (`put`) or a hard link (`create`) makes it visible, so a
    writer killed at any moment leaves at most such a file, which no call shows. Nothing is fsynced: a power cut, unlike
    a kill, may lose objects written in the last seconds.

    A folder that vanished (unmounted, moved away) is `Unavailable`: obstore alone would create it anew and let a full
    run look empty.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(LocalStore(folder), folder.as_uri())
        self._folder = folder
        self._where = str(folder)

    def _failure(self, error: BaseException, action: str) -> EvalmeshError:
        self._require_folder()
        if action.partition(" ")[0] in _READS and os_error_number(error) in _ABSENT:
            return NotFound(f"The {action} in the object store {self._label} failed: there is no such object.")
        return folder_failure(error, self._label, action)

    def _require_folder(self) -> None:
        if not os.path.isdir(self._where):  # noqa: PTH112  (with every write: a Path takes four times as long)
            raise Unavailable(
                f"The object store's folder {self._folder} is gone. Mount or restore it, or restart to create it anew."
            )

    @contextmanager
    def _translated(self, verb: str, key: str) -> Iterator[None]:
        # Reading an object shows that the folder is there, and failing to read one looks for it.
        if verb not in _READS:
            self._require_folder()
        with super()._translated(verb, key):
            yield

    async def exists(self, key: str) -> bool:
        # Every step looks for its own output first, and through the threads of obstore that takes ten times as long.
        path = f"{self._where}/{check_key(key)}"
        try:
            return S_ISREG(os.stat(path).st_mode)  # noqa: PTH116  (as above)
        except OSError as error:
            if error.errno in _ABSENT:
                self._require_folder()
                return False
            raise self._failure(error, f"look-up of {key!r}") from error

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        walk = _walk(self._folder, check_prefix(prefix).rpartition("/")[0], prefix)
        while True:
            with self._translated("list", prefix):
                batch = await asyncio.to_thread(lambda: list(islice(walk, _LIST_BATCH)))
            for info in batch:
                yield info
            if len(batch) < _LIST_BATCH:
                return

    async def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            check_key(key)
        for key in keys:
            with self._translated("delete", key):
                try:
                    await obstore.delete_async(self._backend, key)
                except (BaseError, OSError) as error:
                    if os_error_number(error) not in _ABSENT:
                        raise


def _walk(root: Path, folder: str, prefix: str) -> Iterator[ObjectInfo]:
    """Files below `folder` whose key starts with `prefix`, in key order; holds one folder's names per level."""
    base = f"{folder}/" if folder else ""
    try:
        with os.scandir(root / folder) as entries:
            # Checkpoints of one shard are looked for among the files of all shards: most names end here.
            wanted = (entry for entry in entries if entry.name.startswith(prefix[len(base) :]))
            found = sorted((base + entry.name + ("/" if entry.is_dir() else ""), entry) for entry in wanted)
    except (FileNotFoundError, NotADirectoryError):
        return
    for path, entry in found:
        # The reserved folder lies at the top only, where paths and keys agree.
        if path == RESERVED_PREFIX:
            continue
        if path.endswith("/"):
            yield from _walk(root, path[:-1], prefix)
        elif not is_staging(entry.name):
            try:
                found_stat = entry.stat()
                yield ObjectInfo(path, found_stat.st_size, found_stat.st_mtime)
            except FileNotFoundError:
                continue
