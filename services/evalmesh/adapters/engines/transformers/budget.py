"""How much is put into one batch: what the user says, or what the memory holds; halved when it was too much."""

import gc
from pathlib import Path
from typing import Any

import torch

from evalmesh.adapters.engines.engine import Host
from evalmesh.adapters.engines.options import TransformersArgs

_PASS_TOKENS_GPU = 16_384
_PASS_TOKENS_CPU = 2_048
_LEAST_PASS = 16
_LOGITS_GPU = 1 << 28
"""Numbers in one table of logits: 1 GiB in float32."""
_LOGITS_CPU = 1 << 25
_OF_MEMORY = 0.5
"""Of what is free once the model is loaded, for keys and values; passes and logits need the rest."""
_MOST_CACHE_TOKENS = 1 << 22
_MIB = 1 << 20


class Budget:
    """The bounds of a batch."""

    def __init__(self, model: Any, args: TransformersArgs, concurrency: int, device: torch.device, host: Host) -> None:
        on_cpu = device.type == "cpu"
        self._host = host
        self._device = device
        self._told = False
        self.rows = args.batch_size or max(1, concurrency)
        """The most rows at once."""
        self.pass_tokens = args.batch_tokens or (_PASS_TOKENS_CPU if on_cpu else _PASS_TOKENS_GPU)
        """The most tokens in one pass, padding included."""
        self.cache_tokens = args.batch_tokens or _cache_tokens(model.config, model.dtype, device)
        """The most tokens whose keys and values are kept, padding included."""
        self.logits = _LOGITS_CPU if on_cpu else _LOGITS_GPU

    def halve(self, rows: int) -> bool:
        """After a pass with so many rows ran out of memory. `False`: there is nothing left to make smaller."""
        if rows > 1:
            self.rows = max(1, min(self.rows, rows) // 2)
        elif self.pass_tokens <= _LEAST_PASS:
            return False
        self.pass_tokens = max(_LEAST_PASS, self.pass_tokens // 2)
        self.cache_tokens = max(1, self.cache_tokens // 2)
        self.logits = max(1, self.logits // 2)
        if not self._told:
            self._told = True
            self._host.note(
                f"A batch of {rows} did not fit into the memory of {self._device}; it goes on with smaller ones. "
                f"--model-args batch_size={self.rows} avoids the attempt."
            )
        return True

    def free(self) -> None:
        """Gives back what a broken pass has left."""
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def out_of_memory(error: BaseException) -> bool:
    """Whether a pass failed for want of memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    signs = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")
    return isinstance(error, RuntimeError) and any(sign in text for sign in signs)


def _cache_tokens(config: Any, dtype: torch.dtype, device: torch.device) -> int:
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else _free_memory()
    tokens = int(free * _OF_MEMORY / _token_bytes(config, dtype))
    return min(_MOST_CACHE_TOKENS, max(1, tokens))


def _token_bytes(config: Any, dtype: torch.dtype) -> int:
    """Of keys and values of one token, in all layers."""
    text = config.get_text_config(decoder=True)
    heads: int = getattr(text, "num_attention_heads", 0) or getattr(text, "n_head", 1)
    hidden: int = getattr(text, "hidden_size", 0) or getattr(text, "n_embd", 1)
    layers: int = getattr(text, "num_hidden_layers", 0) or getattr(text, "n_layer", 1)
    kv_heads: int = getattr(text, "num_key_value_heads", None) or heads
    head: int = getattr(text, "head_dim", None) or hidden // heads
    return max(1, int(2 * layers * kv_heads * head * dtype.itemsize))


def _free_memory() -> int:
    """Bytes of the machine that are free, or of the container that we are in."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return 1024 * _MIB
    try:
        group = Path("/sys/fs/cgroup")
        limit = (group / "memory.max").read_text(encoding="ascii").strip()
        used = int((group / "memory.current").read_text(encoding="ascii"))
        return free if limit == "max" else max(_MIB, min(free, int(limit) - used))
    except (OSError, ValueError):
        return free
