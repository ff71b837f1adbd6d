"""What is shown of a run while it goes on."""

import io
import time
from dataclasses import replace

import pytest

from evalmesh.cli.console import SafeConsole
from evalmesh.cli.eval.live import RunProgress
from evalmesh.domain.run import BenchmarkProgress, BenchmarkSpec, ModelSpec, Run, RunSpec, RunState

SPEC = RunSpec(model=ModelSpec(name="m", url="http://h/v1"), benchmarks=(BenchmarkSpec("gsm8k"),))
RUN = Run(id="20260101-abc", spec=SPEC, state=RunState.RUNNING, create_time=1.75e9)
COUNTS = {"answered": 30, "empty": 6, "cut": 6}


def progress_of(**counts):
    one = BenchmarkProgress("gsm8k", total=100, done=42, generated=42, in_flight=8, value=0.5, **counts)
    return replace(RUN, benchmarks=(one,))


def lines_of(*runs, times=None, live=False, **settings):
    console = SafeConsole(file=io.StringIO(), **{"width": 200, **settings})
    clock = iter(times) if times else None
    with RunProgress(console, live=live, now=lambda: next(clock) if clock else time.monotonic()) as progress:
        for run in runs:
            progress.update(run)
    return console.file.getvalue()


def test_answers_that_are_missing_are_counted_while_it_goes_on():
    assert "0 errored, no answer found 12 (cut at max_tokens 6, empty 6), score" in lines_of(
        progress_of(outcomes=COUNTS)
    )
    assert "no answer" not in lines_of(progress_of(outcomes={"answered": 42}))


def test_a_state_that_is_only_passed_is_no_line():
    queued, planning = (replace(RUN, state=state) for state in (RunState.QUEUED, RunState.PLANNING))
    text = lines_of(queued, planning, progress_of(), times=[0.0, 0.2, 0.4])
    assert text.splitlines()[0] == "20260101-abc running"


def test_a_state_that_lasts_is_told():
    queued = replace(RUN, state=RunState.QUEUED)
    assert lines_of(queued, queued, times=[0.0, 0.6]) == "20260101-abc queued\n"


def test_a_state_that_lasts_is_told_although_nothing_more_is_heard():
    console = SafeConsole(file=io.StringIO(), width=80)
    with RunProgress(console, live=False, now=lambda: 0.0) as progress:
        progress.update(replace(RUN, state=RunState.QUEUED))
        assert progress._held is not None
        progress._held.join(10)
    assert console.file.getvalue() == "20260101-abc queued\n"


def test_the_last_state_is_left_to_whoever_shows_the_end():
    assert "succeeded" not in lines_of(replace(progress_of(), state=RunState.SUCCEEDED))


def test_an_end_before_the_first_answer_is_no_line_of_counts():
    nothing = BenchmarkProgress("gsm8k", total=122)
    going_on = replace(RUN, benchmarks=(nothing,))
    failed = replace(going_on, state=RunState.FAILED)
    assert lines_of(going_on, failed).count("0/122 done") == 1
    assert "122/122 done" in lines_of(replace(failed, benchmarks=(replace(nothing, done=122, errored=122),)))


def test_a_terminal_that_cannot_move_its_cursor_gets_lines():
    dumb = lines_of(progress_of(), live=True, force_terminal=True, _environ={"TERM": "dumb"})
    assert "gsm8k: 42/100 done" in dumb


@pytest.mark.parametrize("width", [40, 60, 80, 160])
def test_the_live_view_keeps_names_and_counts_whole(width):
    name = "a_benchmark_of_one_s_own"
    one = replace(progress_of(outcomes=COUNTS).benchmarks[0], name=name)
    shown = lines_of(
        replace(RUN, benchmarks=(one,)), live=True, width=width, force_terminal=True, _environ={"TERM": "xterm"}
    )
    line = next(line for line in shown.splitlines() if name in line)
    assert "42/100" in line
    assert ("12 without answer" in line) == (width >= 80)
