"""A load test while it goes on: a live view on a terminal, plain lines elsewhere."""

import time
from collections import deque
from collections.abc import Callable, Mapping

from rich.console import Console, Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from evalmesh.cli.live import LiveView, clock_text
from evalmesh.cli.perf.words import NO_FAILURES, level_label, milliseconds, per_second, state_words
from evalmesh.domain.load_test import LatencyQuantiles, LevelStatus, LoadLevel, LoadSnapshot, LoadTest

_HISTORY = 40
"""Seconds the sparkline shows."""
_BARS = "▁▂▃▄▅▆▇█"
_BAD_CPU = 0.85
_BAD_LAG_MS = 20.0
_METRICS: Mapping[str, str] = {
    "ttft": "TTFT",
    "ttft_due": "TTFT from schedule",
    "itl": "ITL",
    "e2e": "E2E",
    "e2e_due": "E2E from schedule",
    "send_lag": "send lag",
}


def sparkline(values: list[float]) -> str:
    """The values as bars, the highest one full."""
    top = max(values, default=0.0)
    if top <= 0:
        return _BARS[0] * len(values)
    return "".join(_BARS[min(len(_BARS) - 1, int(value / top * (len(_BARS) - 1) + 0.5))] for value in values)


class LoadProgress(LiveView):
    """Shows updates of one load test."""

    def __init__(self, console: Console, *, live: bool, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__(console, live=live, now=now)
        self._told: set[int] = set()
        self._rates: deque[float] = deque(maxlen=_HISTORY)
        self._seen: tuple[int, int] = (-1, -1)

    def update(self, test: LoadTest, snapshot: LoadSnapshot | None) -> None:
        """Takes in the newest state and the last seconds."""
        self._tell_finished(test)
        if snapshot is not None:
            self._note_rate(snapshot)
        self._show(self._now(), test.state.value, lambda: self.view(test, snapshot), lambda: plain_line(test, snapshot))

    def _note_rate(self, snapshot: LoadSnapshot) -> None:
        level, second = self._seen
        if snapshot.level_index != level:
            self._rates.clear()
        if (snapshot.level_index, int(snapshot.elapsed_s)) != (level, second):
            self._rates.append(snapshot.sent_rate)
            self._seen = (snapshot.level_index, int(snapshot.elapsed_s))

    def _tell_finished(self, test: LoadTest) -> None:
        for level in test.levels:
            if level.state in {"done", "failed", "cancelled"} and level.index not in self._told:
                self._told.add(level.index)
                bad = level.client_limited or level.state != "done"
                self._console.print(Text(finished_line(test, level), style="red" if bad else ""), soft_wrap=True)

    def view(self, test: LoadTest, snapshot: LoadSnapshot | None) -> Group:
        """What the terminal shows."""
        level = current_level(test, snapshot)
        heading = Text(f"{test.id}  {state_words(test)}  {position_text(test, level)}", style="bold")
        if snapshot is None or level is None or _is_between(test, level):
            return Group(heading)
        share, eta_s = progress_of(level, snapshot)
        bar = Table.grid(padding=(0, 2))
        bar.add_row(
            ProgressBar(total=1.0, completed=share or 0.0, width=32, pulse=share is None),
            Text(clock_text(snapshot.elapsed_s)),
            Text(f"ETA {clock_text(eta_s)}" if eta_s is not None else "", style="dim"),
            Text(sparkline(list(self._rates)), style="cyan"),
        )
        return Group(
            heading, bar, _rates_text(snapshot), _counts_text(level, snapshot), _latencies(snapshot), _client(snapshot)
        )


def current_level(test: LoadTest, snapshot: LoadSnapshot | None) -> LevelStatus | None:
    """The level the snapshot is about, else the one that runs."""
    if snapshot is not None:
        for level in test.levels:
            if level.index == snapshot.level_index:
                return level
    return next((level for level in test.levels if level.state == "running"), None)


def position_text(test: LoadTest, level: LevelStatus | None) -> str:
    """`level 2 of 4: parallel 32`."""
    if level is None:
        return "preparing" if not test.state.terminal else ""
    if _is_between(test, level):
        after = f"level {level.index + 1}" if test.spec.search is None else f"probe {level.index + 1}"
        pause = f"pause of {test.spec.pause_s:g} s" if test.spec.pause_s else "pause"
        return f"{pause} after {after}"
    return level_text(test, level)


def level_text(test: LoadTest, level: LevelStatus) -> str:
    """Which of how many it is, and its load."""
    label = level_label(level.level, test.spec.arrival.kind)
    if test.spec.search is not None:
        return f"probe {level.index + 1}: {label}"
    repeat = f", repeat {level.repeat + 1} of {test.spec.repeats}" if test.spec.repeats > 1 else ""
    return f"level {level.index + 1} of {len(test.spec.levels) * test.spec.repeats}: {label}{repeat}"


def _is_between(test: LoadTest, level: LevelStatus) -> bool:
    """Whether the level is over and the load test is not: nothing is sent before the next one."""
    return level.state in {"done", "failed", "cancelled"} and not test.state.terminal


def bound_s(level: LoadLevel) -> float:
    """Seconds after which nothing is sent any more; 0: none."""
    return level.duration_s or sum(stage.duration_s for stage in level.stages)


def progress_of(status: LevelStatus, snapshot: LoadSnapshot) -> tuple[float | None, float | None]:
    """(share that is done, seconds left), each `None` when nothing tells; by number, time, or whichever is sooner."""
    done = snapshot.ok + sum(snapshot.errors.values())
    planned = status.planned or status.level.number
    ends_s, shares = [], []
    if planned:
        shares.append(done / planned)
        rate = done / snapshot.elapsed_s if snapshot.elapsed_s > 0 else 0.0
        if rate > 0:
            ends_s.append(max(0.0, planned - done) / rate)
    if limit_s := bound_s(status.level):
        shares.append(snapshot.elapsed_s / limit_s)
        ends_s.append(max(0.0, limit_s - snapshot.elapsed_s))
    return min(1.0, max(shares)) if shares else None, min(ends_s, default=None)


def errors_text(errors: Mapping[str, int]) -> str:
    """`http_500 3, truncated 1`, the most frequent first; what was never sent is no failure."""
    sent = [(name, count) for name, count in errors.items() if name not in NO_FAILURES]
    ordered = sorted(sent, key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {count:,}" for name, count in ordered if count)


def _rates_text(snapshot: LoadSnapshot) -> Text:
    offered = f"offered {per_second(snapshot.offered_rate)}   " if snapshot.offered_rate else ""
    tokens = f"   tokens {per_second(snapshot.output_token_rate)}" if snapshot.output_token_rate else ""
    return Text(f"{offered}sent {per_second(snapshot.sent_rate)}   succeeded {per_second(snapshot.ok_rate)}{tokens}")


def _counts_text(level: LevelStatus, snapshot: LoadSnapshot) -> Text:
    text = Text(f"in flight {snapshot.in_flight:,}   queued {snapshot.queued:,}   ")
    text.append(f"sent {snapshot.sent:,}{_of_planned(level)}")
    text.append(f"   ok {snapshot.ok:,}")
    if failed := errors_text(snapshot.errors):
        text.append(f"   errors: {failed}", style="red")
    if snapshot.good_share is not None:
        text.append(
            f"   within the objective {snapshot.good_share:.1%}",
            style="green" if snapshot.good_share > 0.99 else "yellow",
        )
    return text


def _of_planned(level: LevelStatus) -> str:
    """` of 1,000`; ` of at most 1,000` where time may end the level before."""
    planned = level.planned or level.level.number
    most = "at most " if bound_s(level.level) else ""
    return f" of {most}{planned:,}" if planned else ""


def _latencies(snapshot: LoadSnapshot) -> Table:
    table = Table(box=None, padding=(0, 2), pad_edge=False, header_style="dim")
    table.add_column(f"last {snapshot.window_s:.0f} s, ms", style="dim")
    for name in ("p50", "p90", "p99"):
        table.add_column(name, justify="right")
    for metric, title in _METRICS.items():
        if found := snapshot.latencies.get(metric):
            table.add_row(title, *map(milliseconds, (found.p50_ms, found.p90_ms, found.p99_ms)))
    return table


def _client(snapshot: LoadSnapshot) -> Text:
    text = Text()
    text.append("client: ", style="dim")
    text.append(f"CPU {snapshot.client_cpu:.0%}", style="bold red" if snapshot.client_cpu > _BAD_CPU else "")
    text.append("   ")
    text.append(
        f"loop lag {milliseconds(snapshot.client_lag_ms)} ms",
        style="bold red" if snapshot.client_lag_ms > _BAD_LAG_MS else "",
    )
    text.append(f"   generators {snapshot.generators}")
    return text


def plain_line(test: LoadTest, snapshot: LoadSnapshot | None) -> str:
    """One line for a log."""
    level = current_level(test, snapshot)
    head = f"{test.id} {state_words(test)}"
    if level is None:
        return head
    if snapshot is None or _is_between(test, level):
        return f"{head}, {position_text(test, level)}"
    parts = [
        f"{head}, {position_text(test, level)}",
        f"{snapshot.sent:,}{_of_planned(level)} sent",
        f"offered {per_second(snapshot.offered_rate)}" if snapshot.offered_rate else "",
        per_second(snapshot.sent_rate),
        f"{snapshot.in_flight:,} in flight",
        f"{snapshot.queued:,} queued" if snapshot.queued else "",
    ]
    measured = ((metric, snapshot.latencies.get(metric)) for metric in ("ttft", "itl", "e2e"))
    parts += [f"{metric} {_quantiles(found)}" for metric, found in measured if found]
    failed = errors_text(snapshot.errors)
    _, eta_s = progress_of(level, snapshot)
    parts += [
        f"errors: {failed}" if failed else "",
        f"client CPU {snapshot.client_cpu:.0%}" if snapshot.client_cpu > _BAD_CPU else "",
        f"client lag {milliseconds(snapshot.client_lag_ms)} ms" if snapshot.client_lag_ms > _BAD_LAG_MS else "",
        f"ETA {clock_text(eta_s)}" if eta_s is not None else "",
    ]
    return ", ".join(part for part in parts if part)


def _quantiles(found: LatencyQuantiles) -> str:
    p50, p90, p99 = map(milliseconds, (found.p50_ms, found.p90_ms, found.p99_ms))
    return f"p50 {p50} p90 {p90} p99 {p99} ms"


def _objective_word(level: LevelStatus) -> str:
    return "undecided" if level.meets_slo is None else "met" if level.meets_slo else "missed"


def finished_line(test: LoadTest, level: LevelStatus) -> str:
    """What became of a level."""
    failed = errors_text(level.errors)
    figures = (
        (f"{level.ok:,} ok", True),
        (f"errors: {failed}", bool(failed)),
        (per_second(level.request_rate or 0.0), level.request_rate is not None),
        (f"{level.output_token_rate or 0.0:,.0f} tokens/s", bool(level.output_token_rate)),
        (
            f"ttft p50 {milliseconds(level.ttft_p50_ms)} p99 {milliseconds(level.ttft_p99_ms)} ms",
            level.ttft_p50_ms is not None,
        ),
        (f"e2e p99 {milliseconds(level.e2e_p99_ms)} ms", level.e2e_p99_ms is not None),
        (f"goodput {per_second(level.goodput_rate or 0.0)}", level.goodput_rate is not None),
        (f"objective {_objective_word(level)}", bool(test.spec.slo) or level.meets_slo is not None),
        ("not to be used, limited by the client", level.client_limited),
        (level.state, level.state != "done"),
        (level.note, bool(level.note) and level.state != "done"),
    )
    return f"{level_text(test, level)}: " + ", ".join(text for text, shown in figures if shown)
