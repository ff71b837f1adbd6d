"""What servers and GPUs say about themselves: each product's names, and ours.

Names on the right are those of vLLM, SGLang, Text Generation Inference, the llama.cpp server, Triton, NVIDIA's DCGM
exporter, and (`nvml:`) our own reading of the driver. Where one quantity has several, the first that a source has is
taken: products rename. What is not listed here is not kept.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Form = Literal["gauge", "rate", "total", "ratio", "histogram"]

_MIB = float(1 << 20)


@dataclass(frozen=True, slots=True)
class Quantity:
    """One thing that is shown, and where it may come from."""

    name: str
    unit: str
    form: Form
    """`rate`: a counter, per second. `total`: a counter, since the level's start. `ratio`: of two counters' growth.
    `histogram`: of seconds, shown in milliseconds."""
    of: tuple[str, ...]
    """Raw names without the suffix of a histogram's parts, best first."""
    over: tuple[str, ...] = ()
    """`ratio`: the denominator of the name at the same place."""
    adds: bool = False
    """Whether several engines' or GPUs' values add up to the whole's; else the whole is their mean."""


# fmt: off
QUANTITIES: tuple[Quantity, ...] = (
    Quantity("kv_cache_use", "share", "gauge",
        ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", "sglang:token_usage",
         "llamacpp:kv_cache_usage_ratio")),
    Quantity("running", "requests", "gauge",
        ("vllm:num_requests_running", "sglang:num_running_reqs", "tgi_batch_current_size",
         "llamacpp:requests_processing"), adds=True),
    Quantity("waiting", "requests", "gauge",
        ("vllm:num_requests_waiting", "sglang:num_queue_reqs", "tgi_queue_size",
         "llamacpp:requests_deferred"), adds=True),
    Quantity("preemptions", "per s", "rate",
        ("vllm:num_preemptions_total", "sglang:num_retracted_requests_total"), adds=True),
    Quantity("prompt_tokens_rate", "tokens/s", "rate",
        ("vllm:prompt_tokens_total", "sglang:prompt_tokens_total", "llamacpp:prompt_tokens_total",
         "tgi_request_input_length_sum"), adds=True),
    Quantity("generation_tokens_rate", "tokens/s", "rate",
        ("vllm:generation_tokens_total", "sglang:generation_tokens_total", "llamacpp:tokens_predicted_total",
         "tgi_request_generated_tokens_sum"), adds=True),
    Quantity("prefix_cache_hit_rate", "share", "ratio",
        ("vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total", "sglang:cached_tokens_total"),
        ("vllm:prefix_cache_queries_total", "vllm:gpu_prefix_cache_queries_total", "sglang:prompt_tokens_total")),
    Quantity("draft_acceptance", "share", "ratio",
        ("vllm:spec_decode_num_accepted_tokens_total", "llamacpp:spec_decode_num_accepted_tokens_total"),
        ("vllm:spec_decode_num_draft_tokens_total", "llamacpp:spec_decode_num_draft_tokens_total")),
    Quantity("server_ttft_ms", "ms", "histogram",
        ("vllm:time_to_first_token_seconds", "sglang:time_to_first_token_seconds")),
    Quantity("server_itl_ms", "ms", "histogram",
        ("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds",
         "sglang:inter_token_latency_seconds", "sglang:time_per_output_token_seconds",
         "tgi_request_mean_time_per_token_duration")),
    Quantity("server_queue_ms", "ms", "histogram",
        ("vllm:request_queue_time_seconds", "sglang:queue_time_seconds", "tgi_request_queue_duration")),
    Quantity("server_e2e_ms", "ms", "histogram",
        ("vllm:e2e_request_latency_seconds", "sglang:e2e_request_latency_seconds", "tgi_request_duration")),
    Quantity("server_cpu", "cores", "rate", ("process_cpu_seconds_total",), adds=True),
    Quantity("server_memory_bytes", "bytes", "gauge", ("process_resident_memory_bytes",), adds=True),
    Quantity("gpu_use", "share", "gauge", ("DCGM_FI_DEV_GPU_UTIL", "nvml:gpu_use", "nv_gpu_utilization")),
    Quantity("sm_active", "share", "gauge", ("DCGM_FI_PROF_SM_ACTIVE",)),
    Quantity("tensor_active", "share", "gauge", ("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",)),
    Quantity("dram_active", "share", "gauge", ("DCGM_FI_PROF_DRAM_ACTIVE",)),
    Quantity("gpu_memory_bytes", "bytes", "gauge",
        ("DCGM_FI_DEV_FB_USED", "nvml:gpu_memory_bytes", "nv_gpu_memory_used_bytes"), adds=True),
    Quantity("gpu_clock_mhz", "MHz", "gauge", ("DCGM_FI_DEV_SM_CLOCK", "nvml:gpu_clock_mhz")),
    Quantity("gpu_temperature_c", "°C", "gauge", ("DCGM_FI_DEV_GPU_TEMP", "nvml:gpu_temperature_c")),
    Quantity("power_w", "W", "gauge", ("DCGM_FI_DEV_POWER_USAGE", "nvml:power_w", "nv_gpu_power_usage"), adds=True),
    Quantity("energy_j", "J", "total",
        ("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "nvml:energy_j", "nv_energy_consumption"), adds=True),
)
# fmt: on

SCALES: Mapping[str, float] = {
    "DCGM_FI_DEV_GPU_UTIL": 0.01,  # percent
    "DCGM_FI_DEV_FB_USED": _MIB,
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": 0.001,  # millijoules
}
"""What a raw value is multiplied by to be in the quantity's unit."""

GPU_KINDS = ("dcgm", "nvml", "triton")
"""Who may report the same GPUs; only the first of these that is there is believed, so that nothing counts twice."""
GPU_QUANTITIES = frozenset({"gpu_use", "gpu_memory_bytes", "gpu_clock_mhz", "gpu_temperature_c", "power_w", "energy_j"})

_PREFIXES = (
    ("vllm:", "vllm"),
    ("sglang:", "sglang"),
    ("tgi_", "tgi"),
    ("llamacpp:", "llama.cpp"),
    ("DCGM_FI_", "dcgm"),
    ("nvml:", "nvml"),
    ("nv_", "triton"),
)
_PARTS = ("_bucket", "_sum", "_count")


def raw_name(name: str) -> str:
    """The name a product gave a metric, where a collector on the way has changed it: `vllm_x` is `vllm:x`."""
    for product in ("vllm", "sglang", "llamacpp"):
        if name.startswith(f"{product}_"):
            return f"{product}:{name[len(product) + 1 :]}"
    return name


def kind_of(names: Iterable[str]) -> str:
    """Which product says these raw names; empty: none that is known. An engine counts more than GPUs beside it."""
    found = {kind for name in names for prefix, kind in _PREFIXES if name.startswith(prefix)}
    return next((kind for _, kind in _PREFIXES if kind in found), "")


def _wanted() -> frozenset[str]:
    names: set[str] = set()
    for quantity in QUANTITIES:
        for name in (*quantity.of, *quantity.over):
            names.update(name + part for part in _PARTS) if quantity.form == "histogram" else names.add(name)
    return frozenset(names)


WANTED = _wanted()
"""Raw names of all lines that are kept, histogram parts included."""
