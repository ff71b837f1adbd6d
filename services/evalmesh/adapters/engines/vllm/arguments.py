"""Our options as vLLM's own (`AsyncEngineArgs`). Nothing here is imported before the child has set its environment."""

import dataclasses
import difflib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from evalmesh.adapters.engines.engine import EngineError
from evalmesh.adapters.engines.options import VllmArgs

_SAME_NAME = (
    *("revision", "tokenizer", "trust_remote_code", "tensor_parallel_size", "pipeline_parallel_size"),
    *("gpu_memory_utilization", "enforce_eager", "enable_prefix_caching", "quantization", "reasoning_parser"),
)
_NOT_FOR_USERS = frozenset({"model", "skip_tokenizer_init", "logprobs_mode", "runner", "convert", "max_model_len"})
"""What the answers rest on, and what has another name with us."""
_TOKENS_PER_WORD = 16
"""So often a request under way is heard of; more often would cost time, and its end is heard of at once."""
_LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
_MOST_CPU_CACHE_BYTES = 4 << 30
LORA = "model.args.lora"


def prepare_environment() -> None:
    """Before vLLM is imported, which reads it then. What the user has set stays."""
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")  # nothing is told to anybody
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("VLLM_WORKER_MULTIPROCESSING_METHOD", "spawn")  # a fork would hold our pipes open
    if "OMP_NUM_THREADS" in os.environ:  # Several copies share the processor; bound, all would sit on the same cores.
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")


def allow_one_more() -> None:
    """A context of one token more than the model's, for the last token of a text that is scored and never read."""
    os.environ["VLLM_ALLOW_LONG_MAX_MODEL_LEN"] = "1"


def engine_arguments(model: str, args: VllmArgs, args_type: Any) -> dict[str, Any]:
    """Keyword arguments of `args_type`, `AsyncEngineArgs` as it is installed. Raises `EngineError`."""
    known = {field.name for field in dataclasses.fields(args_type)}
    chosen: dict[str, Any] = {
        "model": model,
        "disable_log_stats": True,
        "stream_interval": _TOKENS_PER_WORD,
        "dtype": args.dtype,
        "max_model_len": args.max_length,
        **{name: value for name in _SAME_NAME if (value := getattr(args, name)) not in (None, "")},
        **_lora(args.lora),
        **_checked(args.engine_args, known),
    }
    return {name: value for name, value in chosen.items() if name in known}


def _checked(extra: Mapping[str, Any], known: set[str]) -> Mapping[str, Any]:
    ours = {field.name for field in msgspec.structs.fields(VllmArgs)}
    for name in extra:
        if name in known - _NOT_FOR_USERS:
            continue
        near = difflib.get_close_matches(name, (known - _NOT_FOR_USERS) | ours, n=1)
        advice = f"did you mean {near[0]!r}?" if near else "it takes those of vLLM's AsyncEngineArgs."
        raise EngineError(
            f"model.args has {name!r}, which neither the engine vllm nor the installed vLLM takes; {advice}",
            f"model.args.{name}",
        )
    return extra


def _lora(folder: str) -> dict[str, Any]:
    if not folder:
        return {}
    unread = "which has no adapter_config.json that can be read"
    try:
        rank = int(json.loads((Path(folder) / "adapter_config.json").read_text(encoding="utf-8")).get("r", 16))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise EngineError(
            f"model.args.lora is {folder!r}, {unread} ({error}); name the folder that PEFT's save_pretrained wrote.",
            LORA,
        ) from error
    largest = next((one for one in _LORA_RANKS if one >= rank), rank)
    return {"enable_lora": True, "max_loras": 1, "max_lora_rank": largest}


def checkpoint_dtype(config: Any) -> str:
    """What `auto` means: as the checkpoint has it. vLLM would make half precision of 32 bits, and other numbers."""
    dtype = getattr(config.get_text_config(), "dtype", None) or getattr(config, "dtype", None)
    return "float32" if str(dtype).removeprefix("torch.") == "float32" else "auto"


def readable(config: Any, max_model_len: int) -> int:
    """Tokens that the model reads, when vLLM is given one more; of the longest there can be.

    With longrope one more would be another model: above the length it was trained with, other factors are taken.
    """
    text = config.get_text_config()
    ropes = (getattr(text, "rope_parameters", None), getattr(text, "rope_scaling", None))
    return max_model_len - 1 if "longrope" in str(ropes) else max_model_len


def cpu_cache(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Room for keys and values without a GPU, where nobody says how much.

    vLLM would take nine tenths of the machine's memory, and end where others have some of it.
    """
    said = {"gpu_memory_utilization", "kv_cache_memory_bytes"} & chosen.keys()
    if said or "VLLM_CPU_KVCACHE_SPACE" in os.environ:
        return {}
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"kv_cache_memory_bytes": min(_MOST_CPU_CACHE_BYTES, memory_bytes // 8)}
