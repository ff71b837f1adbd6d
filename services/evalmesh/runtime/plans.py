"""Plans of benchmarks, kept while they are in use: a plan never changes in an attempt, and none grows with its data."""

from collections import OrderedDict

from evalmesh.domain.plan import BenchmarkPlan
from evalmesh.wire.runs.shard_files import RunFiles

_KEPT = 512


class PlanCache:
    """The plans asked for last."""

    def __init__(self, files: RunFiles) -> None:
        self._files = files
        self._plans: OrderedDict[tuple[str, str, int], BenchmarkPlan] = OrderedDict()

    async def get(self, run: str, benchmark: str, attempt: int = 0) -> BenchmarkPlan:
        """As of an attempt: the next one may ask other pools. Raises `NotFound` before planning has begun."""
        key = (run, benchmark, attempt)
        plan = self._plans.get(key)
        if plan is None:
            plan = await self._files.of(run, benchmark).read_plan()
            self._plans[key] = plan
            if len(self._plans) > _KEPT:
                self._plans.popitem(last=False)
        self._plans.move_to_end(key)
        return plan
