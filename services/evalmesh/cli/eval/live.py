"""Progress of a run while it goes on: a live table on a terminal, plain lines elsewhere."""

import time
from collections import deque
from collections.abc import Callable

from rich.console import Console

from evalmesh.cli.live import LiveView, clock_text
from evalmesh.cli.platform.waits import waiting_notice
from evalmesh.cli.tables import Cell, Column, Grid
from evalmesh.domain.run import BenchmarkProgress, Run
from evalmesh.scoring.outcomes import OutcomeCounts

_WINDOW_S = 10.0
_BAR_CELLS = 20
_LIVE_ORDER = (1, 7, 4, 3, 6, 5, 2)
"""How soon count, in flight, errored, without answer, rate, ETA and score are left out: the highest number first."""


class Speed:
    """Requests per second over the last ten seconds."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, int]] = deque()

    def add(self, now_s: float, done: int) -> None:
        """Notes how many are done."""
        self._points.append((now_s, done))
        while len(self._points) > 2 and self._points[1][0] <= now_s - _WINDOW_S:
            self._points.popleft()

    @property
    def per_s(self) -> float | None:
        """`None` until something has been done."""
        if not self._points:
            return None
        (start_s, before), (end_s, after) = self._points[0], self._points[-1]
        return (after - before) / (end_s - start_s) if after > before and end_s > start_s else None

    def eta_s(self, left: int) -> float | None:
        """Seconds until `left` more are done."""
        return left / self.per_s if self.per_s else None


def answered(one: BenchmarkProgress) -> int:
    """Requests that need not be asked any more, whether scored yet or not."""
    return max(one.generated, one.done)


def _heading(run: Run) -> str:
    notice = waiting_notice(run)
    return f"{run.id} {run.state.value.lower()}{f': {notice}' if notice else ''}"


class RunProgress(LiveView):
    """Shows updates of one run."""

    def __init__(
        self, console: Console, *, live: bool, now: Callable[[], float] = time.monotonic, start: Run | None = None
    ) -> None:
        """Shows nothing yet. `start`: the run as it is taken up; what is answered already is not done again."""
        super().__init__(console, live=live, now=now)
        self._speeds: dict[str, Speed] = {}
        self._before = {one.name: answered(one) for one in start.benchmarks} if start is not None else {}

    def update(self, run: Run) -> None:
        """Takes in the newest state of the run."""
        now_s = self._now()
        for one in run.benchmarks:
            self._speeds.setdefault(one.name, Speed()).add(now_s, self._answered(one))
        self._show(now_s, run.state.value, lambda: self._table(run), lambda: self._lines(run))
        self._tell(run)

    def _answered(self, one: BenchmarkProgress) -> int:
        """Until a runner has found what there is, nobody tells of it."""
        return max(answered(one), self._before.get(one.name, 0))

    def _lines(self, run: Run) -> str:
        # That nothing was answered is said by why it ended.
        told = [one for one in run.benchmarks if one.total and (not run.state.terminal or self._answered(one))]
        lines = [f"  {self.line(one)}" for one in told]
        # Whoever shows the end says how it ended.
        return "\n".join(lines if run.state.terminal else [_heading(run), *lines])

    def line(self, one: BenchmarkProgress) -> str:
        """One benchmark in words."""
        parts = [
            f"{one.name}: {self._answered(one)}/{one.total} done",
            f"{one.in_flight} in flight",
            f"{one.errored} errored",
        ]
        if one.unscored:
            parts.append(f"{one.unscored} unscored")
        rate, eta = self._pace(one)
        parts += [OutcomeCounts.of(one.outcomes).words(), f"{rate}/s" if rate else "", f"ETA {eta}" if eta else ""]
        parts.append(f"score {one.value:.4f}" if one.value is not None else "")
        return ", ".join(part for part in parts if part)

    def _pace(self, one: BenchmarkProgress) -> tuple[str, str]:
        speed = self._speeds.get(one.name, Speed())
        left = one.total - self._answered(one)
        eta_s = speed.eta_s(left) if left > 0 else None
        return (f"{speed.per_s:.1f}" if speed.per_s else ""), ("" if eta_s is None else clock_text(eta_s))

    def _table(self, run: Run) -> Grid:
        """Names and counts stay whole; what has no room is left out, the bar first of all."""
        columns = [Column(""), Column("", spare=9), *(Column("", spare=place) for place in _LIVE_ORDER)]
        grid = Grid(columns, title=_heading(run))
        for one in run.benchmarks:
            rate, eta = self._pace(one)
            lost, missing = one.errored + one.unscored, OutcomeCounts.of(one.outcomes).no_answer
            grid.add(
                Cell(one.name, "bold"),
                Cell(bar(self._answered(one), one.total), "cyan"),
                f"{self._answered(one)}/{one.total}",
                Cell(f"{one.in_flight} in flight", "dim"),
                Cell(f"{lost} errored", "red" if lost else "dim"),
                Cell(f"{missing} without answer" if missing else "", "red"),
                Cell(f"{rate}/s" if rate else "", "dim"),
                Cell(f"ETA {eta}" if eta else "", "dim"),
                f"score {one.value:.4f}" if one.value is not None else "",
            )
        return grid


def bar(done: int, total: int) -> str:
    """How far it has come, as text that needs no more than a terminal of letters."""
    full = _BAR_CELLS * min(done, total) // total if total else 0
    return "━" * full + "╌" * (_BAR_CELLS - full)
