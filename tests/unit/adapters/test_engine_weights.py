"""When two checkpoints count as the same."""

import json
import os
import shutil
from pathlib import Path

import pytest

from evalmesh.adapters.engines import weights
from evalmesh.adapters.engines.weights import fingerprint


def _safetensors(path: Path, *, tensors: int, size: int) -> None:
    header = {
        f"layer.{n}": {"dtype": "U8", "shape": [size], "data_offsets": [n * size, (n + 1) * size]}
        for n in range(tensors)
    }
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(tensors * size))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"layers": 2}')
    (folder / "tokenizer.json").write_text("{}")
    _safetensors(folder / "model.safetensors", tensors=20, size=10_000)
    return folder


def test_a_copy_is_the_same_model_whenever_and_wherever_it_was_made(model: Path, tmp_path: Path) -> None:
    before = fingerprint([model])
    copy = tmp_path / "elsewhere"
    shutil.copytree(model, copy)
    os.utime(copy / "model.safetensors", (0, 0))
    assert fingerprint([copy]) == before


def test_what_a_training_run_leaves_beside_its_model_is_no_part_of_it(model: Path) -> None:
    before = fingerprint([model])
    for name in ("optimizer.pt", "rng_state_0.pth", "trainer_state.json", "README.md", "events.out"):
        (model / name).write_text("something else")
    (model / "checkpoint-10").mkdir()
    assert fingerprint([model]) == before


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "chat_template.jinja"])
def test_all_that_an_answer_depends_on_counts(model: Path, name: str) -> None:
    before = fingerprint([model])
    (model / name).write_text('{"layers": 3}')
    assert fingerprint([model]) != before


@pytest.mark.parametrize("whole_bytes", [64 << 20, 1000])
def test_a_change_of_any_one_tensor_is_seen_in_small_files_and_in_large_ones(
    model: Path, monkeypatch: pytest.MonkeyPatch, whole_bytes: int
) -> None:
    monkeypatch.setattr(weights, "_WHOLE_BYTES", whole_bytes)
    monkeypatch.setattr(weights, "_HEAD_BYTES", 1000)
    before = fingerprint([model])
    file = model / "model.safetensors"
    data = bytearray(file.read_bytes())
    begin = len(data) - 20 * 10_000
    for tensor in range(20):
        changed = bytearray(data)
        changed[begin + tensor * 10_000 : begin + (tensor + 1) * 10_000] = b"\1" * 10_000
        file.write_bytes(changed)
        assert fingerprint([model]) != before


def test_a_large_file_of_another_format_is_looked_at_all_over(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_WHOLE_BYTES", 1000)
    file = model / "pytorch_model.bin"
    file.write_bytes(bytes(8 << 20))
    before = fingerprint([model])
    data = bytearray(8 << 20)
    data[5 << 20 : (5 << 20) + 10_000] = b"\1" * 10_000
    file.write_bytes(data)
    assert fingerprint([model]) != before


def test_a_file_that_is_no_safetensors_is_still_told_apart_by_its_beginning(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "_WHOLE_BYTES", 10)
    file = model / "model.safetensors"
    file.write_bytes(b"not at all" * 10)
    before = fingerprint([model])
    file.write_bytes(b"not at all" * 9 + b"otherwise!")
    assert fingerprint([model]) != before


def test_no_files_have_no_digest(tmp_path: Path) -> None:
    assert fingerprint([tmp_path]) == fingerprint([]) == ""
