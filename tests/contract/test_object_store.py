"""One suite for every object store, then what each backend alone can show."""

import asyncio
import logging
import os
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.kit.s3 import BUCKET, MotoServer, RcloneServer, S3Server, running

from evalmesh.adapters.object_store import S3ObjectStore, open_object_store
from evalmesh.adapters.object_store.failures import folder_failure, s3_failure
from evalmesh.domain.errors import (
    FailedPrecondition,
    InvalidInput,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
    Unimplemented,
)
from evalmesh.ports.object_store import ObjectStore

QUICK = {"connect_timeout_s": "0.5", "read_timeout_s": "0.5", "retry_timeout_s": "0.3"}


@pytest.fixture(scope="module")
def moto():
    with running(MotoServer()) as server:
        yield server


@pytest.fixture(scope="module")
def rclone(tmp_path_factory):
    with running(RcloneServer(tmp_path_factory.mktemp("rclone"))) as server:
        yield server


@pytest.fixture(params=["folder", "moto", "rclone"])
def store(request, tmp_path) -> ObjectStore:
    return _open(request, tmp_path, request.param)


@pytest.fixture(params=["folder", "moto"])
def atomic_store(request, tmp_path) -> ObjectStore:
    """Stores whose `create` lets exactly one writer win."""
    return _open(request, tmp_path, request.param)


def _open(request, tmp_path: Path, kind: str) -> ObjectStore:
    if kind == "folder":
        return open_object_store((tmp_path / "objects").as_uri())
    server: S3Server = request.getfixturevalue(kind)
    return _on(server)


def _on(server: S3Server, **options: str) -> S3ObjectStore:
    opened = open_object_store(server.url(f"t-{secrets.token_hex(6)}"), server.options | options)
    assert isinstance(opened, S3ObjectStore)
    return opened


async def _pieces(count: int, size_bytes: int) -> AsyncIterator[bytes]:
    for number in range(count):
        yield bytes([number % 251]) * size_bytes


async def _keys(store: ObjectStore, prefix: str) -> list[str]:
    return [info.key async for info in store.list(prefix)]


# --- every store -------------------------------------------------------------------------------------------------


async def test_what_was_put_is_what_is_got(store):
    data = os.urandom(65_536)
    await store.put("runs/r1/a", data)
    assert await store.get("runs/r1/a") == data
    await store.put("runs/r1/a", b"")
    assert await store.get("runs/r1/a") == b""


async def test_an_object_larger_than_one_part_is_put_whole(store):
    data = os.urandom(9 << 20)
    await store.put("large", data)
    assert await store.get("large") == data


@pytest.mark.parametrize("key", ["a b/ü+&=%41.json", "runs/r1/000001.part-17-0.jsonl", "x#1y", "~'(1)"])
async def test_unusual_keys_come_back_as_they_are(store, key):
    await store.put(key, b"1")
    assert await store.get(key) == b"1"
    assert await _keys(store, "") == [key]


async def test_create_writes_once(store):
    assert await store.create("plan", b"first") is True
    assert await store.create("plan", b"second") is False
    assert await store.get("plan") == b"first"


async def test_of_concurrent_creates_exactly_one_wins(atomic_store):
    for round_ in range(5):
        values = [b"%d" % number for number in range(8)]
        won = await asyncio.gather(*(atomic_store.create(f"race/{round_}", value) for value in values))
        assert won.count(True) == 1
        assert await atomic_store.get(f"race/{round_}") == values[won.index(True)]


async def test_info_changes_with_every_write(store):
    with pytest.raises(NotFound):
        await store.info("results/a")
    seen = set()
    for data in (b"one", b"two", b"three"):
        await store.put("results/a", data)
        info = await store.info("results/a")
        assert (info.key, info.size_bytes) == ("results/a", len(data))
        assert await store.info("results/a") == info
        seen.add(info.version)
    assert len(seen) == 3


async def test_exists_tells_objects_from_absent_keys_and_folders(store):
    await store.put("a/b/c", b"1")
    assert await store.exists("a/b/c")
    assert not await store.exists("a/b")
    assert not await store.exists("a/b/d")
    assert not await store.exists("a/b/c/d")


async def test_absent_objects_are_not_found_by_name(store):
    await store.put("a/b", b"1")
    for key in ("zz", "a", "a/b/c"):
        with pytest.raises(NotFound, match=f"'{key}'"):
            await store.get(key)
        with pytest.raises(NotFound, match=f"'{key}'"):
            await anext(aiter(store.stream(key)))


async def test_list_is_in_key_order_and_takes_plain_string_prefixes(store):
    keys = ["a-b/x", "a/b", "a/c/10", "a/c/9", "a0", "b/1", "b/1.part-1", "b/1.part-2", "b/10"]
    for key in reversed(keys):
        await store.put(key, key.encode())
    for prefix in ("", "a", "a/", "a/c", "a/c/", "b/1", "b/1.part-", "b/10", "zz", "zz/y"):
        assert await _keys(store, prefix) == sorted(key for key in keys if key.startswith(prefix)), prefix


async def test_list_tells_sizes(store):
    await store.put("s/1", b"12345")
    assert [(info.key, info.size_bytes) async for info in store.list("s/")] == [("s/1", 5)]


async def test_list_may_be_left_early(store):
    for number in range(30):
        await store.put(f"n/{number:02}", b"")
    listing = store.list("n/")
    assert (await anext(listing)).key == "n/00"
    await listing.aclose()
    assert await _keys(store, "n/1") == [f"n/1{digit}" for digit in range(10)]


async def test_a_streamed_upload_comes_back_in_pieces(store):
    assert await store.put_stream("big", _pieces(12, 1 << 20)) == 12 << 20
    pieces = [piece async for piece in store.stream("big", chunk_bytes=1 << 20)]
    assert b"".join(pieces) == b"".join([piece async for piece in _pieces(12, 1 << 20)])
    assert max(map(len, pieces)) < 4 << 20


async def test_streams_may_be_empty(store):
    assert await store.put_stream("nothing", _pieces(0, 0)) == 0
    assert [piece async for piece in store.stream("nothing")] == []
    assert await store.exists("nothing")


async def test_an_upload_whose_source_breaks_leaves_no_object(store):
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * (10 << 20)
        raise NotFound("The row is gone.")

    with pytest.raises(NotFound, match="The row is gone"):
        await store.put_stream("half", broken())
    assert not await store.exists("half")
    assert await _keys(store, "") == []


async def test_delete_removes_what_is_there(store):
    for key in ("d/1", "d/2", "d/3"):
        await store.put(key, b"1")
    await store.delete(["d/0", "d/1", "nowhere/at/all", "d/3"])
    assert await _keys(store, "d/") == ["d/2"]
    await store.delete([])
    await store.delete(["d/1"])


@pytest.mark.parametrize(
    "key",
    ["", "/a", "a/", "a//b", "a/../b", "..", "./a", "a\n", "a\0b", "a#1", "x" * 300, "x/" * 500 + "x", ".evalmesh/x"],
)
async def test_bad_keys_are_refused_by_every_call(store, key):
    for call in (
        lambda: store.get(key),
        lambda: store.put(key, b""),
        lambda: store.create(key, b""),
        lambda: store.put_stream(key, _pieces(1, 1)),
        lambda: store.exists(key),
        lambda: store.delete([key]),
        lambda: anext(aiter(store.stream(key))),
    ):
        with pytest.raises(InvalidInput, match="not allowed"):
            await call()


async def test_bad_prefixes_are_refused(store):
    for prefix in ("/", "../", "a//", "a/../b", "a\n"):
        with pytest.raises(InvalidInput, match="prefix"):
            await _keys(store, prefix)


# --- a folder ----------------------------------------------------------------------------------------------------


async def test_a_folder_lists_thousands_of_objects_in_order(tmp_path):
    store = open_object_store(tmp_path.as_uri())
    keys = [f"runs/r{number % 3}/{number:04}" for number in range(2_200)]
    await asyncio.gather(*(store.put(key, b"1") for key in keys))
    assert await _keys(store, "runs/") == sorted(keys)


def test_a_killed_writer_leaves_no_partial_object(tmp_path):
    size_bytes = 3 << 20
    script = f"""
import asyncio, sys
from evalmesh.adapters.object_store import open_object_store
async def pieces():
    for _ in range(3):
        yield b"x" * {1 << 20}
async def main():
    store = open_object_store(sys.argv[1])
    for n in range(10**9):
        data = b"x" * {size_bytes}
        await asyncio.gather(
            store.put("same", data), store.create(f"new/{{n}}", data), store.put_stream("stream", pieces())
        )
        if n == 0:
            print("go", flush=True)
asyncio.run(main())
"""
    for delay_s in (0.05, 0.11, 0.17):
        child = subprocess.Popen([sys.executable, "-c", script, tmp_path.as_uri()], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(delay_s)
        child.kill()
        child.communicate()
        asyncio.run(_all_whole_and_writable(open_object_store(tmp_path.as_uri()), size_bytes))


async def _all_whole_and_writable(store: ObjectStore, size_bytes: int) -> None:
    sizes = [info.size_bytes async for info in store.list("")]
    assert sizes, "the writer wrote nothing"
    assert set(sizes) == {size_bytes}
    await store.put("same", b"y" * size_bytes)
    assert await store.get("same") == b"y" * size_bytes


async def test_a_folder_that_vanished_is_unavailable_and_is_not_made_anew(tmp_path):
    folder, away = tmp_path / "objects", tmp_path / "away"
    store = open_object_store(folder.as_uri())
    await store.put("a/b", b"1")
    folder.rename(away)
    for call in (
        lambda: store.get("a/b"),
        lambda: store.put("a/b", b"2"),
        lambda: store.create("a/c", b"2"),
        lambda: store.put_stream("a/b", _pieces(1, 1)),
        lambda: store.exists("a/b"),
        lambda: store.delete(["a/b"]),
        lambda: _keys(store, "a/"),
    ):
        with pytest.raises(Unavailable, match="is gone"):
            await call()
    assert not folder.exists()
    away.rename(folder)
    assert await store.get("a/b") == b"1"


async def test_an_object_cannot_lie_under_another_in_a_folder(tmp_path):
    store = open_object_store(tmp_path.as_uri())
    await store.put("a", b"1")
    with pytest.raises(InvalidInput, match="'a/b'"):
        await store.put("a/b", b"1")
    await store.delete(["a/b"])


def test_a_full_file_system_is_resource_exhausted(tmp_path):
    # A limit on the size of files is the one kind of full that needs neither a mount nor privileges.
    script = """
import asyncio, resource, sys
from evalmesh.adapters.object_store import open_object_store
from evalmesh.domain.errors import ResourceExhausted
async def pieces():
    yield b"x" * 65536
async def main():
    store = open_object_store(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    for call in (store.put("a", b"x" * 65536), store.create("b", b"x" * 65536), store.put_stream("c", pieces())):
        try:
            await call
        except ResourceExhausted as error:
            assert "Free space" in error.message
        else:
            raise AssertionError("wrote past the limit")
    assert [info async for info in store.list("")] == []
asyncio.run(main())
"""
    subprocess.run([sys.executable, "-c", script, tmp_path.as_uri()], check=True, timeout=30)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Unable to copy data to file: No space left on device (os error 28)", ResourceExhausted),
        ("Unable to copy data to file: Disk quota exceeded (os error 122)", ResourceExhausted),
        ("Unable to open file /x/a#1: Permission denied (os error 13)", PermissionDenied),
        ("Unable to open file /x/a#1: Read-only file system (os error 30)", PermissionDenied),
        ("Unable to open file /x/a: Input/output error (os error 5)", Unavailable),
        ("Unable to open file /x/a: Stale file handle (os error 116)", Unavailable),
    ],
)
def test_what_the_operating_system_says_becomes_a_domain_error(text, expected):
    error = folder_failure(
        Exception(f"Generic LocalFileSystem error: {text}\n\nDebug source:\n..."), "here", "put of 'a'"
    )
    assert type(error) is expected
    assert "Debug" not in error.message


async def test_a_folder_that_may_not_be_written_is_permission_denied():
    # Nobody may create files in sysfs, root included.
    with pytest.raises(PermissionDenied, match="write access"):
        await open_object_store("file:///sys/kernel").put("evalmesh-test", b"1")


# --- S3 ----------------------------------------------------------------------------------------------------------


async def test_a_server_without_conditional_put_is_found_out_once(rclone, caplog):
    store = _on(rclone)
    with caplog.at_level(logging.WARNING):
        assert await asyncio.gather(store.create("a", b"1"), store.create("b", b"1")) == [True, True]
        assert await store.create("a", b"2") is False
    assert len([record for record in caplog.records if "not atomic" in record.message]) == 1
    assert await _keys(store, "") == ["a", "b"]


async def test_a_server_with_conditional_put_is_recognised(moto, caplog):
    store = _on(moto)
    assert await store.probe_conditional_put() is True
    assert not caplog.records
    left = [item.object_name for item in moto.client().list_objects(BUCKET, recursive=True)]
    assert not [name for name in left if ".evalmesh" in name]


@pytest.mark.parametrize("wrong", [{"secret_access_key": "w" * 20}, {"access_key_id": "nobody-known"}])
async def test_wrong_credentials_are_permission_denied(rclone, wrong):
    store = _on(rclone, **wrong)
    for call in (
        lambda: store.get("a"),
        lambda: store.put("a", b"1"),
        lambda: store.create("a", b"1"),
        lambda: store.exists("a"),
        lambda: store.delete(["a"]),
        lambda: _keys(store, "a/"),
    ):
        with pytest.raises(PermissionDenied, match="Check the access key") as raised:
            await call()
        assert rclone.secret_key not in str(raised.value)
        assert "w" * 20 not in str(raised.value)


async def test_a_missing_bucket_is_told_with_the_way_out(moto):
    store = open_object_store("s3://no-such-bucket/x", moto.options)
    for call in (
        lambda: store.put("a", b"1"),
        lambda: store.get("a"),
        lambda: _keys(store, ""),
        lambda: store.create("a", b""),
    ):
        with pytest.raises(FailedPrecondition, match="evalmesh store init"):
            await call()


async def test_a_dead_server_is_unavailable_soon(tmp_path):
    store = _on(RcloneServer(tmp_path), **QUICK)
    for call in (
        lambda: store.get("a"),
        lambda: store.put("a", b"1"),
        lambda: _keys(store, ""),
        lambda: store.exists("a"),
    ):
        started = time.monotonic()
        with pytest.raises(Unavailable, match="refused"):
            await call()
        assert time.monotonic() - started < 4


async def test_a_server_that_hangs_is_unavailable_soon_and_works_again_later(tmp_path):
    with running(RcloneServer(tmp_path)) as server:
        store = _on(server, **QUICK)
        await store.put("a", b"1")
        server.pause()
        for call in (lambda: store.get("a"), lambda: store.put("b", b"1")):
            with pytest.raises(Unavailable, match="in time"):
                await asyncio.wait_for(call(), 8)
        server.resume()
        assert await store.get("a") == b"1"


async def test_a_server_that_comes_back_within_the_retry_window_is_waited_for(tmp_path):
    with running(RcloneServer(tmp_path)) as server:
        store = _on(server)
        await store.put("a", b"1")
        server.kill()
        calls = asyncio.gather(store.put("b", b"2"), store.get("a"), store.create("c", b"3"))
        await asyncio.sleep(0.5)
        await asyncio.to_thread(server.start)
        assert await calls == [None, b"1", True]
        assert await _keys(store, "") == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (503, "SlowDown", Unavailable),
        (500, "InternalError", Unavailable),
        (429, "TooManyRequests", Unavailable),
        (507, "XMinioStorageFull", ResourceExhausted),
        (403, "QuotaExceeded", ResourceExhausted),
        (400, "ExpiredToken", PermissionDenied),
        (403, "AccessDenied", PermissionDenied),
        (401, "Unauthorized", PermissionDenied),
        (400, "AuthorizationHeaderMalformed", FailedPrecondition),
        (301, "PermanentRedirect", FailedPrecondition),
        (501, "NotImplemented", Unimplemented),
    ],
)
async def test_what_a_server_answers_becomes_a_domain_error(status, code, expected):
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>k=SECRET</Message></Error>"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
        await reader.readexactly(int(length[0]) if length else 0)
        reply = f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n{body}"
        writer.write(reply.encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    keys = {"endpoint": f"http://127.0.0.1:{port}", "access_key_id": "a", "secret_access_key": "b"}
    store = open_object_store("s3://bucket/x", keys | QUICK)
    async with server:
        with pytest.raises(expected, match="region" if status == 301 else code) as raised:
            await store.put("k", b"1")
    assert type(raised.value) is expected
    assert "SECRET" not in str(raised.value)


def test_missing_credentials_are_told_with_the_way_out():
    text = "Error performing PUT http://169.254.169.254/latest/api/token in 3ms - HTTP error"
    assert isinstance(s3_failure(Exception(text), "s3://b", "put of 'a'"), PermissionDenied)


async def test_the_environment_names_endpoint_and_keys(moto, monkeypatch):
    for name, value in moto.environ.items():
        monkeypatch.setenv(name, value)
    store = open_object_store(moto.url("by-environment"))
    await store.put("a", b"1")
    assert await store.get("a") == b"1"


# --- opening -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "",
        "objects",
        "gs://b",
        "http://h/b",
        "file://rel/x",
        "file:x",
        "s3://",
        "s3://B",
        "s3://b/../c",
        "s3://bucket?x=1",
    ],
)
def test_urls_that_name_no_store_are_refused(url):
    with pytest.raises(InvalidInput):
        open_object_store(url)


def test_keys_in_urls_are_refused_and_not_repeated():
    with pytest.raises(InvalidInput) as raised:
        open_object_store("s3://me:hunter2@bucket")
    assert "hunter2" not in raised.value.message


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"colour": "red"}, "colour"),
        ({"endpoint": "host:9000"}, "endpoint"),
        ({"endpoint": "http://me:hunter2@host"}, "endpoint"),
        ({"retry_timeout_s": "soon"}, "soon"),
        ({"read_timeout_s": "-1"}, "read_timeout_s"),
        ({"addressing": "west"}, "west"),
        ({"conditional_put": "maybe"}, "maybe"),
        ({"access_key_id": "a"}, "secret_access_key"),
    ],
)
def test_wrong_options_are_refused_by_name(options, named):
    with pytest.raises(InvalidInput, match=named) as raised:
        open_object_store("s3://bucket", options)
    assert "hunter2" not in raised.value.message


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "f").write_text("")
    with pytest.raises(InvalidInput, match="names a file"):
        open_object_store((tmp_path / "f").as_uri())
