"""What the object store says of a run: how large it is, and what was answered beyond what is in the results."""

from collections import defaultdict
from dataclasses import dataclass, replace

from evalmesh.domain import layout
from evalmesh.domain.completion import Completion
from evalmesh.domain.errors import NotFound
from evalmesh.domain.progress import BenchmarkRecord
from evalmesh.domain.run import BenchmarkProgress, Run
from evalmesh.domain.state import State
from evalmesh.ports.run_store import RunStore
from evalmesh.runtime.progress import read_progress
from evalmesh.wire.runs.shard_files import BenchmarkFiles, RunFiles, StageFiles


@dataclass(frozen=True, slots=True)
class StoredRuns:
    """Looks at objects of runs; what it tells costs a listing, or more."""

    store: RunStore
    files: RunFiles

    async def look(self, run: Run, *, size: bool, answered: bool) -> Run:
        """The run with what was asked for."""
        if size:
            run = replace(run, size_bytes=await self.size(run.id))
        if answered and run.state is not State.SUCCEEDED:
            run = replace(run, benchmarks=tuple([await self._answered(run.id, one) for one in run.benchmarks]))
        return run

    async def size(self, run_id: str) -> int:
        """Bytes of all objects of a run."""
        return sum([info.size_bytes async for info in self.files.store.list(layout.run_prefix(run_id))])

    async def _answered(self, run_id: str, one: BenchmarkProgress) -> BenchmarkProgress:
        files = self.files.of(run_id, one.name)
        try:
            stage = files.of((await files.read_plan()).graph.answered)
        except NotFound:
            return one
        record = await read_progress(self.store, run_id, one.name)
        more = await _beyond(stage, files, record)
        return replace(one, generated=min(one.done + more, one.total) if one.total else one.done + more)


async def _beyond(stage: StageFiles, files: BenchmarkFiles, record: BenchmarkRecord) -> int:
    """Answers of shards that are not in the results: of those that are whole, and of those that were begun."""
    arrived = 0
    for bits in record.arrived.values():
        arrived |= int(bits, 16)
    whole = [shard for shard in await stage.there() if not arrived >> shard & 1]
    count = 0
    for shard in whole:
        count += len(await stage.read_completions(shard))
    for shard in await _begun(files, stage.stage):
        if shard not in whole and not arrived >> shard & 1:
            count += _answers(await stage.read_parts(shard))
    return count


async def _begun(files: BenchmarkFiles, stage: str) -> list[int]:
    """Shards with checkpoints."""
    prefix = layout.all_parts_prefix(files.run, files.benchmark, stage)
    found: dict[int, None] = defaultdict(lambda: None)
    async for info in files.store.list(prefix):
        name = info.key.removeprefix(prefix).partition("/")[0]
        if name.isdigit():
            found[int(name)] = None
    return list(found)


def _answers(parts: list[Completion]) -> int:
    # A request may occur twice, and one that was broken off is no answer.
    return len({one.request_id for one in parts if one.error is None or one.error.error_class != "cancelled"})
