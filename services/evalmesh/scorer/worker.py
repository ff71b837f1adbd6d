"""The score step: completions of a shard to scores."""

from evalmesh.benchmarks import registry
from evalmesh.domain.work import BenchmarkPlan, Step, WorkItem
from evalmesh.ports.bus import Bus
from evalmesh.runtime.plans import PlanCache
from evalmesh.runtime.telemetry import current_trace
from evalmesh.scorer.judgement import Judgement
from evalmesh.wire.runs.shard_files import ShardFiles


class ScoreWorker:
    """Scores shards. Scores are a pure function of completions, so that doing it twice changes nothing."""

    def __init__(self, *, files: ShardFiles, bus: Bus, judgement: Judgement) -> None:
        self._files = files
        self._bus = bus
        self._judgement = judgement
        self._plans = PlanCache(files)

    async def handle(self, item: WorkItem) -> None:
        """Scores a shard and passes it on to the report."""
        key = (item.run, item.benchmark, item.shard)
        if not await self._files.has_scores(*key):
            plan = (await self._plans.get(item.run)).benchmark(item.benchmark)
            await self._score(key, plan)
        await self._bus.publish([item.then(Step.REPORT, current_trace())])

    async def _score(self, key: tuple[str, str, int], plan: BenchmarkPlan) -> None:
        _, rows = await self._files.read_requests(*key)
        samples = {row.sample.id: row.sample for row in rows}
        completions = await self._files.read_completions(*key)
        pairs = [(samples[completion.sample_id], completion) for completion in completions]
        benchmark = registry.get(plan.name).for_spec(plan.spec)
        scores = await self._judgement.score_all(benchmark, pairs, plan.spec.remove_until)
        await self._files.write_scores(*key, scores)
