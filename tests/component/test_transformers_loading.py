"""What the engine transformers says of a model that it cannot load: one sentence, and the field to change."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.kit.own_engine import ask, chat, transformers_engine
from tests.kit.tiny_model import random_model, write_json

from evalmesh.adapters.engines.engine import EngineError


async def refused(folder: Path | str, **args: Any) -> EngineError:
    with pytest.raises(EngineError) as caught:
        async with transformers_engine(Path(folder), **args):
            pass
    assert "\n" not in caught.value.sentence
    assert len(caught.value.sentence) < 700
    return caught.value


def change(folder: Path, file: str, **values: Any) -> None:
    path = folder / file
    write_json(path, json.loads(path.read_text()) | values)


async def test_no_weights(tmp_path: Path) -> None:
    folder = random_model(tmp_path)
    (folder / "model.safetensors").unlink()
    assert "lacks files with weights" in (await refused(folder)).sentence


async def test_damaged_weights(tmp_path: Path) -> None:
    folder = random_model(tmp_path)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    assert "damaged or incomplete" in (await refused(folder)).sentence


async def test_weights_of_which_some_are_missing(tmp_path: Path) -> None:
    folder = random_model(tmp_path)
    change(folder, "config.json", num_hidden_layers=3)
    error = await refused(folder)
    assert "lacks weights that the model has: model.layers.2." in error.sentence
    assert error.field == "model.model"


async def test_weights_of_another_size(tmp_path: Path) -> None:
    folder = random_model(tmp_path)
    change(folder, "config.json", intermediate_size=128)
    assert "cannot be loaded" in (await refused(folder)).sentence


async def test_an_architecture_that_nobody_knows(tmp_path: Path) -> None:
    folder = random_model(tmp_path)
    change(folder, "config.json", model_type="tomorrow")
    assert "does not know the architecture" in (await refused(folder)).sentence


async def test_no_language_model(tmp_path: Path) -> None:
    folder = random_model(tmp_path)
    change(folder, "config.json", model_type="vit", architectures=["ViTModel"])
    assert "no causal language model" in (await refused(folder)).sentence


async def test_code_that_comes_with_a_model_is_not_run_unasked(tmp_path: Path) -> None:
    folder = random_model(tmp_path)
    change(folder, "config.json", model_type="own", auto_map={"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.M"})
    (folder / "own.py").write_text("raise SystemExit('ran')\n")
    error = await refused(folder)
    assert "trust_remote_code=true" in error.sentence
    assert error.field == "model.args.trust_remote_code"


async def test_no_gpu(tmp_path: Path) -> None:
    error = await refused(random_model(tmp_path), device_map="cuda:3")
    assert "asks for 'cuda:3', and there is no GPU here" in error.sentence
    assert error.field == "model.args.device_map"


async def test_no_tokenizer(tmp_path: Path) -> None:
    folder = random_model(tmp_path)
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    assert "tokenizer" in (await refused(folder)).sentence


async def test_a_template_that_is_no_file(tmp_path: Path) -> None:
    error = await refused(random_model(tmp_path), chat_template="missing.jinja")
    assert error.field == "model.args.chat_template"


async def test_a_template_out_of_a_file(tmp_path: Path) -> None:
    folder = random_model(tmp_path / "m", template=None)
    (tmp_path / "own.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    async with transformers_engine(folder, chat_template=str(tmp_path / "own.jinja"), device_map="auto") as engine:
        assert (await ask(engine, [chat("river")], max_tokens=3))[0].error is None
        found = engine.describe()
    assert found.kinds == {"chat", "completion", "loglikelihood"}
    assert (found.tools, found.max_context_tokens, found.logprobs) == (False, 2048, True)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
async def test_half_precision_on_a_cpu(tmp_path: Path, dtype: str) -> None:
    async with transformers_engine(random_model(tmp_path), precision=f"torch.{dtype}") as engine:
        found = (await ask(engine, [chat("river"), chat("house")], max_tokens=4))[0]
    assert found.error is None
    assert found.usage is not None
