"""What `--model-args` mean, and on which devices the copies of a model run."""

import pytest

from evalmesh.adapters.engines.options import (
    ENGINES,
    EngineKind,
    TransformersArgs,
    VllmArgs,
    code_in,
    read_args,
    require,
)
from evalmesh.adapters.engines.placing import environments, shares
from evalmesh.domain.errors import InvalidInput, Unimplemented


def read(engine: str = "transformers", **given: object):
    return read_args(engine, ENGINES[engine], given)


def test_options_are_read_from_text_and_by_the_names_of_other_tools() -> None:
    args = read(precision="torch.bfloat16", device_map="auto", trust_remote_code="true", batch_size="8")
    assert args == TransformersArgs(dtype="bfloat16", device_map="auto", trust_remote_code=True, batch_size=8)
    assert read(torch_dtype="half").dtype == "float16"
    assert read("vllm", **{"tensor-parallel-size": 2}).tensor_parallel_size == 2


def test_vllm_takes_its_own_options_by_their_names() -> None:
    args = read("vllm", **{"max-num-seqs": 8, "max_model_len": 512, "engine_args": {"seed": 1}})
    assert isinstance(args, VllmArgs)
    assert args.max_length == 512
    assert args.engine_args == {"max_num_seqs": 8, "seed": 1}
    assert read("vllm", engine_args={"trust_remote_code": True}).trust_remote_code


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({}, ""),
        ({"max_num_seqs": 8, "enable_chunked_prefill": False, "lora": "./x"}, ""),
        ({"trust_remote_code": True}, "trust_remote_code"),
        ({"engine_args": {"trust_remote_code": True}}, "trust_remote_code"),
        ({"worker_cls": "mine.Worker"}, "worker_cls"),
        ({"engine_args": {"logits_processors": ["mine:all"]}}, "logits_processors"),
    ],
)
def test_options_that_could_bring_code_are_known(given: dict[str, object], name: str) -> None:
    assert code_in(read("vllm", **given)) == name


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"presicion": "float16"}, ["'presicion'", "transformers", "'precision'"]),
        ({"tensor_parallel_size": 2}, ["'tensor_parallel_size'", "does not know"]),
        ({"batch_size": "many"}, ["model.args.batch_size", "'many'; give a whole number."]),
        ({"dtype": "float8"}, ["model.args.dtype", "'float8'; give one of auto, float32, float16, bfloat16."]),
        ({"devices": "0 and 1"}, ["give a list."]),
        ({"device_map": 3}, ["give text or a mapping."]),
        ({"device": "cpu", "device_map": "auto"}, ["device_map", "twice"]),
        ({"data_parallel": -1}, ["data_parallel", "at least 1"]),
    ],
)
def test_a_wrong_option_is_named_as_it_was_typed(given: dict[str, object], words: list[str]) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(**given)
    assert all(word in caught.value.message for word in words), caught.value.message
    assert caught.value.details["field"].startswith("model.args")


def test_an_engine_that_is_not_installed_names_its_extra() -> None:
    with pytest.raises(Unimplemented, match=r"needs no_such_package, which is not installed.*'evalmesh\[some\]'"):
        require(EngineKind("", TransformersArgs, ("json", "no_such_package"), "some"))


def _gpus(monkeypatch: pytest.MonkeyPatch, visible: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)


@pytest.mark.parametrize(
    ("args", "seen"),
    [
        (TransformersArgs(), ["0,1,2,3"]),
        (TransformersArgs(data_parallel=2), ["0,1", "2,3"]),
        (TransformersArgs(data_parallel=4), ["0", "1", "2", "3"]),
        (TransformersArgs(devices=(2, 3)), ["2", "3"]),
        (TransformersArgs(devices=(2, 2)), ["2", "2"]),
        (TransformersArgs(devices=(2, 3), device_map="auto"), ["2,3"]),
        (VllmArgs(devices=(0, 1, 2, 3), tensor_parallel_size=2), ["0,1", "2,3"]),
        (TransformersArgs(data_parallel=2, device_map="cpu"), ["", ""]),
    ],
)
def test_copies_share_out_the_gpus(monkeypatch: pytest.MonkeyPatch, args: TransformersArgs, seen: list[str]) -> None:
    _gpus(monkeypatch, "0,1,2,3")
    assert [one.get("CUDA_VISIBLE_DEVICES") for one in environments(args, from_hub=False)] == seen


def test_more_copies_than_gpus_are_refused_unless_one_is_named_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    _gpus(monkeypatch, "0")
    with pytest.raises(InvalidInput, match="asks for 2 copies of the model, and there is 1 GPU here"):
        environments(TransformersArgs(data_parallel=2), from_hub=False)
    assert len(environments(TransformersArgs(data_parallel=2, devices=(0, 0)), from_hub=False)) == 2


def test_without_gpus_copies_share_out_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    _gpus(monkeypatch, "")
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    copies = environments(TransformersArgs(data_parallel=4), from_hub=False)
    assert [one["OMP_NUM_THREADS"] for one in copies] == ["2"] * 4
    assert [dict(one) for one in shares(1)] == [{}]


def test_a_process_gets_what_libraries_of_gpus_read_and_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HOME", "NCCL_DEBUG", "OPENAI_API_KEY", "HF_TOKEN", "WANDB_API_KEY", "MY_OWN", "https_proxy"):
        monkeypatch.setenv(name, "set")
    (here,) = environments(TransformersArgs(), from_hub=False)
    assert {"HF_HOME", "NCCL_DEBUG", "PATH"} <= here.keys()
    assert not {"OPENAI_API_KEY", "HF_TOKEN", "WANDB_API_KEY", "MY_OWN", "https_proxy"} & here.keys()
    (fetching,) = environments(TransformersArgs(), from_hub=True)
    assert {"HF_TOKEN", "https_proxy"} <= fetching.keys()
