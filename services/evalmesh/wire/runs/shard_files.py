"""Shards in the object store: the rows each step reads and writes, at the keys of `domain.layout`."""

from collections.abc import Sequence

from evalmesh.domain import layout
from evalmesh.domain.completion import Completion
from evalmesh.domain.errors import NotFound
from evalmesh.domain.score import Score
from evalmesh.domain.shard_data import PlannedSample, ShardHeader
from evalmesh.domain.work import RunPlan
from evalmesh.ports.object_store import ObjectStore
from evalmesh.wire.codec import decode_json, decode_rows, encode_json, encode_rows
from evalmesh.wire.runs.stored import decode_completions


class ShardFiles:
    """Typed access to everything a run keeps in the object store.

    Errors are those of the store, and `InternalError` for an object that is not what its key says.
    """

    def __init__(self, store: ObjectStore) -> None:
        self.store = store

    async def read_plan(self, run: str) -> RunPlan:
        """Raises `NotFound` before planning is done."""
        key = layout.plan_key(run)
        return decode_json(RunPlan, await self.store.get(key), key)

    async def find_plan(self, run: str) -> RunPlan | None:
        """The plan, if planning is done."""
        try:
            return await self.read_plan(run)
        except NotFound:
            return None

    async def write_plan(self, plan: RunPlan) -> None:
        """Planning is done once this returns."""
        await self.store.put(layout.plan_key(plan.run), encode_json(plan))

    async def write_requests(self, header: ShardHeader, rows: Sequence[PlannedSample]) -> None:
        """Samples and requests of a shard."""
        key = layout.requests_key(header.run, header.benchmark, header.shard)
        await self.store.put(key, encode_rows([header, *rows]))

    async def read_requests(self, run: str, benchmark: str, shard: int) -> tuple[ShardHeader, list[PlannedSample]]:
        """Header and samples in plan order."""
        key = layout.requests_key(run, benchmark, shard)
        head, _, body = (await self.store.get(key)).partition(b"\n")
        return decode_json(ShardHeader, head, key), decode_rows(PlannedSample, body, key)

    async def has_completions(self, run: str, benchmark: str, shard: int) -> bool:
        """Whether every request of the shard has its completion."""
        return await self.store.exists(layout.completions_key(run, benchmark, shard))

    async def read_completions(self, run: str, benchmark: str, shard: int) -> list[Completion]:
        """In request order."""
        key = layout.completions_key(run, benchmark, shard)
        return decode_completions(await self.store.get(key), key)

    async def write_completions(self, run: str, benchmark: str, shard: int, rows: Sequence[Completion]) -> bool:
        """First writer wins; `False` when the shard had its completions already."""
        return await self.store.create(layout.completions_key(run, benchmark, shard), encode_rows(rows))

    async def write_checkpoint(
        self, run: str, benchmark: str, shard: int, name: str, rows: Sequence[Completion]
    ) -> None:
        """Keeps finished completions of an unfinished shard."""
        await self.store.put(layout.checkpoint_prefix(run, benchmark, shard) + f"{name}.jsonl", encode_rows(rows))

    async def read_checkpoints(self, run: str, benchmark: str, shard: int) -> list[Completion]:
        """Everything checkpointed, in no order; a request may occur twice."""
        rows: list[Completion] = []
        async for info in self.store.list(layout.checkpoint_prefix(run, benchmark, shard)):
            rows += decode_completions(await self.store.get(info.key), info.key)
        return rows

    async def drop_checkpoints(self, run: str, benchmark: str, shard: int) -> None:
        """They are superseded once the shard is complete."""
        keys = [info.key async for info in self.store.list(layout.checkpoint_prefix(run, benchmark, shard))]
        if keys:
            await self.store.delete(keys)

    async def has_scores(self, run: str, benchmark: str, shard: int) -> bool:
        """Whether the shard is scored."""
        return await self.store.exists(layout.scores_key(run, benchmark, shard))

    async def read_scores(self, run: str, benchmark: str, shard: int) -> list[Score]:
        """In request order."""
        key = layout.scores_key(run, benchmark, shard)
        return decode_rows(Score, await self.store.get(key), key)

    async def write_scores(self, run: str, benchmark: str, shard: int, rows: Sequence[Score]) -> None:
        """Scores are a pure function of the completions, so that writing twice changes nothing."""
        await self.store.put(layout.scores_key(run, benchmark, shard), encode_rows(rows))
