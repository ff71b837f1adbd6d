"""The planned requests of a shard, also when the object that holds them has been damaged."""

import logging

from evalmesh.domain.errors import InternalError, NotFound
from evalmesh.domain.sample import Sample
from evalmesh.domain.shard_data import PlannedSample
from evalmesh.domain.work import Shard
from evalmesh.wire.runs.shard_files import BenchmarkFiles

_LOG = logging.getLogger(__name__)


async def planned_rows(files: BenchmarkFiles, shard: Shard) -> list[PlannedSample]:
    """The rows as planned; of what cannot be read, one row per sample without its text, so that counts stay right.

    Rows that had to be made up are named `{subset}/shard-{n}+{place}`: which row of the data each was is lost with the
    object, for malformed and shuffled rows leave gaps. Of a shard whose size is not known yet, nothing can be made up:
    then it raises what the store says.
    """
    try:
        return (await files.read_requests(shard.index))[1]
    except (NotFound, InternalError) as error:
        if not shard.samples:
            raise
        _LOG.error("the requests of a shard are lost: %s", error.message)
    return [
        PlannedSample(
            sample=Sample(
                id=f"{shard.subset}/shard-{shard.index}+{place}",
                index=shard.start + place,
                subset=shard.subset,
                input="",
                target=(),
            ),
            kind="chat",
            digests=("",) * (shard.requests // shard.samples),
        )
        for place in range(shard.samples)
    ]
