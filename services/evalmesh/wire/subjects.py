"""Names on the bus: streams, buckets, subjects, consumers. The one place that knows.

work.plan.{run}   work.generate.{pool}.{run}   work.score.{run}   work.reduce.{run}      stream WORK
work.execute.{run}   work.judge.{run}
work.conduct.{load_test}   work.load.{load_test}   work.load_report.{load_test}
events.{run}.{kind}                                                                      stream EVENTS
live.{run}                                                                               kept nowhere
dead.{queue}.{run}                                                                       stream DEAD
load.{load_test}.conductor   held.{run}.{benchmark}.{stage}.{shard}                      request and reply, not kept

Where `{run}` stands there may also be a load test. It is always a token of its own, so that a run can be purged by a
subject filter. Every token that comes from outside is checked here: a subject never holds a wildcard, a space or a dot
that a user has chosen.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.layout import is_safe_name
from evalmesh.domain.work import Queue, WorkItem

WORK_STREAM = "WORK"
EVENTS_STREAM = "EVENTS"
DEAD_STREAM = "DEAD"
RUNS_BUCKET = "runs"
CONTROL_BUCKET = "control"
POOLS_BUCKET = "pools"
POOL_NOTES_BUCKET = "pool_notes"
PROGRESS_BUCKET = "progress"
LOAD_TESTS_BUCKET = "load_tests"

WORK_SUBJECTS = tuple(f"work.{queue}.*.*" if queue is Queue.GENERATE else f"work.{queue}.*" for queue in Queue)
EVENTS_SUBJECTS = ("events.*.*",)
DEAD_SUBJECTS = ("dead.*.*",)


@lru_cache(maxsize=4096)
def token(field: str, value: str) -> str:
    """The value, when it may be one token of a subject. Raises `InvalidInput`, naming the field."""
    if not is_safe_name(value) or "." in value:
        raise InvalidInput(
            f"The {field} {value!r} cannot be part of a bus subject; "
            "use 1 to 63 of a-z, 0-9, '-' and '_', starting with a letter or a digit.",
            {"field": field},
        )
    return value


def work_subject(queue: Queue, owner: str, pool: str = "") -> str:
    """Where an item is published."""
    if queue is Queue.GENERATE:
        return f"work.generate.{token('pool', pool)}.{token('run', owner)}"
    return f"work.{queue}.{token('run', owner)}"


def work_filter(queue: Queue, pool: str = "", run: str = "") -> str:
    """What a consumer takes: its queue (and pool) of every run, or of one."""
    of_run = token("run", run) if run else "*"
    return f"work.generate.{token('pool', pool)}.{of_run}" if queue is Queue.GENERATE else f"work.{queue}.{of_run}"


def queue_filter(queue: Queue, pool: str = "") -> str:
    """Everything in a queue; of `generate`, of one pool or of all."""
    return f"work.{queue}.>" if queue is Queue.GENERATE and not pool else work_filter(queue, pool)


def work_purge_filters(owner: str) -> Sequence[str]:
    """Filters that together match every queued item of a run or load test, and nothing else."""
    return (f"work.*.{token('run', owner)}", f"work.generate.*.{token('run', owner)}")


def consumer_name(queue: Queue, pool: str = "", run: str = "") -> str:
    """The durable consumer that all workers of a queue share; of `generate` there is one per pool and run."""
    if queue is not Queue.GENERATE:
        return str(queue)
    return f"generate-{token('pool', pool)}" + (f"-{token('run', run)}" if run else "")


def event_subject(run: str, kind: str) -> str:
    """Where an event is published."""
    return f"events.{token('run', run)}.{token('kind', kind)}"


def event_filter(run: str) -> str:
    """Every event of a run."""
    return f"events.{token('run', run)}.*"


def live_subject(run: str) -> str:
    """Where what changes many times a second is told; nobody keeps it."""
    return f"live.{token('run', run)}"


def dead_subject(queue: Queue, owner: str) -> str:
    """Where an item is set aside."""
    return f"dead.{queue}.{token('run', owner)}"


def conductor_subject(load_test: str) -> str:
    """Where the conductor of a load test answers its seats."""
    return f"load.{token('load_test', load_test)}.conductor"


def held_subject(item: WorkItem) -> str:
    """Where the model runner that works on a shard answers for it."""
    names = (("run", item.run), ("benchmark", item.benchmark), ("stage", item.stage))
    return ".".join(["held", *(token(field, value) for field, value in names), str(item.shard_index)])


def bucket_stream(bucket: str) -> str:
    """The stream behind a key-value bucket, as every NATS client names it."""
    return f"KV_{bucket}"


def bucket_subject(bucket: str, key: str) -> str:
    """The subject behind a key (or a filter over keys)."""
    return f"$KV.{bucket}.{key}"


def run_key(run: str) -> str:
    """Key of a run's record, or of its control wish."""
    return token("run", run)


def request_key(request_id: str) -> str:
    """Key of what a caller's request led to. The id may be any text, so that its digest stands for it."""
    return f"request.{hashlib.sha256(request_id.encode()).hexdigest()}"


def progress_key(run: str, benchmark: str) -> str:
    """Key of the record of one benchmark of a run, or of the run itself."""
    return f"{token('run', run)}.{token('benchmark', benchmark)}" if benchmark else token("run", run)


def active_key(run: str) -> str:
    """Key of the mark that a run goes on."""
    return f"active.{token('run', run)}"


def lease_key(name: str) -> str:
    """Key of a lease."""
    return f"lease.{token('lease', name)}"


def wish_key(pool: str, run: str) -> str:
    """Key of a run's wish for a pool."""
    return f"{token('pool', pool)}.{token('run', run)}"


def note_key(pool: str, runner: str) -> str:
    """Key of what a runner says of a pool."""
    return f"{token('pool', pool)}.{token('runner', runner)}"


def pool_key(pool: str) -> str:
    """First token of the keys of a pool."""
    return token("pool", pool)
