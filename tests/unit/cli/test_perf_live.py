"""The view of a load test while it goes on."""

import io
from dataclasses import replace

from rich.console import Console

from evalmesh.cli.perf.live import LoadProgress, finished_line, plain_line, progress_of, sparkline
from evalmesh.cli.perf.words import level_label
from evalmesh.domain.load_test import (
    LatencyQuantiles,
    LevelStatus,
    LoadLevel,
    LoadSnapshot,
    LoadTarget,
    LoadTest,
    LoadTestSpec,
    SearchSpec,
    Stage,
)
from evalmesh.domain.state import State

LEVELS = (LoadLevel(parallel=8, number=100), LoadLevel(parallel=32, number=1000))
SPEC = LoadTestSpec(LoadTarget("http://h/v1/chat/completions", "m"), levels=LEVELS)
SECOND = LevelStatus(1, LEVELS[1], state="running", planned=1000)
TEST = LoadTest("lt-1", SPEC, State.RUNNING, 1.75e9, levels=(LevelStatus(0, LEVELS[0], state="done"), SECOND))
SNAPSHOT = LoadSnapshot(
    level_index=1,
    elapsed_s=10.0,
    window_s=5.0,
    offered_rate=20.0,
    sent_rate=19.9,
    ok_rate=19.8,
    output_token_rate=1234.0,
    in_flight=31,
    queued=2,
    sent=281,
    ok=247,
    errors={"truncated": 1, "http_500": 2},
    latencies={
        "ttft": LatencyQuantiles(51.2, 62.0, 80.4),
        "ttft_due": LatencyQuantiles(61.2, 72.0, 90.4),
        "e2e": LatencyQuantiles(680.0, 700.0, 1234.0),
    },
    client_cpu=0.34,
    client_lag_ms=1.2,
    generators=2,
    good_share=0.955,
)


def paper(**options):
    return Console(width=140, record=True, file=io.StringIO(), highlight=False, **options)


def viewed(test=TEST, snapshot=SNAPSHOT, *, styles=False):
    console = paper(force_terminal=styles)
    progress = LoadProgress(console, live=False)
    progress._note_rate(snapshot)
    console.print(progress.view(test, snapshot))
    return console.export_text(styles=styles)


def test_the_view_has_every_figure_of_the_last_seconds():
    text = viewed()
    for words in (
        "lt-1  running  level 2 of 2: parallel 32",
        "offered 20.0/s   sent 19.9/s   succeeded 19.8/s   tokens 1,234/s",
        "in flight 31   queued 2   sent 281 of 1,000   ok 247   errors: http_500 2, truncated 1",
        "within the objective 95.5%",
        "client: CPU 34%   loop lag 1.20 ms   generators 2",
        "ETA 0:30",
    ):
        assert words in text
    rows = {" ".join(line.split()) for line in text.splitlines()}
    assert {"TTFT 51.2 62.0 80.4", "TTFT from schedule 61.2 72.0 90.4", "E2E 680 700 1,234"} <= rows


def test_a_number_that_time_may_cut_short_is_the_most_there_will_be():
    level = replace(LEVELS[1], duration_s=60.0)
    test = replace(TEST, levels=(TEST.levels[0], replace(SECOND, level=level)))
    assert "sent 281 of at most 1,000   ok" in viewed(test)
    assert "281 of at most 1,000 sent, " in plain_line(test, SNAPSHOT)


def test_a_client_in_trouble_is_red():
    red = "\x1b[1;31m"
    assert red not in viewed(styles=True)
    assert f"{red}CPU 97%" in viewed(snapshot=replace(SNAPSHOT, client_cpu=0.97), styles=True)
    assert f"{red}loop lag 42.0 ms" in viewed(snapshot=replace(SNAPSHOT, client_lag_ms=42.0), styles=True)


def test_before_the_first_level_it_says_so():
    text = viewed(replace(TEST, levels=(), state=State.QUEUED), replace(SNAPSHOT, level_index=-1))
    assert "lt-1  queued  preparing" in text


def test_elsewhere_there_are_plain_lines_two_seconds_apart():
    console, now = paper(), [0.0]
    with LoadProgress(console, live=False, now=lambda: now[0]) as progress:
        for tick in range(50):
            now[0] = tick / 10
            progress.update(TEST, replace(SNAPSHOT, sent=tick))
    lines = console.export_text().splitlines()
    assert len([line for line in lines if line.startswith("lt-1 running, level 2 of 2: parallel 32, ")]) == 3
    assert len([line for line in lines if line.startswith("level 1 of 2: parallel 8: ")]) == 1, "told once"


def test_a_plain_line_has_rates_latencies_errors_and_what_is_left():
    line = plain_line(TEST, replace(SNAPSHOT, client_lag_ms=50.0))
    assert line == (
        "lt-1 running, level 2 of 2: parallel 32, 281 of 1,000 sent, offered 20.0/s, 19.9/s, 31 in flight, 2 queued, "
        "ttft p50 51.2 p90 62.0 p99 80.4 ms, e2e p50 680 p90 700 p99 1,234 ms, errors: http_500 2, truncated 1, "
        "client lag 50.0 ms, ETA 0:30"
    )


def test_what_is_left_goes_by_whichever_bound_is_sooner():
    assert progress_of(SECOND, SNAPSHOT) == (0.25, 30.0)
    timed = replace(SECOND, level=LoadLevel(parallel=32, duration_s=20.0), planned=0)
    assert progress_of(timed, SNAPSHOT) == (0.5, 10.0)
    both = replace(SECOND, level=LoadLevel(parallel=32, number=1000, duration_s=20.0))
    assert progress_of(both, SNAPSHOT) == (0.5, 10.0)
    staged = replace(SECOND, level=LoadLevel(stages=(Stage(8.0, 1, 1), Stage(12.0, 1, 5))), planned=0)
    assert progress_of(staged, SNAPSHOT) == (0.5, 10.0)
    assert progress_of(replace(SECOND, level=LoadLevel(), planned=0), SNAPSHOT) == (None, None)


def test_a_finished_level_is_one_line():
    done = replace(
        SECOND,
        state="done",
        ok=997,
        errors={"http_500": 3},
        request_rate=46.9,
        output_token_rate=3001.0,
        ttft_p50_ms=50.0,
        ttft_p99_ms=101.0,
        e2e_p99_ms=858.0,
        goodput_rate=40.0,
        meets_slo=False,
        client_limited=True,
    )
    assert finished_line(TEST, done) == (
        "level 2 of 2: parallel 32: 997 ok, errors: http_500 3, 46.9/s, 3,001 tokens/s, ttft p50 50.0 p99 101 ms, "
        "e2e p99 858 ms, goodput 40.0/s, objective missed, not to be used, limited by the client"
    )


def test_probes_of_a_search_are_called_so():
    searching = replace(TEST, spec=replace(SPEC, search=SearchSpec("parallel")))
    assert "probe 2: parallel 32" in plain_line(searching, SNAPSHOT)


def test_labels_of_levels():
    assert level_label(LoadLevel(parallel=4), "closed") == "parallel 4"
    assert level_label(LoadLevel(rate=2.5), "poisson") == "rate 2.5"
    assert level_label(LoadLevel(rate=2.5, parallel=3), "gamma") == "rate 2.5, at most 3 in flight"
    assert level_label(LoadLevel(), "trace") == "trace"
    assert level_label(LoadLevel(stages=(Stage(1, 1, 2),)), "poisson") == "stages"


def test_sparklines():
    assert sparkline([]) == ""
    assert sparkline([0.0, 0.0]) == "▁▁"
    assert sparkline([0.0, 5.0, 10.0]) == "▁▅█"
