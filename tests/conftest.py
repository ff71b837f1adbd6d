import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.kit.skips import (  # noqa: F401  (hooks: being here is what makes them work)
    pytest_collectreport,
    pytest_runtest_logreport,
    pytest_sessionfinish,
    pytest_sessionstart,
    pytest_terminal_summary,
)

# How long an example takes says something about the machine, not about the code.
hypothesis.settings.register_profile("evalmesh", hypothesis.settings.default, deadline=None)
hypothesis.settings.load_profile("evalmesh")


@pytest.fixture(scope="session", autouse=True)
def _own_state_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Platforms of tests are known to tests only, and those of whoever runs them are not known here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        # No test asks a real hub, or finds what its user has fetched from one.
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        for name in ("EVALMESH_TOKEN", "EVALMESH_TOKEN_FILE", "HF_TOKEN", "HF_ENDPOINT", "HF_HOME", "HF_HUB_CACHE"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session")
def sums_model(pytestconfig: pytest.Config) -> Path:
    """Folder of a model that adds numbers, and errs now and then; trained once (20 s) and kept with pytest's cache."""
    from tests.kit.tiny_model import kept_model  # noqa: PLC0415 - few tests want it

    return kept_model(Path(pytestconfig.cache.mkdir("tiny_models")))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real benchmark rows beside the checkout; tests that need it are skipped where it is absent."""
    folder = Path(
        os.environ.get("EVALMESH_SHARED_DATA", Path(__file__).parents[1] / ".." / "shared" / "data")
    ).resolve()
    if not folder.is_dir():
        pytest.skip(f"{folder} does not exist; set EVALMESH_SHARED_DATA to the folder with the benchmark rows")
    return folder
