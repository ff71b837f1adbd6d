"""What a model's files hold, as a digest: two models with equal ones give equal answers.

Reading all of a checkpoint of 100 GB would take minutes at each start. So small files are read whole, and of a large
one its size, its beginning, and blocks of it: with safetensors one in the middle of each tensor, else some evenly
spread. Training changes every block of what it trains; what changes single numbers in between is not seen. Names of
folders and times are left out: a copy on another machine is the same model.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

_WHOLE_BYTES = 64 << 20
_HEAD_BYTES = 1 << 20
_BLOCK_BYTES = 4096
_BLOCKS = 1024
_MOST_HEADER_BYTES = 100 << 20
_PARTS = frozenset(
    {".safetensors", ".bin", ".pt", ".pth", ".gguf", ".json", ".jinja", ".model", ".txt", ".tiktoken", ".py", ".npz"}
)
"""A training run leaves much else in its folder: optimizer states, logs."""
_NOT_READ = frozenset(
    {"trainer_state.json", "training_args.bin", "optimizer.pt", "scheduler.pt", "scaler.pt", "all_results.json"}
)


def fingerprint(sources: Sequence[Path]) -> str:
    """Hex digest over the files, or the files right in the folders; empty when there are none. Raises `OSError`."""
    digest = hashlib.sha256()
    files = [(name, path) for source in sources for name, path in _files(source)]
    for name, path in files:
        digest.update(f"{name}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            for piece in _pieces(file, path):
                digest.update(piece)
    return digest.hexdigest() if files else ""


def _files(source: Path) -> list[tuple[str, Path]]:
    if source.is_file():
        return [(source.name, source)]
    inside = sorted(source.iterdir()) if source.is_dir() else []
    return [
        (path.name, path)
        for path in inside
        if path.suffix in _PARTS
        and path.name not in _NOT_READ
        and not path.name.startswith("rng_state")
        and path.is_file()
    ]


def _pieces(file: BinaryIO, path: Path) -> Iterable[bytes]:
    size = path.stat().st_size
    if size <= _WHOLE_BYTES:
        while piece := file.read(_HEAD_BYTES):
            yield piece
        return
    yield file.read(_HEAD_BYTES)
    for offset in _tensor_middles(file) if path.suffix == ".safetensors" else _spread(size):
        file.seek(offset)
        yield file.read(_BLOCK_BYTES)


def _spread(size: int) -> Iterable[int]:
    return (size * number // _BLOCKS for number in range(_BLOCKS))


def _tensor_middles(file: BinaryIO) -> Iterable[int]:
    """Offsets of a block in each tensor. The format: 8 bytes with the size of a JSON header, which has the offsets."""
    file.seek(0)
    size = int.from_bytes(file.read(8), "little")
    if size > _MOST_HEADER_BYTES:
        return []
    try:
        header = json.loads(file.read(size))
        spans = sorted(entry["data_offsets"] for name, entry in header.items() if name != "__metadata__")
        return [8 + size + max(begin, (begin + end - _BLOCK_BYTES) // 2) for begin, end in spans]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []  # no file of this format: whoever loads it will say so
