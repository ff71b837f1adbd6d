"""Objects that no run and no load test refers to, and their end."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from evalmesh.domain import layout
from evalmesh.domain.errors import NotFound
from evalmesh.domain.garbage import CollectedGroup
from evalmesh.domain.hub import repo_of
from evalmesh.domain.load_test import LoadTest
from evalmesh.ports.environment import Clock
from evalmesh.ports.object_store import ObjectInfo
from evalmesh.ports.records import RecordStore
from evalmesh.ports.run_store import RunStore
from evalmesh.wire.runs.shard_files import RunFiles

_BATCH = 500
_UNNAMED = "runs of an earlier version do not say which data they were made of"
_MEDIA = "which media runs refer to is in their requests, which are not read for this"


@dataclass(slots=True)
class _Named:
    """What records refer to at one moment."""

    owners: set[str] = field(default_factory=set)
    """Ids of runs and load tests."""
    keys: set[str] = field(default_factory=set)
    unnamed: bool = False
    """Whether some run refers to data that cannot be told."""


@dataclass(frozen=True, slots=True)
class GarbageCollector:
    """Looks at everything there is; memory grows with the number of objects that nothing refers to, not with all."""

    runs: RunStore
    load_tests: RecordStore[LoadTest]
    files: RunFiles
    clock: Clock

    async def collect(self, min_age_s: float, *, validate_only: bool) -> list[CollectedGroup]:
        """What went, or would go. What was written within `min_age_s` is left."""
        named = await self._named()
        before = self.clock.now() - min_age_s
        groups = []
        for kind, prefix, refers in _KINDS:
            group, going = CollectedGroup(kind), list[ObjectInfo]()
            held = self._why_held(kind, named)

            def is_garbage(info: ObjectInfo, refers: _Refers = refers, held: str = held) -> bool:
                return not held and info.modified_s <= before and not refers(info.key, named)

            async for info in self.files.store.list(prefix):
                if is_garbage(info):
                    going.append(info)
                else:
                    group.kept += 1
                    group.kept_bytes += info.size_bytes
                    group.note = held
            await self._remove(group, going, refers, None if validate_only else self._named)
            if group.objects or group.kept:
                groups.append(group)
        return groups

    async def _remove(
        self,
        group: CollectedGroup,
        going: list[ObjectInfo],
        refers: "_Refers",
        look_again: Callable[[], Awaitable[_Named]] | None,
    ) -> None:
        for start in range(0, len(going), _BATCH):
            batch = going[start : start + _BATCH]
            if look_again is not None:
                # A run that has begun since then may refer to what was there before it.
                named = await look_again()
                batch = [info for info in batch if not refers(info.key, named)]
                await self.files.store.delete([info.key for info in batch])
            group.objects += len(batch)
            group.size_bytes += sum(info.size_bytes for info in batch)

    def _why_held(self, kind: str, named: _Named) -> str:
        if kind == "media" and named.owners:
            return _MEDIA
        return _UNNAMED if kind in {"data sets", "hub listings"} and named.unnamed else ""

    async def _named(self) -> _Named:
        named = _Named()
        # Runs that are being made or deleted have a mark and perhaps no record: the reconciler sees to those.
        named.owners.update(await self.runs.list_active())
        for id_ in await self.runs.list_ids():
            named.owners.add(id_)
            await self._add_run(named, id_)
        for id_ in await self.load_tests.list_ids():
            named.owners.add(id_)
            try:
                prompts = (await self.load_tests.get(id_)).value.spec.prompts
            except NotFound:
                continue
            named.keys.update(map(layout.load_file_key, (prompts.file_digest, prompts.tokenizer_digest)))
        return named

    async def _add_run(self, named: _Named, id_: str) -> None:
        try:
            run = (await self.runs.get(id_)).value
        except NotFound:
            return
        for digest in (run.spec.completions_digest, *run.spec.reuse_completions):
            named.keys.add(layout.imported_completions_key(digest))
        for one in run.spec.benchmarks:
            files = self.files.of(id_, one.name)
            sources = await files.find_sources()
            if sources is None:
                # Not planned yet, or planned before plans named their files.
                named.unnamed = named.unnamed or await self.files.store.exists(layout.plan_key(id_, one.name))
                continue
            named.keys.update(layout.dataset_key(file.sha256) for file in sources.files)
            if origin := sources.origin:
                named.keys.add(layout.hub_listing_key(repo_of(origin.hub, origin.id).folder, origin.commit))


_Refers = Callable[[str, _Named], bool]


def _by_key(key: str, named: _Named) -> bool:
    return key in named.keys


def _by_owner(key: str, named: _Named) -> bool:
    return key.split("/")[1] in named.owners


def _never(key: str, named: _Named) -> bool:  # noqa: ARG001  (each kind is asked alike)
    return False


_KINDS: tuple[tuple[str, str, _Refers], ...] = (
    ("runs", "runs/", _by_owner),
    ("load tests", "loadtests/", _by_owner),
    ("data sets", "datasets/", _by_key),
    ("hub listings", "hubs/listings/", _by_key),
    ("completions", "completions/", _by_key),
    ("load test files", "load/files/", _by_key),
    ("media", "media/", _never),
)
"""Kind, where it lies, and whether something refers to an object of it."""
