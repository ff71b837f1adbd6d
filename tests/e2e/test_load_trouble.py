"""Trouble of load tests is told with its way out, costs nothing that is measured, and leaves nothing behind."""

import asyncio
import json
import os
import shutil
import signal
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from tests.kit import load_trouble as odd
from tests.kit.cli import Command, Done, evalmesh, family, living, running, until
from tests.kit.disks import small_disk
from tests.kit.engine import RawServer
from tests.kit.load_tests import engines
from tests.kit.model_servers import everywhere
from tests.kit.simulator import SimulatorProcess, simulator

from evalmesh.domain.errors import EvalmeshError
from evalmesh.domain.load_test import (
    ArrivalSpec,
    Lengths,
    LoadLevel,
    LoadTarget,
    LoadTest,
    LoadTestSpec,
    PromptSpec,
)
from evalmesh.domain.state import State
from evalmesh.load_generator.seat import pair
from evalmesh.local.platform import open_platform
from evalmesh.local.settings import LocalSettings
from evalmesh.sdk import AsyncClient

pytestmark = pytest.mark.timeout(120)

SECRET = "sk-live-9f8e7d6c5b4a3210"
KEY_REF = "env:EVALMESH_TEST_KEY"
SHORT = ("--max-tokens", "8", "--input-lengths", "16", "--sleep-interval", "0")
LOOKS = 3
"""Requests of a load test beside its own: does it answer, and twice, how does it count tokens."""
QUICK = 0.5


@pytest.fixture
def model() -> Iterator[SimulatorProcess]:
    with simulator("--ttft", "20ms", "--itl", "2ms") as process:
        yield process


def spec_of(url: str, *levels: LoadLevel, check: bool = False, **target: Any) -> LoadTestSpec:
    return LoadTestSpec(
        LoadTarget(url, "m", **target),
        PromptSpec("random", input_tokens=Lengths("fixed", 8, 8), output_tokens=Lengths("fixed", 8, 8)),
        ArrivalSpec("closed"),
        levels or (LoadLevel(parallel=3, number=12),),
        server_metrics=(),
        check_endpoint=check,
    )


def platform_in(work_dir: Path) -> Any:
    working = frozenset({"load_generator", "report_aggregator"})
    settings = LocalSettings(
        work_dir, generators=1, ack_wait_s=2.0, at_work=working, connections=(everywhere(KEY_REF),)
    )
    return open_platform(settings)


async def to_end(client: AsyncClient, test: LoadTest) -> tuple[LoadTest, list[dict[str, Any]]]:
    ended = await asyncio.wait_for(client.wait_load_test(test), 60)
    perf = await client.perf_report(ended)
    for level in perf["levels"]:
        check_counts(level)
    return ended, perf["levels"]


def check_counts(level: dict[str, Any]) -> None:
    """docs/perf-schema.md: nothing that was planned is missing."""
    assert level["planned"] == level["sent"] + level["unsent"] + level["skipped"] + level["lost"], level
    assert level["sent"] == level["ok"] + sum(level["errors"].values()), level


def levels_in(work_dir: Path) -> list[dict[str, Any]]:
    """Of the only report in a work directory."""
    found = sorted(work_dir.glob("outputs/*/perf.json"))
    assert len(found) == 1, found
    levels: list[dict[str, Any]] = json.loads(found[0].read_text())["levels"]
    for level in levels:
        check_counts(level)
    return levels


def ran(done: Done, code: int) -> None:
    assert (done.returncode, done.quiet) == (code, True), done.stdout + done.stderr


# The endpoint.


@contextmanager
def troubles(folder: Path) -> Iterator[dict[str, tuple[LoadTarget, tuple[str, ...]]]]:
    """By name: an endpoint, and what must be said about it."""
    signer = odd.authority(folder)
    contexts: dict[str, ssl.SSLContext] = {
        "expired": signer.server("expired", days=-1),
        "another host": signer.server("other", "example.com"),
        "unknown authority": signer.server("sound"),
    }
    wrong_tls = {
        "expired": (str(signer.ca_file), ("has expired",)),
        "another host": (str(signer.ca_file), ("not valid for '127.0.0.1'",)),
        "unknown authority": ("", ("not trusted", "ca_file", "insecure")),
    }
    answers: dict[str, tuple[Any, tuple[str, ...]]] = {
        "401": (odd.refusing("401 Unauthorized", f"no such key: {SECRET}."), ("401 (no such key: [key]).", "api_key")),
        "403": (odd.refusing("403 Forbidden", "not yours"), ("403 (not yours)", "api_key")),
        "404": (odd.refusing("404 Not Found", "no model m"), ("404 (no model m)", "'m'", "url")),
        "500": (odd.refusing("500 Internal Server Error", "no idea"), ("500 (no idea)", "not ready")),
        "page": (odd.page, ("<html>", "Welcome to nginx", "chat", "url")),
        "moved": (odd.moved, ("301 (/v2/chat/completions)", "not followed")),
        "zipped": (odd.zipped, ("compressed",)),
        "silent": (odd.silent, ("nothing came within 1 s",)),
    }
    with ExitStack() as stack:
        found: dict[str, tuple[LoadTarget, tuple[str, ...]]] = {}
        for name, (ca_file, words) in wrong_tls.items():
            server = stack.enter_context(RawServer(odd.sound, ssl=contexts[name]))
            found[name] = (LoadTarget(server.url, "m", ca_file=ca_file), words)
        for name, (answer, words) in answers.items():
            server = stack.enter_context(RawServer(answer))
            found[name] = (LoadTarget(server.url, "m", key_ref=KEY_REF, read_timeout_s=1.0), words)
        here = f"127.0.0.1:{odd.free_port()}"
        found["refused"] = (LoadTarget(f"http://{here}/v1/chat/completions", "m"), (here, "connection refused"))
        found["unknown host"] = (LoadTarget("http://no-such-host.invalid/v1", "m"), ("name of the host is not known",))
        full = stack.enter_context(odd.never_accepting())
        slow = LoadTarget(f"http://127.0.0.1:{full}/v1", "m", connect_timeout_s=0.5)
        found["never accepts"] = (slow, ("no connection after 0.5 s",))
        yield found


async def test_an_endpoint_that_cannot_be_used_says_why_and_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv(KEY_REF.removeprefix("env:"), SECRET)
    with troubles(tmp_path) as cases:
        async with platform_in(tmp_path) as platform, AsyncClient(platform.address) as client:
            for name, (target, words) in cases.items():
                spec = spec_of(target.url, check=True)
                with pytest.raises(EvalmeshError) as caught:
                    await client.create_load_test(LoadTestSpec(**{**_fields(spec), "target": target}))
                said = caught.value.message
                assert said.startswith("url: "), f"{name}: {said}"
                assert all(word in said for word in words), f"{name}: {said}"
                assert said.isprintable(), f"{name}: a terminal would obey {said!r}"
                assert "Error" not in said, f"{name}: {said}"
            assert [one async for one in client.list_load_tests()] == []


def test_an_endpoint_that_is_busy_already_is_told_of_and_put_under_load(tmp_path):
    async def busy_at_first(wire, body):
        answer = odd.sound if len(server.bodies) > 1 else odd.refusing("429 Too Many Requests", "later")
        await answer(wire, body)

    with RawServer(busy_at_first) as server:
        done = evalmesh("perf", "--url", server.url, "--model", "m", *SHORT, "--number", "4", cwd=tmp_path)
    ran(done, 0)
    assert "note: The endpoint is busy already: it answered a first request with 429 (later)." in done.stderr


def _fields(spec: LoadTestSpec) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in spec.__slots__}


async def test_odd_servers_are_understood(tmp_path):
    answers = (odd.sound, odd.http_1_0, odd.closing, odd.scattered, odd.huge)
    with ExitStack() as stack:
        servers = [stack.enter_context(RawServer(answer, limit=1 << 24)) for answer in answers]
        compressed = stack.enter_context(RawServer(odd.zipped))
        async with platform_in(tmp_path) as platform, AsyncClient(platform.address) as client:
            for answer, server in zip(answers, servers, strict=True):
                test = await client.create_load_test(spec_of(server.url, check=True))
                _, (level,) = await to_end(client, test)
                assert (level["ok"], level["errors"]) == (12, {}), f"{answer.__name__}: {level}"
                assert level["output_tokens"]["mean"] == odd.TOKENS
            _, (level,) = await to_end(client, await client.create_load_test(spec_of(compressed.url)))
    assert level["errors"] == {"malformed": 12}
    assert "compressed" in level["error_examples"][0]["message"]


def test_tls_ipv6_and_a_key_that_is_nowhere_to_be_found(tmp_path):
    signer = odd.authority(tmp_path)
    with RawServer(odd.sound, host="::1", ssl=signer.server("own", "::1")) as server:
        words = ("perf", "--url", f"https://[::1]:{server.port}/", "--model", "m", *SHORT, "--api-key", SECRET)
        (tmp_path / "work").mkdir()
        done = evalmesh(*words, "--ca-file", signer.ca_file, "--parallel", "8", "--number", "1", cwd=tmp_path / "work")
        ran(done, 0)
        assert SECRET.encode() not in b"".join(server.bodies)
        refused = evalmesh(*words, "--number", "2", "--no-test-connection", "--no-timestamp", cwd=tmp_path / "work")
    ran(refused, 5)
    assert "not trusted" in refused.stdout
    assert "no request succeeded" in refused.stderr
    said = done.stdout + done.stderr + refused.stdout + refused.stderr
    assert SECRET not in said
    assert odd.files_with(SECRET, tmp_path) == []


def test_a_server_that_dies_is_told_and_not_hammered(tmp_path):
    with simulator("--ttft", "50ms", "--itl", "5ms") as model:
        words = ("perf", "--url", f"{model.url}/chat/completions", "--model", "m", *SHORT)
        with running(*words, "--parallel", "8", "4", "--duration", "2", cwd=tmp_path) as command:
            until(lambda: model.stats()["requests"] > 40, what="the load")
            model.process.kill()
            done = command.end()
    ran(done, 3)
    first, second = levels_in(tmp_path)
    assert first["ok"] > 20
    assert set(first["errors"]) <= {"reset", "connect", "truncated"}
    assert set(second["errors"]) == {"connect"}
    assert second["errors"]["connect"] < 1000, "a port that refuses would take thousands a second"
    assert "connection refused" in done.stdout


# Interruptions.


def url_of(model: SimulatorProcess) -> tuple[str, ...]:
    return ("perf", "--url", f"{model.url}/chat/completions", "--model", "m", *SHORT)


def stopped(command: Command, number: signal.Signals) -> Done:
    """Ends the command in order; it is quick about it, and nobody stays."""
    pids = family(command.process.pid)
    command.signal(number)
    done = command.end(within_s=20)
    until(lambda: not living(pids), what="the end of every process")
    return done


def test_ctrl_c_while_a_silent_server_is_asked_how_it_counts(tmp_path):
    with RawServer(odd.silent) as server:
        words = ("perf", "--url", server.url, "--model", "m", *SHORT, "--no-test-connection")
        with running(*words, cwd=tmp_path) as command:
            until(lambda: server.connections > 0, what="the question")
            done = stopped(command, signal.SIGINT)
    ran(done, 130)
    assert levels_in(tmp_path) == []
    assert odd.scratch_of(tmp_path) == []


def test_sigterm_between_levels_while_another_command_works_in_the_folder(model, tmp_path):
    words = (*url_of(model), "--sleep-interval", "90", "--parallel", "1", "2", "--number", "10", "20")
    with running(*words, cwd=tmp_path) as command:
        until(lambda: "10 ok" in command.stderr, what="the first level")
        ran(evalmesh(*url_of(model), "--number", "1", cwd=tmp_path), 0)
        (other,) = levels_in(tmp_path)
        assert (other["ok"], "interrupted" in command.stderr) == (1, False)
        shutil.rmtree(next(tmp_path.glob("outputs/*/perf.json")).parent)
        done = stopped(command, signal.SIGTERM)
    ran(done, 130)
    (level,) = levels_in(tmp_path)
    assert (level["state"], level["ok"]) == ("done", 10)


def test_ctrl_c_while_outputs_are_written_costs_none_of_them(model, tmp_path):
    with running(*url_of(model), "--number", "10", cwd=tmp_path) as command:
        until(lambda: " succeeded" in command.stderr, what="the end")
        done = stopped(command, signal.SIGINT)
    assert done.returncode in {0, 130}, "it may have been quicker than the signal"
    assert done.quiet, done.stderr
    assert levels_in(tmp_path)[0]["ok"] == 10
    if "stopping" in done.stderr:
        assert "perf_report.html" in done.stdout
    assert {path.name for path in (tmp_path / "outputs").glob("*/*.*")} >= {"perf_report.html", "requests.parquet"}


def send_all(pids, number):
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def test_a_second_ctrl_c_ends_at_once_and_takes_all_processes_along(tmp_path):
    with RawServer(odd.silent) as server:
        words = ("perf", "--url", server.url, "--model", "m", *SHORT, "--prompt", "hello", "--no-test-connection")
        with running(*words, "--parallel", "2", cwd=tmp_path) as command:
            until(lambda: len(server.bodies) > 1, what="the load")
            pids = family(command.process.pid)
            children = [pid for pid in pids if pid != command.process.pid]
            # An end in good order, which the first press asks for, has to wait for them.
            send_all(children, signal.SIGSTOP)
            command.signal(signal.SIGINT)
            until(lambda: "once more" in command.stderr, what="the first")
            time.sleep(0.6)  # a second press, not the echo of the first
            command.signal(signal.SIGINT)
            done = command.end(within_s=20)
            send_all(children, signal.SIGCONT)
    assert done.returncode == 130
    until(lambda: not living(pids), what="the end of every process")


def test_what_a_killed_command_measured_is_reported_and_its_load_is_not_sent_again(model, tmp_path):
    words = (*url_of(model), "--parallel", "1", "4", "--number", "10", "100000")
    with running(*words, cwd=tmp_path) as command:
        until(lambda: model.stats()["requests"] > 40, what="the second level")
        command.process.kill()
        command.process.wait()
        until(lambda: not living(family(command.process.pid)), what="the end of every process")
    assert "interrupted" in evalmesh("perf", "list", cwd=tmp_path).stdout
    until(lambda: model.stats()["in_flight"] == 0, what="the end of what had been sent")
    before = model.stats()["requests"]
    done = evalmesh(*url_of(model), "--number", "5", "--no-timestamp", cwd=tmp_path)
    ran(done, 0)
    assert model.stats()["requests"] == before + 5 + LOOKS
    first, second = levels_in(tmp_path)
    assert (first["state"], first["ok"]) == ("done", 10)
    assert second["state"] == "cancelled"
    assert "what it measured is in" in done.stderr
    assert odd.scratch_of(tmp_path) == []


# Processes of the load generator.


async def until_sent(client: AsyncClient, test: LoadTest, sent: int) -> None:
    async for now, snapshot in client.watch_load_test(test):
        assert not now.state.terminal, now
        if snapshot is not None and snapshot.sent >= sent:
            return


async def test_the_only_generator_dies_and_the_next_level_is_whole(model, tmp_path):
    levels = (LoadLevel(parallel=4, number=300), LoadLevel(parallel=2, number=20))
    async with platform_in(tmp_path) as platform, AsyncClient(platform.address) as client:
        test = await client.create_load_test(spec_of(f"{model.url}/chat/completions", *levels))
        await until_sent(client, test, 20)
        os.kill(engines()[0], signal.SIGKILL)
        ended, (hit, whole) = await to_end(client, test)
    assert ended.state is State.SUCCEEDED
    assert hit["lost"] > 0
    assert "SIGKILL" in hit["generators"][0]["error"]
    assert (whole["ok"], whole["lost"], whole["state"]) == (20, 0, "done")


async def test_an_engine_that_hangs_keeps_nobody_from_ending(model, tmp_path, monkeypatch):
    monkeypatch.setattr(pair, "_STOP_S", QUICK)
    monkeypatch.setattr(pair, "_SECOND_LOOK_S", QUICK)
    async with platform_in(tmp_path) as platform, AsyncClient(platform.address) as client:
        level = LoadLevel(parallel=4, duration_s=600)
        test = await client.create_load_test(spec_of(f"{model.url}/chat/completions", level))
        await until_sent(client, test, 20)
        os.kill(engines()[0], signal.SIGSTOP)
        await client.cancel_load_test(test)
        ended, (hit,) = await to_end(client, test)
    assert ended.state is State.CANCELLED
    assert hit["ok"] > 10
    assert "did not leave off" in hit["generators"][0]["error"]


# Disks and folders.


def test_records_that_find_no_room_end_their_level_and_the_rest_is_reported(model, tmp_path):
    with small_disk(tmp_path / "outputs" / ".evalmesh" / "scratch", "100k"):
        words = (*url_of(model), "--parallel", "16", "2", "--number", "1500", "10")
        done = evalmesh(*words, cwd=tmp_path)
        first, second = levels_in(tmp_path)
    ran(done, 1)
    assert "No space left" in done.stdout
    assert first["state"] == "failed"
    assert first["ok"] > 500
    assert first["unsent"] > 0
    assert (second["state"], second["ok"]) == ("done", 10)


def test_a_full_object_store_is_told_and_waited_out(model, tmp_path):
    with small_disk(tmp_path / "outputs" / ".evalmesh" / "objects", "80k") as resize:
        words = (*url_of(model), "--parallel", "16", "--number", "800")
        with running(*words, cwd=tmp_path) as command:
            until(lambda: "No space left" in command.stderr, 30, "a word about the full disk")
            assert command.process.poll() is None
            resize("30m")
            done = command.end()
        (level,) = levels_in(tmp_path)
    ran(done, 0)
    assert (level["ok"], level["lost"]) == (800, 0)


def test_a_folder_that_cannot_be_written_to_is_told_before_anything_is_asked(tmp_path):
    (tmp_path / "file").touch()
    with RawServer(odd.sound) as server:
        words = ("perf", "--url", server.url, "--model", "m", "--outputs-dir", tmp_path / "file")
        done = evalmesh(*words, cwd=tmp_path)
        assert server.connections == 0
    ran(done, 2)
    assert "work_dir" in done.stderr
    assert str(tmp_path / "file") in done.stderr
