"""The hubs as one process may use them: looked up once, downloaded once, checked always."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evalmesh.adapters.hubs import routes
from evalmesh.adapters.hubs.cache import HubCache
from evalmesh.adapters.hubs.download import download
from evalmesh.adapters.hubs.http import PATIENCE_S, HubHttp, Sleep
from evalmesh.adapters.hubs.settings import HubAccess, HubSettings
from evalmesh.adapters.hubs.store import SharedFiles
from evalmesh.domain.connection import Egress, origin_of
from evalmesh.domain.errors import FailedPrecondition
from evalmesh.domain.hub import Repo, RepoFile, Snapshot, is_commit
from evalmesh.ports.hubs import Bringing, Note

_AT_ONCE = 4
"""Files of one repository."""
KeyOf = Callable[[str], str]
"""The key that a connection has for an address; empty: none has."""


@dataclass(frozen=True, slots=True)
class HubRules:
    """What a process may ask, and with what."""

    restricted: bool = False
    """Whether link-local and metadata addresses, and this machine's own ports, are out of reach."""
    key_of: KeyOf = lambda _: ""


class HubClient:
    """Looks repositories up and brings their files to this machine; data sets also to the store that all share."""

    def __init__(
        self,
        settings: HubSettings,
        rules: HubRules | None = None,
        shared: SharedFiles | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._settings = settings
        self._rules = rules or HubRules()
        self._shared = shared
        self._sleep = sleep
        self.cache = HubCache(settings.cache_dir, settings.other_caches)

    @property
    def offline(self) -> str:
        """See the port."""
        return f"{self._settings.offline} is set" if self._settings.offline else ""

    def access(self, repo: Repo) -> HubAccess:
        """How its hub is reached; a connection's key goes before one of the environment."""
        access = self._settings.hubs[repo.hub]
        if key := self._rules.key_of(access.endpoint):
            return replace(access, token=key, token_from=f"the connection to {access.endpoint}")
        return access

    async def look(self, repo: Repo, revision: str, patience_s: float = PATIENCE_S) -> Snapshot:
        """The repository at a revision; empty: its main branch. Errors are those of `routes.look`."""
        repo.check("dataset_id" if repo.kind == "dataset" else "model", revision)
        if is_commit(revision) and (known := await self._listing(repo, revision)) is not None:
            return known
        self._may_ask(repo)
        async with self._http(repo, patience_s) as http:
            found = await routes.look(http, repo, revision)
        await asyncio.to_thread(self.cache.remember, found)
        if self._shared is not None and repo.kind == "dataset":
            await self._shared.remember(found)
        return found

    async def _listing(self, repo: Repo, commit: str) -> Snapshot | None:
        known = await asyncio.to_thread(self.cache.listing, repo, commit)
        if known is None and self._shared is not None and repo.kind == "dataset":
            known = await self._shared.listing(repo, commit)
        return known

    def _may_ask(self, repo: Repo) -> None:
        if self._settings.offline:
            raise FailedPrecondition(
                f"{repo} is not on this machine, and {self.offline}, so no hub is asked.", {"field": "offline"}
            )

    def _http(self, repo: Repo, patience_s: float = PATIENCE_S) -> HubHttp:
        access = self.access(repo)
        host = origin_of(access.endpoint).host
        # Whoever set the hub's address meant it to be asked, on this machine too.
        away, here = Egress(restricted=True), Egress(restricted=True, loopback=True)
        own = away.refuses_name(host) and not here.refuses_name(host)
        return HubHttp(access, Egress(self._rules.restricted, own), self._sleep, patience_s)

    async def bring(self, snapshot: Snapshot, files: Sequence[RepoFile], note: Note | None = None) -> Path:
        """Has the files in the snapshot's folder, which it returns. Errors are those of `download`."""
        folder = self.cache.snapshot_dir(snapshot.repo, snapshot.commit)
        missing = await asyncio.to_thread(self._missing, snapshot, files)
        if not missing:
            return folder
        async with self.cache.locked(snapshot.repo):
            missing = await asyncio.to_thread(self._missing, snapshot, files)
            bringing = _Job(self, snapshot, files, missing, note)
            if self._shared is None or snapshot.repo.kind != "dataset":
                await bringing.download()
                return folder
            while missing := await bringing.from_store(self._shared):
                async with self._shared.turn(snapshot, lambda: self._all_shared(missing)) as ours:
                    # Whose turn was before has perhaps brought it.
                    if ours and await bringing.from_store(self._shared):
                        await bringing.download(self._shared)
        return folder

    async def _all_shared(self, files: Sequence[RepoFile]) -> bool:
        assert self._shared is not None  # noqa: S101  (asked where it is there)
        return all([await self._shared.has(one) for one in files])

    def _missing(self, snapshot: Snapshot, files: Sequence[RepoFile]) -> list[RepoFile]:
        return [one for one in files if not self.cache.has(snapshot, one)]


class _Job:
    """The files of one call, as far as they have come."""

    def __init__(
        self,
        client: HubClient,
        snapshot: Snapshot,
        wanted: Sequence[RepoFile],
        missing: Sequence[RepoFile],
        note: Note | None,
    ) -> None:
        self._client = client
        self._snapshot = snapshot
        self._missing = list(missing)
        self._wanted = wanted
        self._note = note
        self._done_bytes = sum(one.size_bytes for one in wanted) - sum(one.size_bytes for one in missing)

    async def from_store(self, shared: SharedFiles) -> list[RepoFile]:
        """Takes what is in the store; returns what is not."""
        for one, part in self._parts():
            if await shared.fetch(one, part):
                await self._keep(one.sha256, part)
                self._tell(one.size_bytes)
        return self._missing

    def _parts(self) -> list[tuple[RepoFile, Path]]:
        """What is missing and where it is collected: files of the same bytes once."""
        parts = {self._client.cache.part(self._snapshot, one): one for one in reversed(self._missing)}
        return [(one, part) for part, one in parts.items()]

    async def download(self, shared: SharedFiles | None = None) -> None:
        """Asks the hub for all that is missing, some at once; one that fails ends the others."""
        self._client._may_ask(self._snapshot.repo)  # noqa: SLF001  (one thing in two classes)
        slots = asyncio.Semaphore(_AT_ONCE)
        async with self._client._http(self._snapshot.repo) as http:  # noqa: SLF001  (likewise)

            async def one_file(one: RepoFile, part: Path) -> None:
                async with slots:
                    sha256 = await download(http, self._snapshot, one, part, self._tell)
                    if shared is not None:
                        await shared.keep(one, sha256, part)
                    await self._keep(sha256, part)

            tasks = [asyncio.create_task(one_file(one, part)) for one, part in self._parts()]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self, sha256: str, part: Path) -> None:
        cache = self._client.cache
        same = [one for one in self._missing if cache.part(self._snapshot, one) == part]
        await asyncio.to_thread(cache.keep, self._snapshot, same, sha256, part)
        for one in same:
            self._missing.remove(one)
        self._tell(sum(one.size_bytes for one in same[1:]))

    def _tell(self, more_bytes: int) -> None:
        self._done_bytes += more_bytes
        if self._note is not None:
            total = sum(one.size_bytes for one in self._wanted)
            done = len(self._wanted) - len(self._missing)
            self._note(Bringing(self._done_bytes, total, done, len(self._wanted)))
