"""The score stages: completions of a shard to scores."""

from collections import Counter

from evalmesh.benchmarks import registry
from evalmesh.domain.errors import Unimplemented
from evalmesh.domain.plan import BenchmarkPlan
from evalmesh.domain.stage import StageKind
from evalmesh.domain.work import WorkItem
from evalmesh.runtime.plans import PlanCache
from evalmesh.runtime.stages import PassOn
from evalmesh.runtime.telemetry.metrics import SCORES
from evalmesh.scorer.judgement import Judgement
from evalmesh.wire.runs.shard_files import RunFiles


class ScoreWorker:
    """Scores shards. Scores are a pure function of completions, so that doing it twice changes nothing."""

    def __init__(self, *, files: RunFiles, plans: PlanCache, pass_on: PassOn, judgement: Judgement) -> None:
        self._files = files
        self._plans = plans
        self._pass_on = pass_on
        self._judgement = judgement

    async def handle(self, item: WorkItem) -> None:
        """Scores a shard and passes it on. Raises `Unimplemented` for a kind that is not served here."""
        if item.kind != StageKind.SCORE:
            raise Unimplemented(f"This scorer does not know the stage kind {item.kind!r}; run a version that does.")
        files = self._files.of(item.run, item.benchmark)
        if not await files.of(item.stage).has(item.shard_index):
            await self._score(item, await self._plans.get(item.run, item.benchmark, item.attempt))
        await self._pass_on(item)

    async def _score(self, item: WorkItem, plan: BenchmarkPlan) -> None:
        files = self._files.of(item.run, item.benchmark)
        _, rows = await files.read_requests(item.shard_index)
        samples = {row.sample.id: row.sample for row in rows}
        answered = plan.graph.stage(item.stage).after[0]
        completions = await files.of(answered).read_completions(item.shard_index)
        pairs = [(samples[completion.sample_id], completion) for completion in completions]
        benchmark = registry.get(plan.spec.kind).for_spec(plan.spec)
        scores = await self._judgement.score_all(benchmark, pairs, plan.spec.remove_until)
        for state, count in Counter(score.state for score in scores).items():
            SCORES.add(count, state)
        await files.of(item.stage).write(item.shard_index, scores)
