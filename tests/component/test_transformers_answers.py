"""Answers of the engine transformers, held against the library's own `generate` with one text at a time."""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.kit.own_engine import Notes, ask, chat, plain, transformers_engine
from tests.kit.tiny_model import END, random_model, sums, write_json
from transformers import AutoModelForCausalLM, AutoTokenizer

from evalmesh.adapters.engines.engine import EngineRequest
from evalmesh.domain.completion import Completion
from evalmesh.domain.content import ToolDefinition
from evalmesh.domain.request import GenerationConfig, Message

_WORDS = [
    "the",
    "answer",
    "is",
    "and",
    "of",
    "question",
    "what",
    "number",
    "river",
    "letter",
    "opens",
    "house",
    "zebra",
]


def texts(number: int, seed: int = 3) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(_WORDS, k=rng.choice([2, 5, 9, 30]))) for _ in range(number)]


PROMPTS = texts(24)


class Bare:
    """The model without us."""

    def __init__(self, folder: Path) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(folder)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.end = self.tokenizer.convert_tokens_to_ids(END)

    def say(self, prompt: str, tokens: int) -> str:
        return self.tokenizer.decode(self.tokens(prompt, tokens), skip_special_tokens=True)

    def tokens(self, prompt: str, tokens: int) -> list[int]:
        ids = torch.tensor([self.tokenizer.encode(prompt)])
        with torch.inference_mode():
            whole = self.model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False, eos_token_id=self.end
            )
        return whole[0, ids.shape[1] :].tolist()


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads of torch wait for each other by spinning, which takes forever where other tests run beside."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_model(tmp_path_factory.mktemp("random"))


@pytest.fixture(scope="module")
def bare(folder: Path) -> Bare:
    return Bare(folder)


def said(completions: list[Completion]) -> list[str]:
    assert [one.error for one in completions] == [None] * len(completions)
    return [one.text for one in completions]


async def test_a_batch_says_what_the_model_says_alone(folder: Path, bare: Bare) -> None:
    wanted = [bare.say(prompt, 20) for prompt in PROMPTS]
    for rows in (1, 4, 16):
        async with transformers_engine(folder, batch_size=rows) as engine:
            found = await ask(engine, [plain(prompt) for prompt in PROMPTS], max_tokens=20)
        assert said(found) == wanted
    assert len(set(wanted)) > 12
    assert {one.finish_reason for one in found} <= {"length", "stop"}
    assert found[0].usage is not None
    assert found[0].usage.input_tokens == len(bare.tokenizer.encode(PROMPTS[0]))
    assert found[0].timing is not None
    assert found[0].timing.ttft_s is not None


@pytest.mark.parametrize(
    "config",
    [
        {"temperature": 1.0},
        {"temperature": 0.8, "top_k": 20, "top_p": 0.9},
        {"temperature": 1.5, "top_p": 0.7},
        {"temperature": 1.0, "extra_body": {"min_p": 0.05}},
        {"repetition_penalty": 1.3, "frequency_penalty": 0.2, "presence_penalty": 0.1},
    ],
)
async def test_draws_do_not_depend_on_who_shares_the_batch(folder: Path, config: dict[str, Any]) -> None:
    found = []
    for rows in (1, 4, 16):
        async with transformers_engine(folder, batch_size=rows) as engine:
            requests = [plain(prompt) for prompt in PROMPTS]
            found.append(said(await ask(engine, requests, max_tokens=16, seed=5, **config)))
            other = said(await ask(engine, requests, max_tokens=16, seed=6, **config))
    assert found[0] == found[1] == found[2]
    assert (other != found[0]) == ("temperature" in config)


async def test_rows_that_join_late_and_leave_early(folder: Path, bare: Bare) -> None:
    lengths = [1, 40, 3, 17, 2, 33, 8, 1, 25, 5, 12, 40]
    async with transformers_engine(folder, batch_size=3) as engine:

        async def one(number: int) -> Completion:
            await asyncio.sleep(0.004 * number)
            config = GenerationConfig(max_tokens=lengths[number])
            return await engine.answer(EngineRequest(plain(PROMPTS[number]), config))

        found = await asyncio.gather(*(one(number) for number in range(len(lengths))))
    assert said(found) == [bare.say(prompt, tokens) for prompt, tokens in zip(PROMPTS, lengths, strict=False)]


async def test_a_batch_that_outgrows_its_budget_goes_on_in_parts(folder: Path, bare: Bare) -> None:
    wanted = [bare.say(prompt, 150) for prompt in PROMPTS[:6]]
    async with transformers_engine(folder, batch_tokens=300) as engine:
        assert said(await ask(engine, [plain(prompt) for prompt in PROMPTS[:6]], max_tokens=150)) == wanted


async def test_a_prompt_that_is_longer_than_a_pass_is_fed_in_pieces(folder: Path, bare: Bare) -> None:
    long = " ".join(texts(20))
    async with transformers_engine(folder, batch_tokens=32) as engine:
        assert said(await ask(engine, [plain(long)], max_tokens=8)) == [bare.say(long, 8)]


async def test_attention_that_slides_over_a_window(tmp_path: Path) -> None:
    folder = random_model(tmp_path, window=16)
    bare = Bare(folder)
    wanted = [bare.say(prompt, 30) for prompt in PROMPTS[:10]]
    async with transformers_engine(folder, batch_size=4) as engine:
        assert said(await ask(engine, [plain(prompt) for prompt in PROMPTS[:10]], max_tokens=30)) == wanted


async def test_penalties_are_those_of_the_library(folder: Path, bare: Bare) -> None:
    ids = bare.tokenizer(PROMPTS[3], return_tensors="pt").input_ids
    with torch.inference_mode():
        whole = bare.model.generate(ids, max_new_tokens=20, do_sample=False, repetition_penalty=1.5)
    wanted = bare.tokenizer.decode(whole[0, ids.shape[1] :], skip_special_tokens=True)
    async with transformers_engine(folder) as engine:
        found = await ask(engine, [plain(PROMPTS[3])], max_tokens=20, repetition_penalty=1.5)
    assert said(found) == [wanted] != [bare.say(PROMPTS[3], 20)]


async def test_a_stop_string_ends_the_answer_right_before_it(folder: Path, bare: Bare) -> None:
    whole = bare.say(PROMPTS[1], 40)
    stop = whole[7:10]
    async with transformers_engine(folder) as engine:
        found = (await ask(engine, [plain(PROMPTS[1])], max_tokens=40, stop=("never said", stop)))[0]
        unstopped = (await ask(engine, [plain(PROMPTS[1])], max_tokens=40, stop=("never said",)))[0]
    assert (found.text, found.finish_reason) == (whole[: whole.index(stop)], "stop")
    assert found.usage is not None
    assert found.usage.output_tokens is not None
    assert found.usage.output_tokens < 40
    assert (unstopped.text, unstopped.finish_reason) == (whole, "length")


async def test_all_end_tokens_of_the_generation_config_end_an_answer(folder: Path, bare: Bare, tmp_path: Path) -> None:
    tokens = bare.tokens(PROMPTS[2], 30)
    end = tokens[10]
    first = tokens.index(end)
    other = random_model(tmp_path, generation={"eos_token_id": [bare.end, end]})
    async with transformers_engine(other) as engine:
        found = (await ask(engine, [plain(PROMPTS[2])], max_tokens=30))[0]
        ignored = (await ask(engine, [plain(PROMPTS[2])], max_tokens=30, extra_body={"ignore_eos": True}))[0]
        later = (await ask(engine, [plain(PROMPTS[2])], max_tokens=30, extra_body={"min_tokens": 15}))[0]
    assert found.finish_reason == "stop"
    assert found.text == bare.tokenizer.decode(tokens[:first], skip_special_tokens=True)
    assert found.usage is not None
    assert found.usage.output_tokens == first + 1
    assert (ignored.finish_reason, ignored.usage and ignored.usage.output_tokens) == ("length", 30)
    assert later.usage is not None
    assert (later.usage.output_tokens or 0) > 15


async def test_what_the_model_says_about_sampling_holds_where_nothing_is_asked(tmp_path: Path) -> None:
    folder = random_model(tmp_path, generation={"do_sample": True, "temperature": 0.9, "max_new_tokens": 7})
    async with transformers_engine(folder) as engine:
        drawn, again, likeliest = [
            (await ask(engine, [plain(PROMPTS[0])], **config))[0] for config in ({}, {}, {"temperature": 0.0})
        ]
    assert drawn.text == again.text != likeliest.text
    assert drawn.usage is not None
    assert drawn.usage.output_tokens == 7


async def test_log_probabilities_of_the_tokens_and_of_those_in_their_place(folder: Path, bare: Bare) -> None:
    async with transformers_engine(folder) as engine:
        found = (await ask(engine, [plain(PROMPTS[0]), plain(PROMPTS[1])], max_tokens=5, top_logprobs=3))[0]
    ids = bare.tokenizer.encode(PROMPTS[0])
    for token in found.top_logprobs:
        with torch.inference_mode():
            wanted = bare.model(input_ids=torch.tensor([ids])).logits[0, -1].log_softmax(-1).topk(3)
        assert token.logprob == pytest.approx(float(wanted.values[0]), abs=1e-4)
        assert [value for _, value in token.top] == pytest.approx(wanted.values.tolist(), abs=1e-4)
        assert [text for text, _ in token.top] == [bare.tokenizer.decode([one]) for one in wanted.indices.tolist()]
        ids.append(int(wanted.indices[0]))
    assert len(found.top_logprobs) == 5


async def test_a_request_that_nobody_waits_for_leaves_the_batch(folder: Path, bare: Bare) -> None:
    async with transformers_engine(folder, batch_size=1) as engine:
        long = asyncio.create_task(engine.answer(EngineRequest(plain(PROMPTS[0]), GenerationConfig(max_tokens=2000))))
        await asyncio.sleep(0.1)
        long.cancel()
        with pytest.raises(asyncio.CancelledError):
            await long
        async with asyncio.timeout(20):
            assert said(await ask(engine, [plain(PROMPTS[1])], max_tokens=5)) == [bare.say(PROMPTS[1], 5)]


class TestMemory:
    """A pass with too many tokens fails as the allocator of a GPU fails."""

    def _limit(self, engine: Any, tokens: int) -> None:
        def refuse(_: Any, args: Any, kwargs: dict[str, Any]) -> None:
            if kwargs["input_ids"].numel() > tokens:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

        engine._loaded.model.register_forward_pre_hook(refuse, with_kwargs=True)

    async def test_smaller_batches_say_the_same(self, folder: Path, bare: Bare) -> None:
        host = Notes()
        async with transformers_engine(folder, host, batch_size=16) as engine:
            self._limit(engine, 60)
            found = await ask(engine, [plain(prompt) for prompt in PROMPTS], max_tokens=12, temperature=0.0)
        assert said(found) == [bare.say(prompt, 12) for prompt in PROMPTS]
        assert len(host.said) == 1
        assert "did not fit into the memory" in host.said[0]

    async def test_what_fits_nowhere_is_an_error_of_its_own(self, folder: Path, bare: Bare) -> None:
        async with transformers_engine(folder) as engine:
            self._limit(engine, 0)
            found = await ask(engine, [plain(prompt) for prompt in PROMPTS[:3]], max_tokens=12)
        assert [one.error and one.error.error_class for one in found] == ["server"] * 3
        assert found[0].error is not None
        assert "does not hold this request by itself" in found[0].error.message


async def test_a_model_that_fails_costs_what_was_in_flight(folder: Path, bare: Bare) -> None:
    async with transformers_engine(folder) as engine:

        def fail(*_: Any) -> None:
            raise ValueError("shapes do not match")

        hook = engine._loaded.model.register_forward_pre_hook(fail)  # type: ignore[attr-defined]
        broken = (await ask(engine, [plain(PROMPTS[0])], max_tokens=5))[0]
        hook.remove()
        assert broken.error is not None
        assert broken.error.error_class == "internal"
        assert "ValueError: shapes do not match" in broken.error.message
        assert said(await ask(engine, [plain(PROMPTS[0])], max_tokens=5)) == [bare.say(PROMPTS[0], 5)]


async def test_the_model_that_adds_is_as_right_in_batches_as_alone(sums_model: Path) -> None:
    bare, rows = Bare(sums_model), sums(150)
    async with transformers_engine(sums_model) as engine:
        found = said(await ask(engine, [chat(asked) for asked, _ in rows], max_tokens=8))
    assert found == [bare.say(f"<|user|>{asked}<|end|><|assistant|>", 8) for asked, _ in rows]
    right = sum(answer == wanted for answer, (_, wanted) in zip(found, rows, strict=True))
    assert 0.5 < right / len(rows) < 1


class TestRefusals:
    async def _refused(self, folder: Path, request: Any, **config: Any) -> str:
        async with transformers_engine(folder, max_length=40) as engine:
            found = (await ask(engine, [request], **config))[0]
        assert found.error is not None
        assert found.error.error_class == "bad_request"
        return found.error.message

    async def test_a_prompt_that_is_too_long(self, folder: Path) -> None:
        said = await self._refused(folder, plain(" ".join(PROMPTS)))
        assert "model holds 40 of prompt and answer together" in said
        assert "max_length=N" in said

    async def test_no_chat_template(self, tmp_path: Path) -> None:
        said = await self._refused(random_model(tmp_path, template=None), chat("hello"))
        assert "chat_template=FILE" in said
        assert "--request-kind completion" in said

    async def test_tools_that_the_template_does_not_show(self, tmp_path: Path) -> None:
        folder = random_model(tmp_path, template="{% for m in messages %}{{ m.content }}{% endfor %}")
        assert "takes no tools" in await self._refused(folder, chat("hello", tools=(ToolDefinition("add"),)))

    async def test_roles_that_the_template_does_not_take(self, tmp_path: Path) -> None:
        template = "{% for m in messages if m.role == 'tool' %}{{ raise_exception('no tools here') }}{% endfor %}x"
        folder = random_model(tmp_path, template=template)
        assert "no tools here" in await self._refused(folder, chat("", messages=(Message("tool", "7"),)))

    async def test_options_that_it_does_not_have(self, folder: Path) -> None:
        assert "'best_of'" in await self._refused(folder, plain("x"), extra_body={"best_of": 4})


async def test_a_template_without_system_messages_gets_them_with_the_question(tmp_path: Path) -> None:
    template = (
        "{% for m in messages if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endfor %}"
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}<|assistant|>"
    )
    folder = random_model(tmp_path, template=template)
    bare = Bare(folder)
    request = chat("", messages=(Message("system", "Be brief."), Message("user", "the river")))
    async with transformers_engine(folder) as engine:
        found = said(await ask(engine, [request], max_tokens=10))
    assert found == [bare.say("<|user|>Be brief.\n\nthe river<|end|><|assistant|>", 10)]


async def test_variables_reach_the_template(tmp_path: Path) -> None:
    template = "{{ 'think' if enable_thinking else 'answer' }} {{ mood }}{{ messages[0].content }}"
    folder = random_model(tmp_path, template=template)
    bare = Bare(folder)
    async with transformers_engine(folder, enable_thinking=False, chat_template_kwargs={"mood": "good"}) as engine:
        own, asked = [
            said(await ask(engine, [chat("river")], max_tokens=6, **config))
            for config in ({}, {"extra_body": {"chat_template_kwargs": {"enable_thinking": True}}})
        ]
    assert own == [bare.say("answer goodriver", 6)]
    assert asked == [bare.say("think goodriver", 6)]


async def test_calls_of_tools_are_read_out_of_the_text(tmp_path: Path, folder: Path) -> None:
    from evalmesh.adapters.engines.transformers.calls import calls_in  # noqa: PLC0415

    calls, text = calls_in('Let me see. <tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>')
    assert [(one.name, one.arguments) for one in calls] == [("add", '{"a": 1}')]
    assert text == "Let me see."
    assert (
        calls_in('[TOOL_CALLS][{"name": "add", "arguments": {}}, {"name": "sub", "arguments": {}}]')[0][1].name == "sub"
    )
    assert calls_in('<|python_tag|>{"name": "add", "parameters": {"a": 2}}')[0][0].arguments == '{"a": 2}'
    assert calls_in('{"answer": 7}') == ((), '{"answer": 7}')


async def test_a_recurrent_model_is_asked_one_by_one(tmp_path: Path) -> None:
    from transformers import MambaConfig, MambaForCausalLM  # noqa: PLC0415

    folder = random_model(tmp_path)
    torch.manual_seed(1)
    size = len(AutoTokenizer.from_pretrained(folder))
    model = MambaForCausalLM(MambaConfig(vocab_size=size, hidden_size=16, num_hidden_layers=2, state_size=4))
    model.save_pretrained(folder)
    write_json(folder / "generation_config.json", {"eos_token_id": 0})
    bare = Bare(folder)
    async with transformers_engine(folder) as engine:
        found = said(await ask(engine, [plain(prompt) for prompt in PROMPTS[:4]], max_tokens=6))
    assert found == [bare.say(prompt, 6) for prompt in PROMPTS[:4]]
