"""What an endpoint over vLLM promises: ends of answers, seeds, forms that answers are held to, refusals, cancelling."""

import asyncio
import json
import re

import pytest
from tests.vllm.conftest import CONTEXT

from evalmesh.adapters.engines.endpoint import EngineEndpoint
from evalmesh.domain.completion import Completion
from evalmesh.domain.request import GenerationConfig, Message, Request

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

PROMPT = "the question of the river is"


async def ask(endpoint: EngineEndpoint, prompt: str = PROMPT, repeat: int = 0, **options: object) -> Completion:
    return await endpoint.generate(
        Request("s", repeat, "completion", "d", prompt=prompt), GenerationConfig(**{"max_tokens": 24, **options})
    )


async def test_it_says_what_it_can_do(endpoint):
    able = endpoint.capabilities
    assert able.kinds == {"chat", "completion", "loglikelihood"}
    assert able.max_context_tokens == CONTEXT
    assert able.logprobs is True
    assert able.tools is False
    assert able.weights
    assert able.preferred_batch > 1


async def test_an_answer_ends_before_a_stop_string(endpoint):
    whole = (await ask(endpoint, temperature=0.0)).text
    stop = whole[5:7]
    cut = await ask(endpoint, temperature=0.0, stop=(stop,))
    assert cut.text == whole[: whole.index(stop)]
    assert cut.finish_reason == "stop"


async def test_an_answer_that_is_cut_says_so(endpoint):
    cut = await ask(endpoint, temperature=0.0, max_tokens=5)
    assert cut.finish_reason == "length"
    assert cut.usage is not None
    assert cut.usage.output_tokens == 5
    assert cut.timing is not None
    assert cut.timing.ttft_s is not None
    assert 0 < cut.timing.ttft_s <= cut.timing.latency_s


async def test_no_answer_is_longer_than_the_context_has_room_for(endpoint):
    answer = await ask(endpoint, temperature=0.0, max_tokens=10_000, extra_body={"ignore_eos": True})
    assert answer.error is None
    assert answer.usage is not None
    assert answer.usage.input_tokens + answer.usage.output_tokens == CONTEXT
    assert answer.finish_reason == "length"


async def test_a_seed_repeats_answers_and_repeats_differ(endpoint):
    options = {"temperature": 1.0, "seed": 7}
    one, again, other = await asyncio.gather(
        ask(endpoint, **options), ask(endpoint, **options), ask(endpoint, repeat=1, **options)
    )
    assert one.text == again.text
    assert one.text != other.text


async def test_an_answer_keeps_to_the_choices(endpoint):
    answer = await ask(endpoint, extra_body={"guided_choice": ["a river", "the house"]})
    assert answer.text in {"a river", "the house"}


async def test_an_answer_keeps_to_an_expression(endpoint):
    answer = await ask(endpoint, extra_body={"structured_outputs": {"regex": r"[0-9]{3}-[a-f]{2}"}})
    assert re.fullmatch(r"[0-9]{3}-[a-f]{2}", answer.text)


@pytest.mark.parametrize("key", ["guided_json", "response_format"])
async def test_an_answer_keeps_to_a_schema(endpoint, key):
    schema = {
        "type": "object",
        "properties": {"right": {"type": "boolean"}, "n": {"enum": [1, 2]}},
        "required": ["right", "n"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    body = {key: schema if key == "guided_json" else form}
    # Where anything is as likely, such a model does not put blanks between the parts forever.
    answer = await ask(endpoint, max_tokens=200, temperature=2.0, seed=1, extra_body=body)
    said = json.loads(answer.text)
    assert isinstance(said["right"], bool)
    assert said["n"] in {1, 2}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"extra_body": {"guided_choise": ["a"]}}, "did you mean 'guided_choice'?"),
        ({"extra_body": {"guided_choice": ["a"], "guided_regex": "b"}}, "more than once"),
        ({"extra_body": {"min_p": 7}}, "min_p must be in [0, 1]"),
        ({"extra_body": {"guided_regex": "("}}, "regex"),
        ({"top_logprobs": 1000}, "1000"),
    ],
)
async def test_what_cannot_be_asked_is_refused_by_name(endpoint, options, words):
    answer = await ask(endpoint, **options)
    assert answer.error is not None
    assert answer.error.error_class == "bad_request"
    assert words in answer.error.message


async def test_a_prompt_that_fills_the_context_is_refused_with_its_length(endpoint):
    answer = await ask(endpoint, "river " * CONTEXT)
    assert answer.error is not None
    assert answer.error.error_class == "bad_request"
    assert f"the model holds {CONTEXT}" in answer.error.message


async def test_a_request_that_nobody_waits_for_leaves_the_batch(endpoint, logs):
    options = {"temperature": 0.0, "max_tokens": CONTEXT, "extra_body": {"ignore_eos": True}}
    begun = [asyncio.create_task(ask(endpoint, f"{at} is", **options)) for at in range(200)]
    await asyncio.wait(begun, return_when=asyncio.FIRST_COMPLETED)
    left = [task for task in begun if not task.done()]
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    assert left
    # Not all of them: some had not come to vLLM yet, and some were answered meanwhile.
    while "aborted." not in (log := next(logs.glob("*.log")).read_text()):
        assert (await ask(endpoint, "and then", max_tokens=2)).error is None
    assert "EngineDead" not in log
    assert endpoint.load.in_flight == 0


async def test_many_at_once_are_answered_as_one_by_one(endpoint):
    prompts = [f"the number {at} is of" for at in range(40)]
    alone = [(await ask(endpoint, prompt, temperature=0.0)).text for prompt in prompts[:5]]
    together = [
        answer.text for answer in await asyncio.gather(*(ask(endpoint, one, temperature=0.0) for one in prompts))
    ]
    assert together[:5] == alone


async def test_a_conversation_goes_through_the_template_with_its_variables(endpoint):
    request = Request("s", 0, "chat", "d", messages=(Message("system", "of"), Message("user", "what is the river?")))
    answer = await endpoint.generate(request, GenerationConfig(max_tokens=4, temperature=0.0))
    assert answer.error is None
    assert answer.usage is not None
    plain = await ask(endpoint, "<|system|>of<|end|><|user|>what is the river?<|end|><|assistant|>", max_tokens=4)
    assert answer.usage.input_tokens == plain.usage.input_tokens - 1  # the start token, which no template brings
