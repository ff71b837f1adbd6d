"""Plans of runs, kept while they are in use: a plan never changes once written."""

from collections import OrderedDict

from evalmesh.domain.work import RunPlan
from evalmesh.wire.runs.shard_files import ShardFiles

_KEPT = 8


class PlanCache:
    """The plans of the last few runs asked for."""

    def __init__(self, files: ShardFiles) -> None:
        self._files = files
        self._plans: OrderedDict[str, RunPlan] = OrderedDict()

    async def get(self, run: str) -> RunPlan:
        """Raises `NotFound` before the run is planned."""
        plan = self._plans.get(run)
        if plan is None:
            plan = await self._files.read_plan(run)
            self._plans[run] = plan
            if len(self._plans) > _KEPT:
                self._plans.popitem(last=False)
        self._plans.move_to_end(run)
        return plan
