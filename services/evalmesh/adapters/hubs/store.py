"""Hub files in the object store: each of them is downloaded once, however many machines want it."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from evalmesh.domain import layout
from evalmesh.domain.digest import sha256_hex
from evalmesh.domain.errors import InternalError, NotFound
from evalmesh.domain.hub import Repo, RepoFile, Snapshot
from evalmesh.ports.object_store import ObjectStore
from evalmesh.wire.codec import decode_json, encode_json
from evalmesh.wire.pinned_files import put_file

TakeLease = Callable[[str, str, float, float], Awaitable[bool]]
"""(name, holder, now, seconds): `ports.run_store.ControlStore.take_lease`."""
_LEASE_S, _RENEW_S, _LOOK_S = 30.0, 8.0, 1.0


@dataclass(frozen=True, slots=True)
class SharedFiles:
    """`datasets/{sha256}` as a cache of hubs that all machines share."""

    store: ObjectStore
    take_lease: TakeLease
    _holder: str = field(default_factory=lambda: f"hub-{secrets.token_hex(6)}")

    async def listing(self, repo: Repo, commit: str) -> Snapshot | None:
        """All files of a commit, where another machine has looked it up."""
        key = layout.hub_listing_key(repo.folder, commit)
        try:
            return decode_json(Snapshot, await self.store.get(key), key)
        except (NotFound, InternalError):
            return None

    async def remember(self, snapshot: Snapshot) -> None:
        """For the others."""
        await self.store.create(layout.hub_listing_key(snapshot.repo.folder, snapshot.commit), encode_json(snapshot))

    async def has(self, file: RepoFile) -> bool:
        """Whether the file is there for all."""
        sha256 = await self._sha256_of(file)
        return bool(sha256) and await self.store.exists(layout.dataset_key(sha256))

    async def fetch(self, file: RepoFile, part: Path) -> bool:
        """Whether the file was in the store; it is in `part` then."""
        sha256 = await self._sha256_of(file)
        if not sha256 or not await self.store.exists(layout.dataset_key(sha256)):
            return False
        part.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as target:
            async for piece in self.store.stream(layout.dataset_key(sha256)):
                await asyncio.to_thread(target.write, piece)
        return True

    async def keep(self, file: RepoFile, sha256: str, path: Path) -> None:
        """Puts a file that was downloaded there."""
        await put_file(self.store, sha256, path)
        if not file.sha256 and file.git_oid:
            await self.store.create(layout.hub_blob_key(file.git_oid), sha256.encode())

    async def _sha256_of(self, file: RepoFile) -> str:
        if file.sha256 or not file.git_oid:
            return file.sha256
        try:
            return (await self.store.get(layout.hub_blob_key(file.git_oid))).decode()
        except NotFound:
            return ""

    @asynccontextmanager
    async def turn(self, snapshot: Snapshot, others_did: Callable[[], Awaitable[bool]]) -> AsyncIterator[bool]:
        """`True`: it is this machine's turn to download; `False`: others have done so meanwhile."""
        name = f"hub-{sha256_hex(f'{snapshot.repo.folder}@{snapshot.commit}'.encode())[:24]}"
        while not await self._take(name, _LEASE_S):
            if await others_did():
                yield False
                return
            await asyncio.sleep(_LOOK_S)
        renewing = asyncio.create_task(self._renew(name))
        try:
            yield True
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
            await self._take(name, 0.0)

    async def _take(self, name: str, seconds: float) -> bool:
        return await self.take_lease(name, self._holder, time.time(), seconds)

    async def _renew(self, name: str) -> None:
        while True:
            await asyncio.sleep(_RENEW_S)
            await self._take(name, _LEASE_S)
