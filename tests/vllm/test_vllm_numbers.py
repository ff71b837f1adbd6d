"""Log probabilities and greedy answers are those of the model as Transformers runs it."""

import pytest
from tests.kit.tiny_model import greedy
from tests.vllm.conftest import CONTEXT

from evalmesh.adapters.engines.endpoint import EngineEndpoint
from evalmesh.domain.completion import Completion
from evalmesh.domain.request import GenerationConfig, Message, Request

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

NEAR = 1e-4
LONG = "the answer is a river of question. what number opens the letter house? " * 40


def loglikelihood(prompt: str, *continuations: str, rolling: bool = False) -> Request:
    return Request("s", 0, "loglikelihood", "d", prompt=prompt, continuations=continuations, rolling=rolling)


async def scored(endpoint: EngineEndpoint, request: Request) -> Completion:
    completion = await endpoint.generate(request, GenerationConfig())
    assert completion.error is None, completion.error
    return completion


def sum_of(reference, before: list[int], after: list[int]) -> float:
    """The least that scoring is: one row, one pass."""
    import torch  # noqa: PLC0415

    row = [*before, *after]
    with torch.inference_mode():
        values = reference(torch.tensor([row[:-1]])).logits[0].double().log_softmax(-1)
    return sum(values[at - 1, row[at]].item() for at in range(len(before), len(row)))


@pytest.mark.parametrize(
    ("prompt", "continuation"),
    [
        ("the answer is", " a river"),
        ("the answer is ", "a river"),
        ("the answer is", " of"),
        ("", "the answer"),
        ("what is 12 + 30?", " 42. And what is the question?"),
    ],
)
async def test_a_continuation_is_as_likely_as_in_transformers(endpoint, reference, tokenizer, prompt, continuation):
    whole, before = tokenizer.encode(prompt + continuation), tokenizer.encode(prompt.rstrip())
    if not prompt:
        before = [tokenizer.bos_token_id]
    score = (await scored(endpoint, loglikelihood(prompt, continuation))).continuations[0]
    assert score.logprob == pytest.approx(sum_of(reference, before, whole[len(before) :]), abs=NEAR)
    assert score.n_tokens == len(whole) - len(before)
    assert score.n_bytes == len(continuation.encode())


async def test_choices_of_one_letter_are_scored_beside_long_ones(endpoint, reference, tokenizer):
    choices = (" A", " B", " the letter house opens", " C")
    prompt = "what number opens the house? A river B letter. answer:"
    scores = (await scored(endpoint, loglikelihood(prompt, *choices))).continuations
    before = tokenizer.encode(prompt)
    wanted = [sum_of(reference, before, tokenizer.encode(prompt + choice)[len(before) :]) for choice in choices]
    assert [score.logprob for score in scores] == pytest.approx(wanted, abs=NEAR)


async def test_a_prompt_as_long_as_the_context_is_scored_and_a_longer_one_refused(endpoint, reference, tokenizer):
    ids = tokenizer.encode(LONG)[: CONTEXT + 1]
    prompt, last = tokenizer.decode(ids[:-1], skip_special_tokens=True), tokenizer.decode(ids[-1:])
    assert tokenizer.encode(prompt) == ids[:-1]
    score = (await scored(endpoint, loglikelihood(prompt, last))).continuations[0]
    assert score.n_tokens == 1
    assert score.logprob == pytest.approx(sum_of(reference, ids[:-1], ids[-1:]), abs=NEAR)
    refused = await endpoint.generate(loglikelihood(LONG, " a river"), GenerationConfig())
    assert refused.error is not None
    assert refused.error.error_class == "bad_request"
    assert f"the model holds {CONTEXT}" in refused.error.message


async def test_a_long_text_is_scored_whole_in_windows_of_the_context(endpoint, reference, tokenizer):
    tokens = tokenizer.encode(LONG)
    assert len(tokens) > 2 * CONTEXT
    wanted = sum_of(reference, [tokenizer.bos_token_id], tokens[:CONTEXT])
    for begin in range(CONTEXT, len(tokens), CONTEXT):
        new = tokens[begin : begin + CONTEXT]
        wanted += sum_of(reference, tokens[begin + len(new) - CONTEXT - 1 : begin], new)
    score = (await scored(endpoint, loglikelihood("", LONG, rolling=True))).continuations[0]
    assert score.n_tokens == len(tokens)
    assert score.logprob == pytest.approx(wanted, abs=1e-2)  # thousands of numbers of 32 bits


async def test_the_greedy_answer_is_that_of_transformers_and_scored_as_greedy(endpoint, reference, tokenizer):
    ask = "what is the number of the house?"
    chat = tokenizer.apply_chat_template([{"role": "user", "content": ask}], add_generation_prompt=True, tokenize=False)
    for request, text in (
        (Request("s", 0, "chat", "d", messages=(Message("user", ask),)), chat),
        (Request("s", 0, "completion", "d", prompt=ask), None),
    ):
        ids = tokenizer.encode(ask) if text is None else tokenizer.encode(text, add_special_tokens=False)
        wanted = list(greedy(reference, ids, 24, (tokenizer.eos_token_id,)))
        answer = await endpoint.generate(request, GenerationConfig(max_tokens=24, temperature=0.0, top_logprobs=2))
        assert answer.error is None
        # vLLM leaves out what may become a character with the next token.
        assert answer.text == tokenizer.decode(wanted, skip_special_tokens=True).rstrip("\ufffd")
        assert answer.usage is not None
        assert (answer.usage.input_tokens, answer.usage.output_tokens) == (len(ids), len(wanted))
        total = sum(token.logprob for token in answer.top_logprobs)
        assert total == pytest.approx(sum_of(reference, ids, wanted), abs=NEAR)
        assert all(token.logprob == token.top[0][1] and len(token.top) == 2 for token in answer.top_logprobs)


async def test_what_greedy_decoding_would_say_is_known_as_such(endpoint):
    prompt = "the answer is"
    said = await endpoint.generate(
        Request("s", 0, "completion", "d", prompt=prompt), GenerationConfig(max_tokens=1, temperature=0.0)
    )
    scores = (await scored(endpoint, loglikelihood(prompt, said.text, " house"))).continuations
    assert [score.is_greedy for score in scores] == [True, False]
