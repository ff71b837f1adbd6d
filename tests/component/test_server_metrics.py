"""Sources that speak real exposition text, break, stall and vanish; the reader goes on."""

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace

import pytest
from aiohttp import web
from tests.kit.model_servers import any_server

from evalmesh.adapters.server_metrics import open_server_metrics
from evalmesh.adapters.server_metrics.exposition import ExpositionReader
from evalmesh.domain.errors import InvalidInput
from evalmesh.load.server.names import kind_of
from evalmesh.load.server.readings import Reading
from evalmesh.load.server.series import build_server

VLLM = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a \\"b\\" \\\\c"} 7.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="a \\"b\\" \\\\c"} 0.25
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{engine="0",model_name="a \\"b\\" \\\\c"} %(tokens)d.0
# TYPE vllm:generation_tokens_created gauge
vllm:generation_tokens_created{engine="0",model_name="a \\"b\\" \\\\c"} 1.7609e+09
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.1"} 3.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf"} 4.0
vllm:time_to_first_token_seconds_count{engine="0"} 4.0
vllm:time_to_first_token_seconds_sum{engine="0"} 0.5
# TYPE python_gc_objects_collected_total counter
python_gc_objects_collected_total{generation="0"} 8861.0
"""


class Page:
    """A server of our own with pages of text."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.pages: dict[str, Callable[[], web.Response] | str] = {}
        self.delay_s = 0.0
        self.root = ""
        self._runner: web.AppRunner | None = None

    async def start(self, port: int = 0) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]
        self.root = f"http://127.0.0.1:{self.port}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        self.headers.append(dict(request.headers))
        await asyncio.sleep(self.delay_s)
        page = self.pages.get(request.path)
        if page is None:
            return web.Response(status=404, text="nothing here")
        return web.Response(text=page) if isinstance(page, str) else page()


@pytest.fixture
async def page():
    server = Page()
    await server.start()
    yield server
    await server.stop()


@contextlib.asynccontextmanager
async def reading(urls, endpoint_url="http://127.0.0.1:1/v1/chat/completions"):
    async with open_server_metrics(urls, endpoint_url, any_server()) as metrics:
        yield metrics


async def until(metrics, enough, timeout_s=8.0):
    """Samples until `enough` of them says so."""
    samples = []
    deadline = time.monotonic() + timeout_s
    while not enough(samples):
        assert time.monotonic() < deadline, samples
        await asyncio.sleep(0.05)
        samples += await metrics.take()
    return samples


def server_of(samples):
    end_s = time.monotonic()
    return build_server(samples, end_s - 10, end_s, (0.0, 10.0), 0)


async def test_a_page_is_read_about_once_a_second(page):
    tokens = iter(range(0, 100_000, 500))
    page.pages["/metrics"] = lambda: web.Response(text=VLLM % {"tokens": next(tokens)})
    async with reading([f"{page.root}/metrics"]) as metrics:
        samples = await until(metrics, lambda found: len(found) >= 3)
        assert await metrics.take() == []
    gaps = [after.time_s - before.time_s for before, after in pairwise(samples)]
    assert all(0.5 < gap < 3 for gap in gaps)
    # All samples of an unchanged page share their metrics.
    assert len({id(sample.metrics) for sample in samples}) == 1
    server = server_of(samples)
    assert server["sources"] == [{"url": f"{page.root}/metrics", "kind": "vllm", "error": ""}]
    values = {one["name"]: one["value"][0] for one in server["series"]}
    assert values["running"] == 7
    assert values["kv_cache_use"] == 0.25
    assert 150 < values["generation_tokens_rate"] < 1000


async def test_auto_finds_the_page_beside_the_endpoint(page):
    page.pages["/metrics"] = VLLM % {"tokens": 1}
    async with reading(["auto"], f"{page.root}/v1/chat/completions") as metrics:
        samples = await until(metrics, lambda found: found)
    assert samples[0].source == f"{page.root}/metrics"


async def test_auto_looks_under_the_path_of_a_proxy_first(page):
    page.pages["/team/metrics"] = VLLM % {"tokens": 1}
    async with reading(["auto"], f"{page.root}/team/v1/chat/completions") as metrics:
        samples = await until(metrics, lambda found: found)
    assert samples[0].source == f"{page.root}/team/metrics"


@pytest.mark.parametrize(
    "answer",
    [
        None,
        "<!doctype html><html><body>Welcome</body></html>",
        '{"error": "no such page"}',
        lambda: web.Response(status=501, text="start with --metrics"),
        lambda: web.Response(status=302, headers={"Location": "/login"}),
    ],
    ids=["404", "html", "json", "501", "redirect"],
)
async def test_auto_without_a_page_asks_no_more_and_is_no_source(page, answer):
    if answer is not None:
        page.pages["/metrics"] = answer
    async with reading(["auto"], f"{page.root}/v1/chat/completions") as metrics:
        await asyncio.sleep(0.3)
        asked = len(page.asked)
        await asyncio.sleep(1.3)
        assert await metrics.take() == []
    assert asked == 1
    assert "/login" not in page.asked
    if answer is None or isinstance(answer, str):
        assert len(page.asked) == 1


async def test_auto_waits_for_a_server_that_is_not_there_yet(page):
    late = Page()
    await late.start()
    await late.stop()
    late.pages["/metrics"] = VLLM % {"tokens": 1}
    async with reading(["auto"], f"{late.root}/v1/chat/completions") as metrics:
        await asyncio.sleep(0.3)
        assert await metrics.take() == []
        await late.start(late.port)
        samples = await until(metrics, lambda found: found)
        await late.stop()
    assert not samples[0].error


async def test_no_address_asks_nobody(page):
    async with reading([], f"{page.root}/v1/chat/completions") as metrics:
        await asyncio.sleep(0.2)
        assert await metrics.take() == []
    assert page.asked == []


@pytest.mark.alone
async def test_a_slow_source_holds_up_nobody_and_is_told(page):
    slow = Page()
    slow.pages["/metrics"] = VLLM % {"tokens": 1}
    slow.delay_s = 30
    await slow.start()
    page.pages["/metrics"] = VLLM % {"tokens": 1}
    async with reading([f"{slow.root}/metrics", f"{page.root}/metrics"]) as metrics:
        samples = await until(metrics, lambda found: any(one.error for one in found))
        begun_s = time.monotonic()
        assert isinstance(await metrics.take(), list)
        assert time.monotonic() - begun_s < 1
    await slow.stop()
    by_source = {one.source: one for one in samples}
    assert by_source[f"{slow.root}/metrics"].error == "it did not answer within 2 s"
    assert sum(one.source.startswith(page.root) for one in samples) >= 2
    assert slow.asked == ["/metrics"], "one question at a time"


async def test_a_source_that_vanishes_and_comes_back(page):
    page.pages["/metrics"] = VLLM % {"tokens": 1}
    async with reading([f"{page.root}/metrics"]) as metrics:
        await until(metrics, lambda found: found)
        await page.stop()
        refused = "it cannot be reached: Connection refused"
        await until(metrics, lambda found: any(one.error == refused for one in found))
        await page.start(page.port)
        back = await until(metrics, lambda found: found and not found[-1].error)
    assert back[-1].metrics


async def test_text_that_breaks_off_gives_what_is_whole(page):
    page.pages["/metrics"] = (VLLM % {"tokens": 5}) + 'vllm:num_requests_waiting{engine="0",model_na'
    async with reading([f"{page.root}/metrics"]) as metrics:
        samples = await until(metrics, lambda found: found)
    names = {metric.name for metric in samples[0].metrics}
    assert "vllm:num_requests_running" in names
    assert "vllm:num_requests_waiting" not in names
    assert samples[0].error.startswith("a line of vllm:num_requests_waiting cannot be read")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "it shows no metrics"),
        ("\x00\xff" * 1000, "it shows no metrics"),
        ("node_load1 0.3\nnode_load5 0.2\n", "none of its 2 metrics is known"),
        ("vllm:num_requests_running many\n", "a line of vllm:num_requests_running cannot be read"),
    ],
)
async def test_a_page_of_nothing_known_says_why(page, text, error):
    page.pages["/metrics"] = text
    async with reading([f"{page.root}/metrics"]) as metrics:
        samples = await until(metrics, lambda found: found)
    assert samples[0].error.startswith(error)
    assert samples[0].metrics == ()


async def test_a_status_is_told(page):
    page.pages["/metrics"] = lambda: web.Response(status=503)
    async with reading([page.root]) as metrics:
        samples = await until(metrics, lambda found: found)
    assert samples[0].error == "it answers with status 503"
    assert page.asked[0] == "/metrics", "an address without a path means /metrics"


async def test_a_password_is_sent_and_never_shown(page):
    page.pages["/metrics"] = VLLM % {"tokens": 1}
    url = page.root.replace("http://", "http://ann:hunter2@") + "/metrics?token=hunter3"
    async with reading([url]) as metrics:
        samples = await until(metrics, lambda found: found)
    assert page.headers[0]["Authorization"].startswith("Basic ")
    assert "hunter" not in repr(samples)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://h/metrics",
        "http://a b/metrics",
        "http://h:99999",
        "metrics",
        "http://",
        "localhost:8000",
        "ftp://ann:hunter2@h/",
    ],
)
async def test_what_is_no_address_is_refused(url):
    with pytest.raises(InvalidInput, match="server_metrics") as refused:
        async with reading([url]):
            pass
    assert "hunter2" not in refused.value.message


async def test_gpus_without_a_driver_or_its_package_are_told():
    async with reading(["nvml"]) as metrics:
        samples = await until(metrics, lambda found: found)
    assert samples[0].source == "nvml"
    assert "nvidia-ml-py" in samples[0].error or "driver" in samples[0].error or samples[0].metrics


async def test_gpus_are_read_through_the_driver(monkeypatch):
    """A stand-in at the edge of the world: no GPU is needed to see what becomes of its readings."""
    opened, driver = driver_of_two()
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    async with reading(["nvml"]) as metrics:
        samples = await until(metrics, lambda found: len(found) >= 2)
    summary = server_of(samples)["summary"]
    assert summary["power_w_mean"] == 300
    assert summary["gpu_use_mean"] == pytest.approx(0.5)
    assert "energy_j" not in summary, "known for a fraction of the window alone"
    labels = [one["label"] for one in server_of(samples)["series"] if one["name"] == "power_w"]
    assert labels == ["GPU 0", "GPU 1"]
    assert opened == []


class _NotSupported(Exception):
    pass


def driver_of_two():
    """pynvml with two GPUs, of which the second cannot tell its clock."""
    opened = []

    def clock(device, kind):
        if device == 1:
            raise _NotSupported
        return 1980

    return opened, SimpleNamespace(
        NVML_CLOCK_SM=1,
        NVML_TEMPERATURE_GPU=0,
        NVMLError=_NotSupported,
        NVMLError_NotSupported=_NotSupported,
        nvmlInit=lambda: opened.append(True),
        nvmlShutdown=opened.pop,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetUtilizationRates=lambda device: SimpleNamespace(gpu=50),
        nvmlDeviceGetMemoryInfo=lambda device: SimpleNamespace(used=1 << 30),
        nvmlDeviceGetClockInfo=clock,
        nvmlDeviceGetTemperature=lambda device, sensor: 60,
        nvmlDeviceGetPowerUsage=lambda device: 100_000 * (device + 1),
        nvmlDeviceGetTotalEnergyConsumption=lambda device: int(time.monotonic() * 100_000 * (device + 1)),
    )


def test_labels_with_quotes_and_collector_names_are_read():
    reader = ExpositionReader()
    for value in (3, 4):
        text = f'vllm_num_requests_running{{model_name="a,b}}\\"{{",engine="0"}} {value} 1700000000000\n'
        reading = reader.read(text)
        assert reading.metrics[0].name == "vllm:num_requests_running"
        assert dict(reading.metrics[0].labels) == {"model_name": 'a,b}"{', "engine": "0"}
        assert reading.values[0] == value


def test_a_value_that_becomes_unreadable_is_told_though_its_line_is_known():
    reader = ExpositionReader()
    assert reader.read("process_cpu_seconds_total 3\n").values[0] == 3
    assert "process_cpu_seconds_total cannot be read" in reader.read("process_cpu_seconds_total many\n").error
    assert "process_cpu_seconds_total cannot be read" in reader.read("process_cpu_seconds_total\n").error
    assert reader.read("process_cpu_seconds_total +Inf\n").values[0] == float("inf")


PAGES = {
    "sglang": (
        """\
# HELP sglang:num_running_reqs The number of running requests.
# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{model_name="m",tp_rank="0",engine_type="unified"} 5.0
sglang:num_queue_reqs{model_name="m",tp_rank="0",engine_type="unified"} 2.0
sglang:token_usage{model_name="m",tp_rank="0",engine_type="unified"} 0.28
# TYPE sglang:prompt_tokens_total counter
sglang:prompt_tokens_total{model_name="m"} %(n)d000.0
sglang:generation_tokens_total{model_name="m"} %(n)d00.0
sglang:cached_tokens_total{model_name="m",cache_source="device"} %(n)d00.0
sglang:cached_tokens_total{model_name="m",cache_source="host"} %(n)d50.0
sglang:num_retracted_requests_total{model_name="m",tp_rank="0"} %(n)d.0
""",
        {
            "running_mean": 5,
            "waiting_mean": 2,
            "kv_cache_use_max": 0.28,
            "prompt_tokens_rate_mean": 1000,
            "generation_tokens_rate_mean": 100,
            "prefix_cache_hit_rate": 0.2,
            "preemptions": 10,
        },
    ),
    "tgi": (
        """\
# TYPE tgi_batch_current_size gauge
tgi_batch_current_size 7
# TYPE tgi_queue_size gauge
tgi_queue_size 3
# TYPE tgi_request_generated_tokens histogram
tgi_request_generated_tokens_bucket{le="+Inf"} %(n)d
tgi_request_generated_tokens_sum %(n)d00
tgi_request_generated_tokens_count %(n)d
# TYPE tgi_request_queue_duration histogram
tgi_request_queue_duration_bucket{le="0.000105"} 0
tgi_request_queue_duration_bucket{le="+Inf"} %(n)d
tgi_request_queue_duration_sum %(n)d
tgi_request_queue_duration_count %(n)d0
""",
        {"running_mean": 7, "waiting_mean": 3, "generation_tokens_rate_mean": 100, "server_queue_ms_mean": 100},
    ),
    "llama.cpp": (
        """\
# HELP llamacpp:prompt_tokens_total Number of prompt tokens processed.
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total %(n)d0
# TYPE llamacpp:tokens_predicted_total counter
llamacpp:tokens_predicted_total %(n)d00
# TYPE llamacpp:predicted_tokens_seconds gauge
llamacpp:predicted_tokens_seconds 12.5
llamacpp:requests_processing 1
llamacpp:requests_deferred 4
""",
        {
            "running_mean": 1,
            "waiting_mean": 4,
            "prompt_tokens_rate_mean": 10,
            "generation_tokens_rate_mean": 100,
        },
    ),
    "dcgm": (
        """\
# HELP DCGM_FI_DEV_GPU_UTIL GPU utilization (in %%).
# TYPE DCGM_FI_DEV_GPU_UTIL gauge
DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-1",device="nvidia0",modelName="NVIDIA H100",Hostname="node"} 91
DCGM_FI_DEV_FB_USED{gpu="0",UUID="GPU-1",device="nvidia0",modelName="NVIDIA H100",Hostname="node"} 2048
DCGM_FI_DEV_POWER_USAGE{gpu="0",UUID="GPU-1",device="nvidia0",modelName="NVIDIA H100",Hostname="node"} 350.5
DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{gpu="0",UUID="GPU-1",modelName="NVIDIA H100",Hostname="node"} %(n)d00000
""",
        {"gpu_use_mean": 0.91, "gpu_memory_bytes_max": 2 << 30, "power_w_mean": 350.5, "energy_j": 1000},
    ),
}


@pytest.mark.parametrize("kind", PAGES)
def test_each_product_speaks_one_vocabulary(kind):
    text, expected = PAGES[kind]
    reader = ExpositionReader()
    samples = []
    for second in range(11):
        reading = reader.read(text % {"n": second + 1})
        assert reading.error == ""
        said = kind_of(metric.name for metric in reading.metrics)
        samples.append(Reading("http://h/metrics", said, 50.0 + second, reading.metrics, reading.values))
    server = build_server(samples, 50.0, 60.0, (0.0, 10.0), 0)
    assert server["sources"][0]["kind"] == kind
    assert {name: server["summary"][name] for name in expected} == pytest.approx(expected, rel=1e-5)
