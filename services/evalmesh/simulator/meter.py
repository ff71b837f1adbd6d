"""What a server tells Prometheus, in the names of vLLM, SGLang or TGI, and what DCGM would tell of its GPU."""

import math
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping

from evalmesh.simulator.gate import Gate
from evalmesh.simulator.schema import Usage
from evalmesh.simulator.settings import DEFAULT_MODEL, SimulatorSettings
from evalmesh.simulator.truth import Trace

_BOUNDS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
_SLOTS = 256
"""At so many requests an unbounded server counts as fully used."""
_IDLE_W, _BUSY_W = 90.0, 350.0
_MEMORY_MIB, _WEIGHTS_MIB = 81_920, 16_384


class LatencyHistogram:
    """Counts of seconds by upper bound."""

    def __init__(self) -> None:
        self._counts = [0] * (len(_BOUNDS_S) + 1)
        self._sum_s = 0.0

    def add(self, value_s: float) -> None:
        """One observation."""
        self._counts[bisect_left(_BOUNDS_S, value_s)] += 1
        self._sum_s += value_s

    def lines(self, name: str, labels: str) -> Iterable[str]:
        """As Prometheus reads it."""
        yield f"# TYPE {name} histogram"
        total = 0
        for bound, count in zip((*map(str, _BOUNDS_S), "+Inf"), self._counts, strict=True):
            total += count
            yield f'{name}_bucket{{{labels},le="{bound}"}} {total}'
        yield f"{name}_sum{{{labels}}} {self._sum_s:.9g}"
        yield f"{name}_count{{{labels}}} {total}"


class Meter:
    """Gauges, counters and histograms since the server's start."""

    def __init__(self, settings: SimulatorSettings) -> None:
        self._settings = settings
        self._working: dict[int, Trace] = {}
        self._n_prompt = 0
        self._n_generated = 0
        self._n_cached = 0
        self._n_preempted = 0
        self._kv_tokens = 0
        self._ended: Counter[str] = Counter()
        self._ttft = LatencyHistogram()
        self._e2e = LatencyHistogram()
        self._queue = LatencyHistogram()
        self._tpot = LatencyHistogram()
        self._energy_j = 0.0
        self._busy = 0.0
        self._since_s = time.monotonic()

    def started(self, trace: Trace, n_planned: int, running: int) -> None:
        """A request has its slot and takes its place in the cache."""
        self._working[id(trace)] = trace
        self._n_prompt += trace.prompt_tokens
        self._kv_tokens += n_planned
        if self._kv_tokens > self._settings.kv_tokens:
            self._n_preempted += 1
        self._advance(running)

    def ended(self, trace: Trace, usage: Usage, n_planned: int, running: int) -> None:
        """It gives both back."""
        del self._working[id(trace)]
        self._n_generated += trace.tokens
        self._n_cached += usage.cached_tokens
        self._kv_tokens -= n_planned
        self._advance(running)

    def finished(self, trace: Trace) -> None:
        """A request is over, however it ended."""
        self._ended[trace.outcome] += 1
        if trace.outcome != "ok":
            return
        self._e2e.add(trace.end_s - trace.arrived_s)
        self._queue.add(trace.slot_s - trace.arrived_s)
        if not math.isnan(trace.first_s):
            self._ttft.add(trace.first_s - trace.arrived_s)
        if trace.tokens > 1 and trace.is_stream:
            self._tpot.add((trace.last_s - trace.first_s) / (trace.tokens - 1))

    def text(self, gate: Gate) -> bytes:
        """The body of `/metrics`."""
        self._advance(gate.running)
        model = (self._settings.models or (DEFAULT_MODEL,))[0]
        labels = f'model_name="{model}"'
        makers = {"vllm": self._vllm, "sglang": self._sglang, "tgi": self._tgi}
        lines = list(makers[self._settings.metrics](gate, labels))
        if self._settings.gpu_metrics:
            lines += self._gpu()
        return ("\n".join(lines) + "\n").encode()

    def _vllm(self, gate: Gate, labels: str) -> Iterable[str]:
        yield from _gauges(
            {
                "vllm:num_requests_running": gate.running,
                "vllm:num_requests_waiting": gate.waiting,
                "vllm:kv_cache_usage_perc": self._kv_share,
                "vllm:gpu_cache_usage_perc": self._kv_share,
            },
            labels,
        )
        yield from _counters(
            {
                "vllm:prompt_tokens_total": self._n_prompt,
                "vllm:generation_tokens_total": self._generated,
                "vllm:num_preemptions_total": self._n_preempted,
                "vllm:prefix_cache_queries_total": self._n_prompt,
                "vllm:prefix_cache_hits_total": self._n_cached,
            },
            labels,
        )
        yield "# TYPE vllm:request_success_total counter"
        yield f'vllm:request_success_total{{{labels},finished_reason="stop"}} {self._ended["ok"]}'
        yield from self._ttft.lines("vllm:time_to_first_token_seconds", labels)
        yield from self._e2e.lines("vllm:e2e_request_latency_seconds", labels)
        yield from self._queue.lines("vllm:request_queue_time_seconds", labels)
        yield from self._tpot.lines("vllm:request_time_per_output_token_seconds", labels)

    def _sglang(self, gate: Gate, labels: str) -> Iterable[str]:
        yield from _gauges(
            {
                "sglang:num_running_reqs": gate.running,
                "sglang:num_queue_reqs": gate.waiting,
                "sglang:token_usage": self._kv_share,
                "sglang:num_used_tokens": self._kv_tokens,
                "sglang:cache_hit_rate": self._n_cached / self._n_prompt if self._n_prompt else 0.0,
            },
            labels,
        )
        yield from _counters(
            {
                "sglang:prompt_tokens_total": self._n_prompt,
                "sglang:generation_tokens_total": self._generated,
                "sglang:cached_tokens_total": self._n_cached,
                "sglang:num_requests_total": self._ended["ok"],
                "sglang:num_retracted_requests_total": self._n_preempted,
            },
            labels,
        )
        yield from self._ttft.lines("sglang:time_to_first_token_seconds", labels)
        yield from self._e2e.lines("sglang:e2e_request_latency_seconds", labels)

    def _tgi(self, gate: Gate, labels: str) -> Iterable[str]:
        yield from _gauges({"tgi_batch_current_size": gate.running, "tgi_queue_size": gate.waiting}, labels)
        yield from _counters(
            {
                "tgi_request_count": sum(self._ended.values()),
                "tgi_request_success": self._ended["ok"],
                "tgi_request_input_length_sum": self._n_prompt,
                "tgi_request_generated_tokens_sum": self._generated,
            },
            labels,
        )
        yield from self._e2e.lines("tgi_request_duration", labels)
        yield from self._queue.lines("tgi_request_queue_duration", labels)
        yield from self._tpot.lines("tgi_request_mean_time_per_token_duration", labels)

    def _gpu(self) -> Iterable[str]:
        labels = 'gpu="0",modelName="Simulated"'
        used = _WEIGHTS_MIB + (_MEMORY_MIB - _WEIGHTS_MIB) * 0.9 * self._kv_share
        yield from _gauges(
            {
                "DCGM_FI_DEV_GPU_UTIL": 100.0 * self._busy,
                "DCGM_FI_DEV_FB_USED": used,
                "DCGM_FI_DEV_FB_FREE": _MEMORY_MIB - used,
                "DCGM_FI_DEV_POWER_USAGE": _power_w(self._busy),
            },
            labels,
        )
        yield from _counters({"DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": 1e3 * self._energy_j}, labels)

    @property
    def _generated(self) -> int:
        return self._n_generated + sum(trace.tokens for trace in self._working.values())

    @property
    def _kv_share(self) -> float:
        return min(1.0, self._kv_tokens / self._settings.kv_tokens)

    def _advance(self, running: int) -> None:
        """Adds up energy until now; from now on the GPU is as busy as `running` requests make it."""
        now = time.monotonic()
        self._energy_j += _power_w(self._busy) * (now - self._since_s)
        self._since_s = now
        self._busy = min(1.0, running / (self._settings.max_concurrency or _SLOTS))


def _power_w(busy: float) -> float:
    return _IDLE_W + (_BUSY_W - _IDLE_W) * busy


def _gauges(values: Mapping[str, float], labels: str) -> Iterable[str]:
    for name, value in values.items():
        yield f"# TYPE {name} gauge"
        yield f"{name}{{{labels}}} {value:.9g}"


def _counters(values: Mapping[str, float], labels: str) -> Iterable[str]:
    for name, value in values.items():
        yield f"# TYPE {name} counter"
        yield f"{name}{{{labels}}} {value:.15g}"
