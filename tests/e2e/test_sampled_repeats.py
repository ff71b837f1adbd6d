"""Repeats of the simulated model: sampled ones differ, and a run of them can be had again."""

import pytest
from tests.kit.cli import evalmesh, report_in

DEMO = ["eval", "--demo", "--datasets", "starter_math", "--repeats", "3"]


def metrics(folder, *flags):
    done = evalmesh(*DEMO, *flags, "--work-dir", folder, cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    return {one["name"]: one["value"] for one in report_in(folder)["benchmarks"][0]["metrics"]}


def test_at_a_temperature_they_differ_around_the_skill_and_are_the_same_each_time(tmp_path):
    found = metrics(tmp_path / "a", "--temperature", "1")
    assert found == metrics(tmp_path / "b", "--temperature", "1")
    assert found["accuracy"] == pytest.approx(0.75, abs=0.1)
    assert found["pass^3"] < found["accuracy"] < found["pass@3"]


@pytest.mark.parametrize("flags", [(), ("--temperature", "0")])
def test_without_one_they_agree(tmp_path, flags):
    assert len(set(metrics(tmp_path / "a", *flags).values())) == 1
