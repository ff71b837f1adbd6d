"""Media in the store: written once, read once for many, kept in memory up to a bound, waited for in an outage."""

import asyncio
import hashlib

import pytest

from evalmesh.adapters.object_store import open_object_store
from evalmesh.domain.content import ContentPart
from evalmesh.domain.errors import InvalidInput, Unavailable
from evalmesh.domain.layout import media_key
from evalmesh.wire.runs import media_files
from evalmesh.wire.runs.media_files import MediaFiles


def gif(number, size_bytes=100):
    return (b"GIF89a" + bytes([number])).ljust(size_bytes, b"\0")


def sha(data):
    return hashlib.sha256(data).hexdigest()


class CountingStore:
    """The edge of the world: a folder that counts what it is asked, and can be away."""

    def __init__(self, store):
        self._store = store
        self.reads = []
        self.writes = []
        self.outages = 0

    async def get(self, key):
        self.reads.append(key)
        self._stay_away()
        await asyncio.sleep(0)
        return await self._store.get(key)

    async def exists(self, key):
        self._stay_away()
        return await self._store.exists(key)

    async def create(self, key, data):
        self.writes.append(key)
        return await self._store.create(key, data)

    def _stay_away(self):
        if self.outages:
            self.outages -= 1
            raise Unavailable("The store is away.")


@pytest.fixture
async def store(tmp_path):
    opened = open_object_store(tmp_path.as_uri())
    yield CountingStore(opened)
    await opened.close()


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(media_files, "_FIRST_PAUSE_S", 0.001)


async def test_bytes_are_written_once_and_named(store):
    files = MediaFiles(store)
    part = await files.keep(gif(1))
    assert part == ContentPart("image", sha256=sha(gif(1)), mime="image/gif", size_bytes=100)
    await files.keep(gif(1))
    await files.keep_all({sha(data): data for data in map(gif, range(30))}.items())
    assert sorted(store.writes) == sorted(media_key(sha(gif(number))) for number in range(30))
    assert await MediaFiles(store).read(part.sha256) == gif(1)


async def test_what_is_no_medium_is_not_written(store):
    with pytest.raises(InvalidInput, match="no image, sound or film"):
        await MediaFiles(store).keep(b"<html>")
    assert store.writes == []


async def test_many_who_want_the_same_cost_one_read(store):
    files = MediaFiles(store)
    part = await files.keep(gif(1))
    assert set(await asyncio.gather(*(files.read(part.sha256) for _ in range(20)))) == {gif(1)}
    assert store.reads == [media_key(part.sha256)]


async def test_one_who_gives_up_takes_nothing_from_the_others(store):
    files = MediaFiles(store)
    part = await files.keep(gif(1))
    first, second = (asyncio.create_task(files.read(part.sha256)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == gif(1)
    assert first.cancelled()


async def test_memory_has_a_bound_and_what_was_read_last_stays(store):
    files = MediaFiles(store, cache_bytes=250)
    shas = [(await files.keep(gif(number))).sha256 for number in range(3)]
    for number in (0, 1, 0, 2, 0, 1):  # the third pushes out the second, which was not asked for as lately
        assert await files.read(shas[number]) == gif(number)
    assert store.reads == [media_key(shas[number]) for number in (0, 1, 2, 1)]
    large = await files.keep(gif(9, 300))
    for _ in range(2):
        assert await files.read(large.sha256) == gif(9, 300)
    assert store.reads[4:] == [media_key(large.sha256)] * 2
    assert await files.read(shas[1]) == gif(1)
    assert len(store.reads) == 6


async def test_what_the_store_lacks_is_named(store):
    with pytest.raises(InvalidInput, match=f"no medium with sha256 {'ab' * 32}"):
        await MediaFiles(store).read("ab" * 32)


async def test_an_outage_is_waited_out(store, impatient):
    files = MediaFiles(store)
    store.outages = 3
    part = await files.keep(gif(1))
    store.outages = 3
    assert await files.read(part.sha256) == gif(1)


async def test_an_outage_without_end_is_told(store, impatient, monkeypatch):
    monkeypatch.setattr(media_files, "_PATIENCE_S", 0.002)
    store.outages = 1000
    with pytest.raises(Unavailable, match="away"):
        await MediaFiles(store).read("ab" * 32)
