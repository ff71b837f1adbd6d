"""Collecting garbage: what a record refers to stays, what may be referred to in a moment stays, all else goes."""

import time

import pytest

from evalmesh.adapters.environment import SystemClock
from evalmesh.domain import layout
from evalmesh.domain.hub import DatasetOrigin
from evalmesh.domain.plan import DatasetSources, PinnedFile
from evalmesh.domain.run import RUN_FORMAT, BenchmarkSpec, ModelSpec, Run, RunSpec, RunState
from evalmesh.gateway.stores.collection import GarbageCollector
from evalmesh.wire.runs.shard_files import RunFiles

ORIGIN = DatasetOrigin("huggingface", "org/sums", "main", "c" * 40)


@pytest.fixture
def collector(opened):
    return GarbageCollector(opened.runs, opened.load_tests, RunFiles(opened.objects), SystemClock())


async def add_run(opened, id_, files=(), state=RunState.SUCCEEDED, *, sources=True, **spec):
    run = Run(id_, RunSpec(ModelSpec("m"), (BenchmarkSpec("gsm8k"),), **spec), state, time.time(), format=RUN_FORMAT)
    await opened.runs.create(run)
    await opened.objects.put(layout.plan_key(id_, "gsm8k"), b"{}")
    if sources:
        pinned = tuple(PinnedFile(f"{name}.jsonl", name, 3) for name in files)
        await RunFiles(opened.objects).of(id_, "gsm8k").write_sources(DatasetSources("d", pinned, ORIGIN))


async def keys(opened):
    return {info.key async for info in opened.objects.list("")}


async def test_what_a_run_refers_to_stays_and_the_rest_goes(opened, collector):
    await add_run(opened, "r1", ["used"], completions_digest="given", reuse_completions=("also",))
    stays = {
        layout.dataset_key("used"),
        layout.imported_completions_key("given"),
        layout.imported_completions_key("also"),
        layout.hub_listing_key("datasets--org--sums", ORIGIN.commit),
        layout.media_key("picture"),
    }
    goes = {
        layout.dataset_key("old"),
        layout.imported_completions_key("old"),
        layout.hub_listing_key("datasets--org--sums", "d" * 40),
        layout.load_file_key("old"),
        "runs/gone/gsm8k/plan.json",
        "loadtests/gone/perf.json",
    }
    for key in stays | goes:
        await opened.objects.put(key, b"abc")
    before = await keys(opened)
    told = await collector.collect(0, validate_only=True)
    assert await keys(opened) == before
    assert sum(group.objects for group in told) == len(goes)
    assert sum(group.size_bytes for group in told) == 3 * len(goes)
    assert [group.note for group in told if group.kind == "media"] != [""]
    done = await collector.collect(0, validate_only=False)
    assert [(one.kind, one.objects, one.size_bytes) for one in done] == [
        (one.kind, one.objects, one.size_bytes) for one in told
    ]
    assert await keys(opened) == before - goes


async def test_what_is_young_stays(opened, collector):
    await opened.objects.put(layout.dataset_key("uploaded"), b"abc")
    (group,) = await collector.collect(3600, validate_only=False)
    assert (group.kind, group.objects, group.kept, group.kept_bytes) == ("data sets", 0, 1, 3)
    assert await opened.objects.exists(layout.dataset_key("uploaded"))


async def test_runs_that_do_not_say_what_they_were_made_of_hold_all_data(opened, collector):
    await add_run(opened, "old", sources=False)
    await opened.objects.put(layout.dataset_key("perhaps"), b"abc")
    groups = {group.kind: group for group in await collector.collect(0, validate_only=False)}
    assert "earlier version" in groups["data sets"].note
    assert await opened.objects.exists(layout.dataset_key("perhaps"))


async def test_a_run_that_is_marked_without_a_record_is_left_to_who_marked_it(opened, collector):
    await opened.runs.set_active("making", active=True)
    await opened.objects.put(layout.spec_key("making"), b"{}")
    await collector.collect(0, validate_only=False)
    assert await opened.objects.exists(layout.spec_key("making"))


@pytest.mark.parametrize("state", [RunState.RUNNING, RunState.FAILED])
async def test_a_run_that_goes_on_or_may_be_resumed_loses_nothing(opened, collector, state):
    await add_run(opened, "r1", ["used"], state)
    await opened.objects.put(layout.dataset_key("used"), b"abc")
    before = await keys(opened)
    await collector.collect(0, validate_only=False)
    assert await keys(opened) == before
