"""Log-likelihoods of the engine transformers, held against one pass per pair and lm-eval's rules for cutting tokens."""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.kit.own_engine import Notes, ask, judged, transformers_engine
from tests.kit.tiny_model import random_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from evalmesh.domain.completion import Completion

_WORDS = ["the", "answer", "is", "and", "of", "question", "what", "number", "river", "opens", "house", "zebra"]
_SHAPES = {"plain": {}, "bos": {"bos": True}, "window": {"window": 16}}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Bare:
    """The model without us."""

    def __init__(self, folder: Path) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(folder)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        bos, eos = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        self.prefix = eos if bos is None else bos

    def score(self, before: Sequence[int], after: Sequence[int]) -> tuple[float, bool]:
        """Sum over `after`, and whether each of it is the likeliest."""
        ids = torch.tensor([[*before, *after]])
        with torch.inference_mode():
            values = self.model(input_ids=ids[:, :-1]).logits[0, -len(after) :].double().log_softmax(-1)
        wanted = torch.tensor(list(after))
        return float(values.gather(-1, wanted[:, None]).sum()), bool((values.argmax(-1) == wanted).all())

    def pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        if not context:
            return [self.prefix], self.tokenizer.encode(continuation, add_special_tokens=False)
        stripped = context.rstrip()
        before = self.tokenizer.encode(stripped)
        return before, self.tokenizer.encode(stripped + context[len(stripped) :] + continuation)[len(before) :]


@pytest.fixture(scope="module", params=list(_SHAPES))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_model(tmp_path_factory.mktemp(request.param), context=128, **_SHAPES[request.param])


def words(rng: random.Random, least: int, most: int) -> str:
    return " ".join(rng.choices(_WORDS, k=rng.randint(least, most)))


def requests(number: int = 20) -> list[Any]:
    rng = random.Random(3)
    found = []
    for place in range(number):
        context = words(rng, 1, 18) + rng.choice(["", " ", "  ", "\n"]) if place % 7 else ""
        options = [rng.choice([" ", ""]) + words(rng, 1, 5) for _ in range(1 + place % 5)]
        found.append(judged(context, *options))
    return found


def check(found: list[Completion], bare: Bare) -> int:
    """Every sum, and how many there are."""
    number = 0
    for request, completion in zip(requests(), found, strict=True):
        assert completion.error is None
        for (context, continuation), score in zip(request.pairs, completion.continuations, strict=True):
            before, after = bare.pair(context, continuation)
            wanted, greedy = bare.score(before, after)
            assert score.logprob == pytest.approx(wanted, rel=1e-6, abs=1e-5)
            assert (score.n_tokens, score.is_greedy) == (len(after), greedy)
            assert score.n_bytes == len(continuation.encode())
            number += 1
    return number


async def test_sums_are_those_of_one_pass_per_pair(folder: Path) -> None:
    bare = Bare(folder)
    for rows in (1, 5, 64):
        async with transformers_engine(folder, batch_size=rows) as engine:
            assert check(await ask(engine, requests()), bare) == 60


async def test_a_small_budget_changes_nothing(folder: Path) -> None:
    async with transformers_engine(folder, batch_tokens=50) as engine:
        assert check(await ask(engine, requests()), Bare(folder)) == 60


async def test_the_likeliest_tokens_are_greedy(folder: Path) -> None:
    bare = Bare(folder)
    ids = torch.tensor([bare.tokenizer.encode("what is the")])
    with torch.inference_mode():
        said = bare.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=1, do_sample=False)
    likeliest = bare.tokenizer.decode(said[0, -1:])
    async with transformers_engine(folder) as engine:
        one = (await ask(engine, [judged("what is the", likeliest, " zebra")]))[0]
    if bare.pair("what is the", likeliest)[1] == said[0, -1:].tolist():
        assert one.continuations[0].is_greedy
    assert not one.continuations[1].is_greedy


@pytest.mark.parametrize("budget", [{}, {"batch_tokens": 30}], ids=["roomy", "tight"])
async def test_each_token_of_a_long_text_is_predicted_once(folder: Path, budget: dict[str, int]) -> None:
    bare, rng = Bare(folder), random.Random(5)
    documents = [words(rng, 3, 10), words(rng, 250, 260), ""]
    async with transformers_engine(folder, **budget) as engine:
        found = (await ask(engine, [judged("", *documents, rolling=True)]))[0]
    for document, score in zip(documents, found.continuations, strict=True):
        tokens = bare.tokenizer.encode(document)
        wanted = 0.0
        for start in range(0, len(tokens), 128):
            window = tokens[start : start + 128]
            # As much before it as the context holds beside what is predicted; the very first is after one token.
            before = tokens[max(0, start + len(window) - 129) : start] if start else [bare.prefix]
            wanted += bare.score(before, window)[0]
        assert score.logprob == pytest.approx(wanted, rel=1e-6, abs=1e-5)
        assert score.n_tokens == len(tokens)
        assert score.n_bytes == len(document.encode())


async def test_add_bos_token_is_as_typed(tmp_path: Path) -> None:
    folder = random_model(tmp_path, bos=True)
    bare = Bare(folder)
    end = bare.tokenizer.encode("river", add_special_tokens=False)
    for add, before in ((True, [bare.prefix]), (False, [])):
        async with transformers_engine(folder, add_bos_token=add) as engine:
            found = (await ask(engine, [judged("the", " river")]))[0]
        context = before + bare.tokenizer.encode("the", add_special_tokens=False)
        after = bare.tokenizer.encode("the river", add_special_tokens=False)[len(context) - len(before) :]
        assert found.continuations[0].logprob == pytest.approx(bare.score(context, after)[0], abs=1e-5)
    assert end


async def test_pairs_that_are_longer_than_the_context_are_errors(folder: Path) -> None:
    rng = random.Random(1)
    async with transformers_engine(folder) as engine:
        long, short = await ask(engine, [judged(words(rng, 200, 200), " house"), judged("the", " house")])
    assert long.error is not None
    assert long.error.error_class == "bad_request"
    assert "the model holds 128" in long.error.message
    assert short.error is None


async def test_a_full_memory_makes_smaller_batches(folder: Path) -> None:
    host = Notes()
    async with transformers_engine(folder, host) as engine:

        def refuse(_: Any, args: Any, kwargs: dict[str, Any]) -> None:
            if kwargs["input_ids"].numel() > 150:
                raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")

        engine._loaded.model.register_forward_pre_hook(refuse, with_kwargs=True)  # type: ignore[attr-defined]
        assert check(await ask(engine, requests()), Bare(folder)) == 60
    assert len(host.said) == 1


async def test_answers_and_judgements_at_once(folder: Path) -> None:
    from tests.kit.own_engine import plain  # noqa: PLC0415

    async with transformers_engine(folder, batch_size=4) as engine:
        mixed = await ask(engine, [*requests(), *(plain(f"the river {n}") for n in range(6))], max_tokens=40)
    assert check(mixed[:20], Bare(folder)) == 60
    assert all(one.text for one in mixed[20:])
