"""On which devices the copies of a model run, and what their processes get of our environment."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from evalmesh.adapters.engines.options import FIELD, EngineArgs, TransformersArgs, VllmArgs
from evalmesh.domain.errors import InvalidInput
from evalmesh.process.environment import essentials, of_our_interpreter

_WANTED = (
    *("CUDA_*", "NVIDIA_*", "NCCL_*", "HIP_*", "ROCR_*", "ZE_*", "HF_*", "HUGGINGFACE_*", "TRANSFORMERS_*", "TORCH*"),
    *("PYTORCH_*", "TRITON_*", "VLLM_*", "SAFETENSORS_*", "TOKENIZERS_*", "ACCELERATE_*", "OMP_*", "KMP_*", "MKL_*"),
    *(
        "MALLOC_*",
        "LD_PRELOAD",
        "MODELSCOPE_*",
        "MAX_JOBS",
        "CC",
        "CXX",
        "COVERAGE_*",
        "SSL_CERT_*",
        "REQUESTS_CA_BUNDLE",
    ),
)
_FOR_HUBS = (
    "HF_TOKEN",
    "HF_TOKEN_PATH",
    "http_proxy",
    "https_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "no_proxy",
)
"""Only a model that is not a folder here is fetched, for which a key may be needed."""
_SPREAD = frozenset({"auto", "balanced", "balanced_low_0", "sequential"})


def environments(args: EngineArgs, *, from_hub: bool) -> Sequence[Mapping[str, str]]:
    """That of each copy's process. Raises `InvalidInput` for more copies than there are devices for."""
    common = {**essentials(_WANTED), **of_our_interpreter(), "PYTHONUNBUFFERED": "1"}
    if from_hub:
        common |= {name: value for name in _FOR_HUBS if (value := os.environ.get(name))}
    devices = [] if _on_cpu(args) else [str(one) for one in args.devices] or visible_gpus()
    copies = args.data_parallel or max(1, len(args.devices) // _devices_each(args))
    if copies == 1:
        return [{**common, "CUDA_VISIBLE_DEVICES": ",".join(devices)} if args.devices else common]
    if devices and len(devices) < copies:
        there = "is 1 GPU" if len(devices) == 1 else f"are {len(devices)} GPUs"
        raise InvalidInput(
            f"model.args.data_parallel asks for {copies} copies of the model, and there {there} here; ask for as many, "
            "or list devices in model.args.devices, where one may stand twice.",
            {"field": f"{FIELD}.data_parallel"},
        )
    return [{**common, **share} for share in shares(copies, devices)]


def shares(count: int, devices: Sequence[str] | None = None) -> Sequence[Mapping[str, str]]:
    """Variables by which each of so many processes takes its part of the devices, or of the processors.

    `devices`: GPUs to share out; `None`: all that are visible. Where there are fewer than processes, all see all.
    """
    devices = visible_gpus() if devices is None else devices
    if count == 1 or 0 < len(devices) < count:
        return [{}] * count
    if not devices:
        threads = str(max(1, (os.cpu_count() or 1) // count))
        return [{"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}] * count
    each = len(devices) // count
    return [{"CUDA_VISIBLE_DEVICES": ",".join(devices[at * each : (at + 1) * each])} for at in range(count)]


def visible_gpus() -> list[str]:
    """As `CUDA_VISIBLE_DEVICES` names them, found without loading anything."""
    said = os.environ.get("CUDA_VISIBLE_DEVICES")
    if said is not None:
        return [one.strip() for one in said.split(",") if one.strip() and one.strip() != "-1"]
    found = [path for path in Path("/dev").glob("nvidia[0-9]*") if path.name.removeprefix("nvidia").isdigit()]
    return [str(number) for number in range(len(found))]


def _on_cpu(args: EngineArgs) -> bool:
    return isinstance(args, TransformersArgs) and args.device_map == "cpu"


def _devices_each(args: EngineArgs) -> int:
    """Of one copy, where only devices are named."""
    if isinstance(args, VllmArgs):
        return args.tensor_parallel_size * args.pipeline_parallel_size
    if isinstance(args, TransformersArgs) and (isinstance(args.device_map, dict) or args.device_map in _SPREAD):
        return max(1, len(args.devices))
    return 1
