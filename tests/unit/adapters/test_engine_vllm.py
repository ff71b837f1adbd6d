"""What requests and options mean to vLLM, and what its log says went wrong. The engine itself: tests/vllm."""

from dataclasses import dataclass
from typing import Any

import pytest

from evalmesh.adapters.engines.engine import EngineError, EngineRequest
from evalmesh.adapters.engines.options import VllmArgs
from evalmesh.adapters.engines.texts import Refused
from evalmesh.adapters.engines.vllm.arguments import cpu_cache, engine_arguments
from evalmesh.adapters.engines.vllm.overheard import cause_in
from evalmesh.adapters.engines.vllm.sampling import Wish, read_wish
from evalmesh.domain.request import GenerationConfig, Request


def wish(defaults: dict[str, Any] | None = None, repeat: int = 0, **options: Any) -> Wish:
    request = Request("s", repeat, "completion", "d", prompt="x")
    return read_wish(EngineRequest(request, GenerationConfig(**options)), defaults or {})


def test_what_the_request_says_counts_before_the_model_and_the_body_before_both() -> None:
    defaults = {"temperature": 0.6, "top_p": 0.9, "max_tokens": 100}
    asked = wish(defaults, 2, temperature=0.2, seed=40, stop=("\n",), extra_body={"top_p": 0.5, "min_p": 0.1})
    assert asked.sampling == {"temperature": 0.2, "top_p": 0.5, "min_p": 0.1, "seed": 42, "stop": ["\n"]}
    assert asked.max_tokens == 100
    assert wish(max_tokens=9).max_tokens == 9
    assert wish(max_tokens=9, extra_body={"max_completion_tokens": 5}).max_tokens == 5
    assert wish(defaults, extra_body={"temperature": None}).sampling == {"top_p": 0.9}


@pytest.mark.parametrize(
    ("body", "form"),
    [
        ({"guided_choice": ["a", "b"]}, {"choice": ["a", "b"]}),
        ({"guided_regex": "a+"}, {"regex": "a+"}),
        ({"structured_outputs": {"grammar": "root ::= x"}}, {"grammar": "root ::= x"}),
        ({"response_format": {"type": "json_object"}}, {"json_object": True}),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"a": 1}}}}, {"json": {"a": 1}}),
        ({"response_format": {"type": "text"}}, {}),
        ({}, {}),
    ],
)
def test_forms_are_asked_for_as_of_vllms_server(body: dict[str, Any], form: dict[str, Any]) -> None:
    assert wish(extra_body=body).guided == form


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"guided_jsn": {}}, "'guided_jsn', which the engine vllm does not know; did you mean 'guided_json'?"),
        ({"guided_regex": "a", "guided_choice": ["a"]}, "more than once"),
        ({"structured_outputs": "a"}, "give a mapping"),
        ({"response_format": {"type": "xml"}}, "give type text, json_object, or json_schema"),
    ],
)
def test_a_wrong_wish_is_named(body: dict[str, Any], words: str) -> None:
    with pytest.raises(Refused) as caught:
        wish(extra_body=body)
    assert words in str(caught.value)


@dataclass
class Known:
    """Some of the options of a vLLM."""

    model: str = ""
    dtype: str = "auto"
    max_model_len: int | None = None
    max_num_seqs: int = 0
    gpu_memory_utilization: float = 0.9
    enable_prefix_caching: bool | None = None


def test_options_go_to_vllm_by_its_names_where_it_has_them() -> None:
    args = VllmArgs(max_length=64, enable_prefix_caching=False, quantization="awq", engine_args={"max_num_seqs": 4})
    assert engine_arguments("./m", args, Known) == {
        "model": "./m",
        "dtype": "auto",
        "max_model_len": 64,
        "enable_prefix_caching": False,
        "max_num_seqs": 4,
    }


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("max_num_seq", "did you mean 'max_num_seqs'?"),
        ("tensor_parallel", "did you mean 'tensor_parallel_size'?"),
        ("logprobs_mode", "AsyncEngineArgs"),
    ],
)
def test_an_option_that_vllm_has_not_is_refused(name: str, words: str) -> None:
    with pytest.raises(EngineError) as caught:
        engine_arguments("./m", VllmArgs(engine_args={name: 1}), Known)
    assert words in caught.value.sentence
    assert caught.value.field == f"model.args.{name}"


def test_without_a_gpu_the_cache_is_a_small_part_of_the_memory_unless_something_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("VLLM_CPU_KVCACHE_SPACE", raising=False)
    assert 0 < cpu_cache({})["kv_cache_memory_bytes"] <= 4 << 30
    assert cpu_cache({"gpu_memory_utilization": 0.5}) == {}
    assert cpu_cache({"kv_cache_memory_bytes": 1}) == {}


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        (
            "(VllmWorker-0 pid=24) ERROR 11-30 [multiproc_executor.py:953] ValueError: Available memory is less.\n",
            "ValueError: Available memory is less.",
        ),
        (
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB.",
            "OutOfMemoryError: CUDA out of memory",
        ),
        ("RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}", ""),
        ("(EngineCore pid=1) INFO 11-30 [core.py:133] Initializing a V1 LLM engine", ""),
        ("Loading weights:   0%|          | 0/20", ""),
    ],
)
def test_the_reason_is_found_in_the_log(line: str, cause: str) -> None:
    assert cause_in(line).startswith(cause)
    assert bool(cause_in(line)) is bool(cause)
