"""Data sets of a run brought from their hubs, and how far that is told in the run."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from evalmesh.domain.run import Run
from evalmesh.ports.hubs import Bringing
from evalmesh.results.dataset import RunDataset
from evalmesh.runtime.runs import RunRecords
from evalmesh.runtime.work import RunCancelledError

_LOOK_S = 0.5
_TELL_S = 1.0


@dataclass(frozen=True, slots=True)
class Bringer:
    """For one run."""

    records: RunRecords
    run: str
    is_cancelled: Callable[[], bool]

    async def bring(self, datasets: Sequence[RunDataset]) -> None:
        """One data set after the other. Raises `RunCancelledError`, and the errors of `RunDataset.bring`."""
        told = False
        for dataset in datasets:
            if await asyncio.to_thread(getattr, dataset, "missing"):
                told = True
                await self._bring(dataset)
        if told:
            await self._tell("")

    async def _bring(self, dataset: RunDataset) -> None:
        news: list[Bringing] = []
        said_s = 0.0
        task = asyncio.create_task(dataset.bring(lambda now: news.__setitem__(slice(None), [now])))
        try:
            while not task.done():
                await asyncio.wait([task], timeout=_LOOK_S)
                if self.is_cancelled():
                    raise RunCancelledError
                if news and not task.done() and time.monotonic() - said_s > _TELL_S:
                    said_s = time.monotonic()
                    await self._tell(words(dataset, news[-1]))
            await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _tell(self, notice: str) -> None:
        def changed(run: Run) -> Run:
            return run if run.winding_up else replace(run, notice=notice)

        await self.records.change(self.run, changed)


def words(dataset: RunDataset, now: Bringing) -> str:
    """`fetching gsm8k from openai/gsm8k: 1.2 of 2.7 MB, 1 of 2 files`."""
    origin = dataset.origin
    return f"fetching {dataset.spec.name}{f' from {origin.id}' if origin is not None else ''}: {now}"
