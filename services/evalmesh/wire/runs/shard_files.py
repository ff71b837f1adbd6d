"""What a run keeps in the object store, typed: plans, requests, what each stage makes of each shard.

Keys are those of `domain.layout`. Errors are those of the store, and `InternalError` for an object that is not what
its key says.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from evalmesh.domain import layout
from evalmesh.domain.completion import Completion
from evalmesh.domain.errors import NotFound
from evalmesh.domain.plan import BenchmarkIndex, BenchmarkPlan, DatasetSources
from evalmesh.domain.score import Score
from evalmesh.domain.shard_data import PlannedSample, ShardHeader
from evalmesh.ports.object_store import ObjectStore
from evalmesh.wire.codec import decode_json, decode_rows, encode_json, encode_rows
from evalmesh.wire.runs.scores import decode_scores
from evalmesh.wire.runs.shared_prompt import put_back, take_out
from evalmesh.wire.runs.stored import decode_completions

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StageFiles:
    """What one stage makes of the shards of one benchmark of one run."""

    store: ObjectStore
    run: str
    benchmark: str
    stage: str

    def key(self, shard: int) -> str:
        """Of the output."""
        return layout.output_key(self.run, self.benchmark, self.stage, shard)

    async def has(self, shard: int) -> bool:
        """Whether the output is there."""
        return await self.store.exists(self.key(shard))

    async def there(self) -> frozenset[int]:
        """All shards whose output is there."""
        prefix = layout.output_prefix(self.run, self.benchmark, self.stage)
        names = [info.key.removeprefix(prefix).partition(".")[0] async for info in self.store.list(prefix)]
        return frozenset(int(name) for name in names if name.isdigit())

    async def write(self, shard: int, rows: Iterable[object]) -> bool:
        """First writer wins; `False` when the output was there already."""
        return await self.store.create(self.key(shard), encode_rows(rows))

    async def read(self, kind: type[T], shard: int) -> list[T]:
        """In request order. Raises `NotFound`."""
        key = self.key(shard)
        return decode_rows(kind, await self.store.get(key), key)

    async def read_completions(self, shard: int) -> list[Completion]:
        """In request order, healed of what older builds let in. Raises `NotFound`."""
        key = self.key(shard)
        return decode_completions(await self.store.get(key), key)

    async def forget(self) -> None:
        """Removes every output of the stage, and of no other."""
        prefix = layout.output_prefix(self.run, self.benchmark, self.stage)
        await forget(self.store, prefix)

    async def write_part(self, shard: int, name: str, rows: Sequence[Completion]) -> None:
        """Keeps finished completions of an unfinished shard."""
        key = f"{layout.parts_prefix(self.run, self.benchmark, self.stage, shard)}{name}.jsonl"
        await self.store.put(key, encode_rows(rows))

    async def read_parts(self, shard: int, *, unfinished: bool = False) -> list[Completion]:
        """Everything checkpointed, in no order; a request may occur twice.

        `unfinished`: with conversations that go on.
        """
        rows: list[Completion] = []
        async for info in self.store.list(layout.parts_prefix(self.run, self.benchmark, self.stage, shard)):
            rows += decode_completions(await self.store.get(info.key), info.key)
        return [row for row in rows if unfinished or not row.unfinished]

    async def drop_parts(self, shard: int) -> None:
        """They are superseded once the shard is complete."""
        await forget(self.store, layout.parts_prefix(self.run, self.benchmark, self.stage, shard))


@dataclass(frozen=True, slots=True)
class BenchmarkFiles:
    """Everything of one benchmark of one run."""

    store: ObjectStore
    run: str
    benchmark: str

    def of(self, stage: str) -> StageFiles:
        """Outputs of a stage."""
        return StageFiles(self.store, self.run, self.benchmark, stage)

    async def read_plan(self) -> BenchmarkPlan:
        """Raises `NotFound` before planning has begun."""
        key = layout.plan_key(self.run, self.benchmark)
        return decode_json(BenchmarkPlan, await self.store.get(key), key)

    async def write_plan(self, plan: BenchmarkPlan) -> None:
        """Before the first shard."""
        await self.store.put(layout.plan_key(self.run, self.benchmark), encode_json(plan))

    async def find_sources(self) -> DatasetSources | None:
        """The files that the rows are in, where planning has come so far."""
        key = layout.sources_key(self.run, self.benchmark)
        try:
            return decode_json(DatasetSources, await self.store.get(key), key)
        except NotFound:
            return None

    async def write_sources(self, sources: DatasetSources) -> None:
        """Before they are pinned: who collects what nobody names must find them named."""
        await self.store.put(layout.sources_key(self.run, self.benchmark), encode_json(sources))

    async def find_index(self) -> BenchmarkIndex | None:
        """The index, if planning is done."""
        key = layout.index_key(self.run, self.benchmark)
        try:
            return decode_json(BenchmarkIndex, await self.store.get(key), key)
        except NotFound:
            return None

    async def write_index(self, index: BenchmarkIndex) -> None:
        """Planning is done once this returns."""
        await self.store.put(layout.index_key(self.run, self.benchmark), encode_json(index))

    async def write_requests(self, header: ShardHeader, rows: Sequence[PlannedSample]) -> None:
        """Samples and requests of a shard."""
        shared, own = take_out(rows)
        lines = encode_rows([replace(header, shared=shared), *own])
        await self.store.put(self.of(layout.REQUESTS).key(header.shard), lines)

    async def read_requests(self, shard: int, source: str = layout.REQUESTS) -> tuple[ShardHeader, list[PlannedSample]]:
        """Header and samples in plan order; `source` is the stage that rendered them, if not the planner."""
        key = self.of(source).key(shard)
        head, _, body = (await self.store.get(key)).partition(b"\n")
        header = decode_json(ShardHeader, head, key)
        return header, put_back(header.shared, decode_rows(PlannedSample, body, key))

    async def read_scores(self, stage: str, shard: int) -> list[Score]:
        """In request order. Raises `NotFound`."""
        key = self.of(stage).key(shard)
        return decode_scores(await self.store.get(key), key)

    async def forget_folded(self) -> None:
        """Removes what was folded: it is folded again."""
        await forget(self.store, layout.folded_prefix(self.run, self.benchmark))


@dataclass(frozen=True, slots=True)
class RunFiles:
    """Everything that runs keep in the object store."""

    store: ObjectStore

    def of(self, run: str, benchmark: str) -> BenchmarkFiles:
        """One benchmark of one run."""
        return BenchmarkFiles(self.store, run, benchmark)


async def forget(store: ObjectStore, prefix: str) -> None:
    """Removes every object below a prefix, in pieces, so that a long list is never held."""
    keys: list[str] = []
    async for info in store.list(prefix):
        keys.append(info.key)
        if len(keys) == 1000:
            await store.delete(keys)
            keys = []
    if keys:
        await store.delete(keys)
