"""A real kernel, as a notebook drives it."""

from collections.abc import Iterator
from typing import Any

import pytest
from jupyter_client.manager import KernelManager, start_new_kernel

pytestmark = pytest.mark.timeout(90)

CELL = """
from evalmesh import TaskConfig, run_task
report = run_task(TaskConfig(demo=True, datasets=["starter_math"], limit=12, work_dir="."))
report
"""


@pytest.fixture
def kernel(tmp_path) -> Iterator[Any]:
    manager, client = start_new_kernel(cwd=str(tmp_path))
    assert isinstance(manager, KernelManager)
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def outputs_of(client: Any, code: str) -> list[dict[str, Any]]:
    """What a cell makes a notebook show: kind and content of each message."""
    found: list[dict[str, Any]] = []
    shown = ("display_data", "update_display_data", "execute_result", "stream", "error")

    def note(message: dict[str, Any]) -> None:
        if message["msg_type"] in shown:
            found.append({"kind": message["msg_type"], **message["content"]})

    client.execute_interactive(code, timeout=60, output_hook=note)
    return found


def test_a_cell_has_one_output_that_changes_and_a_table(kernel):
    found = outputs_of(kernel, CELL)
    kinds = [one["kind"] for one in found]
    assert kinds.count("display_data") == 1
    assert "error" not in kinds
    places = {one["transient"]["display_id"] for one in found if "display" in one["kind"]}
    assert len(places) == 1
    last = [one for one in found if one["kind"] == "update_display_data"][-1]
    assert "12/12" in last["data"]["text/plain"]
    assert "12/12" in last["data"]["text/html"]
    result = next(one for one in found if one["kind"] == "execute_result")
    assert "<td>starter_math</td>" in result["data"]["text/html"]
    assert [one for one in found if one["kind"] == "stream"] == []


def test_quiet_shows_nothing(kernel):
    found = outputs_of(kernel, CELL.replace('work_dir="."))\nreport', 'work_dir="."), quiet=True)'))
    assert found == []


def test_updates_reach_a_function(kernel):
    code = CELL.replace('work_dir="."))\nreport', 'work_dir="."), quiet=True, on_progress=seen.append)')
    found = outputs_of(kernel, f"seen = []\n{code}\nprint(seen[-1].state.value, seen[-1].benchmarks[0].done)")
    assert [one["text"] for one in found] == ["SUCCEEDED 12\n"]
