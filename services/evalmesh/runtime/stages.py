"""What follows in the graph of a benchmark: the one place that turns a plan into work items."""

from collections.abc import Mapping
from dataclasses import dataclass

from evalmesh.domain.plan import BenchmarkPlan
from evalmesh.domain.stage import Stage, StageKind
from evalmesh.domain.work import Shard, Task, WorkItem
from evalmesh.ports.bus import Bus
from evalmesh.runtime.plans import PlanCache
from evalmesh.runtime.runs import RunRecords
from evalmesh.runtime.telemetry import current_trace
from evalmesh.wire.runs.shard_files import RunFiles


@dataclass(frozen=True, slots=True)
class Publishing:
    """For whom items are made."""

    plan: BenchmarkPlan
    attempt: int
    trace: Mapping[str, str]

    def stage(self, stage: Stage, shard: Shard) -> WorkItem:
        """Asks for a stage on a shard."""
        return WorkItem(
            run=self.plan.run,
            task=Task.STAGE,
            benchmark=self.plan.name,
            stage=stage.name,
            kind=stage.kind,
            shard=shard,
            pool=self.plan.pools[stage.role] if stage.role else "",
            attempt=self.attempt,
            trace=self.trace,
        )

    def arrival(self, stage: str, shard: Shard, error: str = "") -> WorkItem:
        """Says that a shard has passed the last stage before a barrier."""
        return WorkItem(
            run=self.plan.run,
            task=Task.ARRIVE,
            benchmark=self.plan.name,
            stage=stage,
            shard=shard,
            attempt=self.attempt,
            error=error,
            trace=self.trace,
        )

    def ready(self, shard: Shard, done: frozenset[str]) -> list[WorkItem]:
        """What can be done next on a shard of which these stages are done."""
        graph = self.plan.graph
        done = done | {stage.name for stage in graph.stages if stage.kind is StageKind.GIVEN}
        items = []
        for stage in graph.stages:
            if stage.name in done:
                if any(one.barrier for one in graph.following(stage.name)):
                    items.append(self.arrival(stage.name, shard))
            elif not stage.barrier and done.issuperset(stage.after):
                items.append(self.stage(stage, shard))
        return items


class PassOn:
    """Passes a shard on once a stage has made its output."""

    def __init__(self, files: RunFiles, plans: PlanCache, bus: Bus) -> None:
        self._files = files
        self._plans = plans
        self._bus = bus

    async def __call__(self, item: WorkItem) -> None:
        """Publishes what follows. A stage with several predecessors follows when all of their outputs are there."""
        if item.shard is None:
            return
        plan = await self._plans.get(item.run, item.benchmark, item.attempt)
        publishing = Publishing(plan, item.attempt, current_trace())
        items = []
        for stage in plan.graph.following(item.stage):
            if stage.barrier:
                items.append(publishing.arrival(item.stage, item.shard))
            elif await self._all_there(plan, stage, item):
                items.append(publishing.stage(stage, item.shard))
        await self._bus.publish(items)

    async def _all_there(self, plan: BenchmarkPlan, stage: Stage, item: WorkItem) -> bool:
        files = self._files.of(item.run, item.benchmark)
        for name in stage.after:
            given = plan.graph.stage(name).kind is StageKind.GIVEN
            if name != item.stage and not given and not await files.of(name).has(item.shard_index):
                return False
        return True


class ShardSetAside:
    """What follows when a stage on a shard is set aside: its requests become errored results, so that the run ends."""

    def __init__(self, plans: PlanCache, bus: Bus, records: RunRecords) -> None:
        self._plans = plans
        self._bus = bus
        self._records = records

    async def __call__(self, item: WorkItem, error: str) -> None:
        """Tells every barrier behind the stage that the shard will not come."""
        if item.shard is None:
            await self._records.fail(item.run, error, "STAGE_FAILED")
            return
        plan = await self._plans.get(item.run, item.benchmark, item.attempt)
        publishing = Publishing(plan, item.attempt, item.trace)
        last = plan.graph.before_barrier(item.stage)
        await self._bus.publish([publishing.arrival(stage.name, item.shard, error) for stage in last])
