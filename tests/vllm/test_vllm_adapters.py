"""An adapter (LoRA) is used for every request, and counts as part of the model."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from tests.vllm.conftest import opened

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.request import GenerationConfig, Request

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

RANK, ALPHA = 4, 16


@pytest.fixture(scope="module")
def adapter(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    """The folder that PEFT would write, and what it adds to the model's weights."""
    folder = tmp_path_factory.mktemp("adapter")
    config = json.loads((tiny / "config.json").read_text())
    rng = np.random.default_rng(3)
    sizes = {"q_proj": config["num_attention_heads"], "v_proj": config["num_key_value_heads"]}
    weights, added = {}, {}
    for layer in range(config["num_hidden_layers"]):
        for name, heads in sizes.items():
            place = f"model.layers.{layer}.self_attn.{name}"
            down = rng.standard_normal((RANK, config["hidden_size"])).astype(np.float32) * 0.2
            up = rng.standard_normal((heads * config["head_dim"], RANK)).astype(np.float32) * 0.2
            weights[f"base_model.model.{place}.lora_A.weight"] = down
            weights[f"base_model.model.{place}.lora_B.weight"] = up
            added[f"{place}.weight"] = ALPHA / RANK * up @ down
    save_file(weights, folder / "adapter_model.safetensors")
    said = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": ALPHA, "bias": "none"}
    said |= {"target_modules": list(sizes), "base_model_name_or_path": str(tiny)}
    (folder / "adapter_config.json").write_text(json.dumps(said))
    return folder, added


async def test_the_model_speaks_as_with_the_adapter_merged_into_it(
    house, endpoint, tiny, reference, tokenizer, adapter
):
    folder, added = adapter
    request = Request("s", 0, "loglikelihood", "d", prompt="the answer is", continuations=(" a river of question",))
    before, whole = tokenizer.encode(request.prompt), tokenizer.encode(request.prompt + request.continuations[0])
    plain = (await endpoint.generate(request, GenerationConfig())).continuations[0].logprob
    adapted = await opened(house, tiny, lora=str(folder))
    try:
        assert adapted.capabilities.weights != endpoint.capabilities.weights
        answer = await adapted.generate(request, GenerationConfig())
    finally:
        await adapted.close()
    assert answer.error is None
    weights = dict(reference.named_parameters())
    with torch.inference_mode():
        for name, delta in added.items():
            weights[name] += torch.from_numpy(delta)
        try:
            values = reference(torch.tensor([whole[:-1]])).logits[0].double().log_softmax(-1)
        finally:
            for name, delta in added.items():
                weights[name] -= torch.from_numpy(delta)
    wanted = sum(values[at - 1, whole[at]].item() for at in range(len(before), len(whole)))
    assert answer.continuations[0].logprob == pytest.approx(wanted, abs=1e-4)
    assert abs(wanted - plain) > 0.1


async def test_a_folder_without_an_adapter_is_refused(house, tiny, tmp_path):
    with pytest.raises(InvalidInput, match=r"model.args.lora is .* which has no adapter_config.json"):
        await opened(house, tiny, lora=str(tmp_path))
