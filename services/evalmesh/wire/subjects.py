"""Names on the bus: streams, buckets, subjects, consumers. The one place that knows.

work.plan.{run}   work.generate.{pool}.{run}   work.score.{run}   work.report.{run}      stream WORK
work.conduct.{load_test}   work.load.{load_test}
events.{run}.{kind}                                                                      stream EVENTS
dead.{step}.{run}                                                                        stream DEAD
load.{load_test}.conductor                                                               request and reply, not kept

Where `{run}` stands there may also be a load test. It is always a token of its own, so that a run can be purged by a
subject filter. Every token that comes from outside is checked here: a subject never holds a wildcard, a space or a dot
that a user has chosen.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.layout import is_safe_name
from evalmesh.domain.work import Step

WORK_STREAM = "WORK"
EVENTS_STREAM = "EVENTS"
DEAD_STREAM = "DEAD"
RUNS_BUCKET = "runs"
CONTROL_BUCKET = "control"
POOLS_BUCKET = "pools"
LOAD_TESTS_BUCKET = "load_tests"

WORK_SUBJECTS = (
    "work.plan.*",
    "work.generate.*.*",
    "work.score.*",
    "work.report.*",
    "work.conduct.*",
    "work.load.*",
)
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


def work_subject(step: Step, run: str, pool: str = "") -> str:
    """Where an item is published."""
    if step is Step.GENERATE:
        return f"work.generate.{token('pool', pool)}.{token('run', run)}"
    return f"work.{step}.{token('run', run)}"


def work_filter(step: Step, pool: str = "") -> str:
    """What the consumer of a queue takes: its step (and pool) of every run."""
    if step is Step.GENERATE:
        return f"work.generate.{token('pool', pool)}.*"
    return f"work.{step}.*"


def work_purge_filters(run: str) -> Sequence[str]:
    """Filters that together match every queued item of a run, and nothing else."""
    return (f"work.*.{token('run', run)}", f"work.generate.*.{token('run', run)}")


def consumer_name(step: Step, pool: str = "") -> str:
    """The durable consumer that all workers of a queue share."""
    return f"generate-{token('pool', pool)}" if step is Step.GENERATE else str(step)


def event_subject(run: str, kind: str) -> str:
    """Where an event is published."""
    return f"events.{token('run', run)}.{token('kind', kind)}"


def event_filter(run: str) -> str:
    """Every event of a run."""
    return f"events.{token('run', run)}.*"


def dead_subject(step: Step, run: str) -> str:
    """Where an item is set aside."""
    return f"dead.{step}.{token('run', run)}"


def conductor_subject(load_test: str) -> str:
    """Where the conductor of a load test answers its seats."""
    return f"load.{token('load_test', load_test)}.conductor"


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


def progress_key(run: str) -> str:
    """Key of the aggregator's record of a run."""
    return f"{token('run', run)}.progress"


def pool_key(pool: str) -> str:
    """Key of a pool's record."""
    return token("pool", pool)
