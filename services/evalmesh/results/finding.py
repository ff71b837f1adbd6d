"""Where the data set of a benchmark is: on this machine, in a cache, or on a hub, which is asked last."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from evalmesh.benchmarks.base import Benchmark
from evalmesh.benchmarks.query import candidates, published_files, query_for
from evalmesh.domain.errors import EvalmeshError, FailedPrecondition, NotFound, Unavailable
from evalmesh.domain.hub import TITLES, DatasetOrigin, Repo, is_commit, repo_of
from evalmesh.domain.run import BenchmarkSpec, RunSpec
from evalmesh.ports.dataset_source import DatasetSource
from evalmesh.ports.hubs import HubDataset, Hubs
from evalmesh.results.dataset import RunDataset

_SHOWN_FILES = 4


@dataclass(frozen=True, slots=True)
class Datasets:
    """Opens data sets, in this order: what the spec or the folders name, what is kept of a hub, the hub itself."""

    local: DatasetSource
    hubs: Hubs | None = None
    """`None`: no hub is asked, and nothing kept of one is looked at."""
    patience_s: float | None = None
    """See `ports.hubs.Hubs.look`."""

    async def open(
        self, benchmark: Benchmark, spec: BenchmarkSpec, run: RunSpec, origin: DatasetOrigin | None = None
    ) -> RunDataset:
        """The data set under a run's spec. Its files may still have to be brought (`RunDataset.bring`).

        Args:
            benchmark: Which one.
            spec: The user's wishes for it.
            run: The run's.
            origin: Where an earlier attempt of the run took the rows from: then they are taken from there again.

        Raises:
            NotFound, InvalidInput, PermissionDenied, Unavailable: As found, with the ways out.
            FailedPrecondition: It is nowhere here, and no hub may be asked.
        """
        hubs = self.hubs
        if hubs is not None and origin is not None:
            return await self._open_at(hubs, origin, (benchmark, spec, run))
        published = candidates(benchmark, spec, run.dataset_hub)
        query = query_for(benchmark, spec, dataset_dir=run.dataset_dir, dataset_hub=run.dataset_hub)
        if hubs is None or not published or await asyncio.to_thread(self.local.is_here, query):
            return await asyncio.to_thread(RunDataset, self.local, benchmark, spec, run)
        silent = hubs.offline or ("dataset_hub is local" if run.dataset_hub == "local" else "")
        for repo, revision in published:
            repo.check(f"dataset_args.{spec.name}.dataset_id", revision)
            if silent or is_commit(revision):
                found = await asyncio.to_thread(self._kept, hubs, repo, revision, (benchmark, spec, run))
                if found is not None:
                    return found
        if silent:
            raise self._not_here(benchmark, spec, silent, published)
        repo, revision = published[0]
        try:
            hub = await hubs.look(repo, revision, self.patience_s)
        except (Unavailable, FailedPrecondition) as error:
            raise type(error)(f"{error.message} {ways_out(benchmark, spec, published)}", error.details) from None
        return await asyncio.to_thread(RunDataset, hub, benchmark, spec, run)

    async def _open_at(
        self, hubs: Hubs, origin: DatasetOrigin, wanted: tuple[Benchmark, BenchmarkSpec, RunSpec]
    ) -> RunDataset:
        repo = repo_of(origin.hub, origin.id)
        if (found := await asyncio.to_thread(self._kept, hubs, repo, origin.commit, wanted)) is not None:
            return found
        hub = await hubs.look(repo, origin.commit if is_commit(origin.commit) else origin.revision, self.patience_s)
        if hub.origin.commit != origin.commit:
            raise FailedPrecondition(
                f"The rows of {wanted[1].name} were taken from {repo} at {origin.commit}, and {origin.revision} is "
                f"{hub.origin.commit} by now, so the run cannot go on with what it began with. Start it anew."
            )
        return await asyncio.to_thread(RunDataset, hub, *wanted)

    def _kept(
        self, hubs: Hubs, repo: Repo, revision: str, wanted: tuple[Benchmark, BenchmarkSpec, RunSpec]
    ) -> RunDataset | None:
        """The data set without a question to any hub, if all of it is on this machine."""
        hub: HubDataset | None = hubs.kept(repo, revision)
        if hub is None:
            return None
        try:
            found = RunDataset(hub, *wanted)
        except EvalmeshError:
            return None  # a part of it was fetched, for something else
        return None if found.missing else found

    def _not_here(
        self, benchmark: Benchmark, spec: BenchmarkSpec, silent: str, published: Sequence[tuple[Repo, str]]
    ) -> NotFound:
        return NotFound(
            f"The data of {spec.name} is not on this machine, and {silent}, so no hub is asked. "
            f"{ways_out(benchmark, spec, published, silent=True)}",
            {"field": "dataset_hub"},
        )


def ways_out(
    benchmark: Benchmark, spec: BenchmarkSpec, published: Sequence[tuple[Repo, str]], *, silent: bool = False
) -> str:
    """How somebody gets the data whose hub cannot be asked: which files, from where, and where to put them."""
    where = " or ".join(f"{repo}{f' at {revision}' if revision else ''}" for repo, revision in published)
    files, name = published_files(benchmark, spec), benchmark.name
    places = [f"DIR/{name}/{path}" for path in files[:_SHOWN_FILES]] or [f"DIR/{name} (its whole folder)"]
    more = f" and {len(files) - _SHOWN_FILES} more" if len(files) > _SHOWN_FILES else ""
    others = [repo for repo, _ in published[1:]]
    other = f"take {TITLES[others[0].hub]} with --dataset-hub {others[0].hub}; or " if others and not silent else ""
    text = (
        f"{other}bring {where} as {', '.join(places)}{more}, and give --dataset-dir DIR (where there is a network, "
        f"`evalmesh datasets fetch {name} --to DIR` makes that folder; `evalmesh datasets files {name}` lists it); or "
        f'name data of your own with --dataset-args \'{{"{spec.name}": {{"local_path": "FILE_OR_FOLDER"}}}}\'.'
    )
    return text[0].upper() + text[1:]
