import os
from pathlib import Path

import pytest

from tests.kit.skips import (  # noqa: F401  (hooks: being here is what makes them work)
    pytest_collectreport,
    pytest_runtest_logreport,
    pytest_sessionfinish,
    pytest_sessionstart,
    pytest_terminal_summary,
)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real benchmark rows beside the checkout; tests that need it are skipped where it is absent."""
    folder = Path(
        os.environ.get("EVALMESH_SHARED_DATA", Path(__file__).parents[1] / ".." / "shared" / "data")
    ).resolve()
    if not folder.is_dir():
        pytest.skip(f"{folder} does not exist; set EVALMESH_SHARED_DATA to the folder with the benchmark rows")
    return folder
