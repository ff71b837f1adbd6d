"""The engine `vllm` over the real vLLM. Only `make test-vllm` has it; elsewhere these files are not collected."""

import asyncio
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from evalmesh.adapters.engines.endpoint import EngineEndpoint
from evalmesh.adapters.engines.house import House, HouseRules
from evalmesh.domain.digest import pool_id
from evalmesh.domain.errors import Unavailable
from evalmesh.domain.run import ModelSpec
from evalmesh.domain.work import Pool

collect_ignore_glob = [] if find_spec("vllm") else ["test_*.py"]

CONTEXT = 256
ARGS = {"enforce_eager": True}
"""Nothing is compiled: that takes minutes here, and makes up for it with long runs only."""


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of random numbers; vLLM's attention takes no heads smaller than 32."""
    from tests.kit.tiny_model import random_model  # noqa: PLC0415

    return random_model(
        tmp_path_factory.mktemp("models") / "tiny", hidden=128, heads=2, kv_heads=1, context=CONTEXT, bos=True
    )


@pytest.fixture(scope="session")
def sums_model(pytestconfig: pytest.Config) -> Path:
    """As elsewhere, with heads that vLLM takes."""
    from tests.kit.tiny_model import kept_model  # noqa: PLC0415 - the ordinary suite reads this file too

    return kept_model(Path(pytestconfig.cache.mkdir("tiny_models")))


@pytest.fixture(scope="session")
def reference(tiny: Path) -> Any:
    """The same model in Transformers."""
    import torch  # noqa: PLC0415 - seconds
    from transformers import AutoModelForCausalLM  # noqa: PLC0415

    return AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32).eval()


@pytest.fixture(scope="session")
def tokenizer(tiny: Path) -> Any:
    from transformers import AutoTokenizer  # noqa: PLC0415

    return AutoTokenizer.from_pretrained(tiny)


@pytest.fixture(scope="session")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where engines write what they have to say."""
    return tmp_path_factory.mktemp("logs")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def house(logs: Path) -> AsyncIterator[House]:
    house = House(HouseRules(logs=logs))
    yield house
    await house.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def endpoint(house: House, tiny: Path) -> AsyncIterator[EngineEndpoint]:
    """The tiny model, loaded once for all tests."""
    endpoint = await opened(house, tiny, enable_log_requests=True)
    yield endpoint
    await endpoint.close()


async def opened(house: House, folder: Path, **args: Any) -> EngineEndpoint:
    """The endpoint of a model, once it is loaded."""
    model = ModelSpec(str(folder), engine="vllm", args={**ARGS, **args}, concurrency=256)
    endpoint = house.open(Pool(pool_id(model), model))
    while True:
        try:
            await endpoint.check()
        except Unavailable as unavailable:
            if unavailable.details.get("loading") != "true":
                raise
            await asyncio.sleep(0)
        else:
            return endpoint
