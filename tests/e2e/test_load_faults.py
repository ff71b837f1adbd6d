"""Failures are counted as the server knows them, one by one, and nothing that is not whole is a success."""

import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping

import pytest
import pytest_asyncio
from tests.kit import load_tests as kit
from tests.kit.load_tests import Measured, measure, run_to_end, target
from tests.kit.simulator import SimulatorProcess, simulator

from evalmesh.domain.load_test import ArrivalSpec, Lengths, LoadLevel, LoadTarget, LoadTestSpec, PromptSpec
from evalmesh.sdk import AsyncClient

pytestmark = [pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]

CLASSES = {
    "500": "http_500",
    "429": "http_429",
    "reset": "reset",
    "cut": "reset",  # the connection ends in the middle of the HTTP message
    "truncated": "truncated",  # the HTTP message is whole and the answer is not
    "malformed": "malformed",
    "error_event": "error_event",
    "empty": "empty",
    "stall": "read_timeout",
    "slow_header": "read_timeout",
}
"""What each fault must be counted as."""
NUMBER = 400


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(tmp_path_factory) -> AsyncIterator[AsyncClient]:
    async with kit.load_platform(tmp_path_factory.mktemp("platform"), generators=2) as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def prompts(client, tmp_path_factory) -> PromptSpec:
    path = kit.write_prompts(tmp_path_factory.mktemp("prompts") / "prompts.txt", NUMBER)
    digest = await client.import_load_file(path)
    return PromptSpec("line_by_line", digest, path.name, output_tokens=Lengths("fixed", 8, 8))


@pytest.fixture(scope="module")
def faulty() -> Iterator[SimulatorProcess]:
    """About half of its answers are sound."""
    faults = [word for kind in CLASSES for word in ("--fault", f"{kind}:rate=0.06,pause=30s")]
    with simulator("--truth", "--ttft", "20ms", "--itl", "2ms", *faults) as model:
        yield model


def spec(model: SimulatorProcess, prompts: PromptSpec, **more: object) -> LoadTestSpec:
    usual = {"levels": (LoadLevel(32, number=NUMBER),), "generators": 2}
    usual["target"] = target(model, read_timeout_s=0.5)
    return LoadTestSpec(prompts=prompts, server_metrics=(), check_endpoint=False, **(usual | more))


def assert_exact(level: Measured, model: SimulatorProcess, classes: Mapping[str, str] = CLASSES) -> None:
    """Each request ended as the server says it did, and the counts are the sums of that."""
    document, requests = level.document, level.requests
    assert sorted(level.lines) == list(range(NUMBER))
    wanted = {row: classes[line["fault"]] if line["fault"] else "ok" for row, line in level.lines.items()}
    heard = dict(zip(requests["index"].tolist(), requests["outcome"].tolist(), strict=True))
    assert {row: (wanted[row], heard[row]) for row in wanted if wanted[row] != heard[row]} == {}
    counts = Counter(wanted.values())
    assert set(counts) == {*classes.values(), "ok"}, "every class must occur"
    assert document["ok"] == counts.pop("ok")
    assert document["errors"] == counts
    forgiven = Counter(line["fault"] for line in level.lines.values() if classes.get(line["fault"]) == "ok")
    assert sum(model.stats()["faults"].values()) == counts.total() + forgiven.total()
    assert document["planned"] == document["sent"] == document["ok"] + sum(document["errors"].values()) == NUMBER
    assert document["unsent"] == document["skipped"] == document["lost"] == 0
    assert {one["class"]: one["count"] for one in document["error_examples"]} == counts


class TestFaults:
    async def test_closed_loop(self, client, faulty, prompts, tmp_path) -> None:
        assert_exact(await measure(client, faulty, spec(faulty, prompts), tmp_path), faulty)

    async def test_open_loop(self, client, faulty, prompts, tmp_path) -> None:
        wanted = spec(faulty, prompts, arrival=ArrivalSpec("poisson"), levels=(LoadLevel(rate=300, number=NUMBER),))
        assert_exact(await measure(client, faulty, wanted, tmp_path), faulty)

    async def test_without_streaming(self, client, faulty, prompts, tmp_path) -> None:
        wanted = spec(faulty, prompts, target=target(faulty, read_timeout_s=0.5, stream=False))
        # A whole answer is over when its JSON is, whether it gives a reason or not.
        assert_exact(await measure(client, faulty, wanted, tmp_path), faulty, CLASSES | {"truncated": "ok"})

    async def test_compatible_transport(self, client, faulty, prompts, tmp_path) -> None:
        wanted = spec(faulty, prompts, target=target(faulty, read_timeout_s=0.5, transport="compatible"))
        assert_exact(await measure(client, faulty, wanted, tmp_path), faulty)

    async def test_slots_are_not_lost_to_failures(self, client, prompts, tmp_path) -> None:
        """Requests go on being sent, as many at a time as asked, however many fail."""
        with simulator("--truth", "--ttft", "20ms", "--itl", "2ms", "--fault", "reset:rate=0.5") as model:
            level = await measure(client, model, spec(model, prompts), tmp_path)
        assert level.document["client"]["peak_in_flight"] == 32
        assert level.document["errors"] == {"reset": Counter(line["fault"] for line in level.truth)["reset"]}

    async def test_refused_by_the_machine(self, client, prompts) -> None:
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))  # and nobody listens
            url = f"http://127.0.0.1:{nobody.getsockname()[1]}/v1/chat/completions"
            wanted = LoadTestSpec(
                LoadTarget(url, "simulated"),
                prompts,
                levels=(LoadLevel(4, number=50),),
                server_metrics=(),
                check_endpoint=False,
            )
            _, report = await run_to_end(client, wanted)
        (level,) = report["levels"]
        assert (level["planned"], level["ok"], level["errors"]) == (50, 0, {"connect": 50})
        assert level["ttft_ms"]["n"] == 0
        assert level["error_rate"] == 1.0
