"""In CI a test that is skipped for a reason nobody foresaw fails the session: it protects nothing while it sleeps."""

import os
import re

import pytest

ALLOWED = (
    # The rows are not ours to redistribute, so a bare machine has none.
    re.compile(r"set EVALMESH_SHARED_DATA to the folder with the benchmark rows"),
    # Only root may mount, and not in every container.
    re.compile(r"a file system of its own cannot be mounted here"),
    # The judge of the benches is written in C; nothing that users get is.
    re.compile(r"no C compiler"),
    # No part of what users install.
    re.compile(r"no Chromium to look at pages with"),
    # Two users need somebody who may become both.
    re.compile(r"only root can act as a second user"),
    # Every release since 2025 needs a protobuf older than the one our generated code needs.
    re.compile(r"set EVALMESH_SWANLAB_PYTHON to an interpreter with swanlab"),
)
"""Reasons (searched for, not matched whole) that a skip may have in CI."""

_unexpected: list[str] = []


def pytest_sessionstart(session: pytest.Session) -> None:
    _unexpected.clear()


def pytest_collectreport(report: pytest.CollectReport) -> None:
    _look_at(report)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _look_at(report)


def _look_at(report: pytest.CollectReport | pytest.TestReport) -> None:
    # An expected failure also counts as skipped; it did run.
    if not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
    if not any(allowed.search(reason) for allowed in ALLOWED):
        _unexpected.append(f"{report.nodeid}: {reason}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    if os.environ.get("CI") and _unexpected and session.exitstatus in {pytest.ExitCode.OK, 5}:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if os.environ.get("CI") and _unexpected:
        terminalreporter.section("skipped for a reason that tests/kit/skips.py does not allow", red=True)
        for line in _unexpected:
            terminalreporter.line(line)
