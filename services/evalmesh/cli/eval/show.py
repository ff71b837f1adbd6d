"""What a finished run prints: the table, what must be read with it, where things are, what to try next."""

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from shlex import quote
from textwrap import shorten
from typing import Any

from rich.text import Text

from evalmesh.cli.console import SafeConsole, is_live, make_console, one_place
from evalmesh.cli.eval.costs import cost_line
from evalmesh.cli.eval.outcome import Outcome, reuse_lines
from evalmesh.cli.eval.table import heading, remarks, render_table, warnings
from evalmesh.cli.printable import one_line
from evalmesh.domain.run import RunState

__all__ = ["is_live", "lost_lines", "make_console", "note_lines", "show_outcome", "show_report"]

_SHOWN_MESSAGES = 3
_SHOWN_IDS = 3
_MESSAGE_CHARS = 400
_MALFORMED = "malformed_row"
_MALFORMED_ROW = re.compile(r"malformed row: (?:(?P<file>.{1,300}?: )(?P<line>line \d+): )?(?P<rest>.*)")


def show_outcome(console: SafeConsole, outcome: Outcome, *, work_dir: str, prices: Sequence[float] = ()) -> None:
    """Prints everything about a finished run; `prices` are those of a million input and output tokens."""
    run, report = outcome.run, outcome.report
    if run.state is not RunState.SUCCEEDED:
        why = f": {run.error}" if run.error else ""
        console.say(f"{run.id} {run.state.value.lower()}{why}", "bold red")
    if report is not None:
        show_report(console, report)
        if run.spec.reuse_runs or run.spec.reuse_completions:
            for line in reuse_lines(report):
                console.say(line)
        if not one_place():
            for line in warnings(report):  # a table in a file warns nobody who looks at the terminal
                make_console(stderr=True).say(f"warning: {line}", "bold red")
        if line := cost_line(report, prices):
            console.print(Text(line), soft_wrap=True)
        console.print(Text(f"report   {outcome.folder / 'report.html'}"), soft_wrap=True)
        console.print(Text(f"results  {outcome.folder / 'results'}"), soft_wrap=True)
    console.print(Text(f"outputs  {outcome.folder}"), soft_wrap=True)
    for line in _next_steps(outcome, work_dir):
        console.print(Text(line), soft_wrap=True)


def show_report(console: SafeConsole, report: Mapping[str, Any], *, verbose: bool = False) -> None:
    """The table with its heading, and the lines below it."""
    if report["benchmarks"]:
        console.print(Text(heading(report), style="bold"), soft_wrap=True)
        render_table(report, verbose=verbose).print_to(console)
    for line in remarks(report, verbose=verbose):
        console.say(line, "yellow")
    for line in warnings(report):
        console.say(f"warning: {line}", "bold red")
    for line in lost_lines(report):
        console.say(line, "yellow")
    for line in note_lines(report):
        console.say(line)


def lost_lines(report: Mapping[str, Any]) -> list[str]:
    """What has no score, in words: how many of each kind, each message once, and the first ones by name."""
    lines = []
    for benchmark in report["benchmarks"]:
        metric = next(m for m in benchmark["metrics"] if m["name"] == benchmark["primary_metric"])
        lost = metric["n_errored"] + metric["n_unscored"]
        if lost:
            lines.append(f"{benchmark['name']}: {lost:,} of {lost + metric['n_scored']:,} requests have no score")
            lines += _by_class(benchmark, metric["n_unscored"])
        if benchmark["n_not_run"]:
            lines.append(_not_run_line(benchmark))
    missing = report["benchmarks_not_reported"]
    return [*lines, f"not reported: {', '.join(missing)}"] if missing else lines


def _not_run_line(benchmark: Mapping[str, Any]) -> str:
    answered = benchmark.get("n_not_judged", 0)
    line = f"{benchmark['name']}: {benchmark['n_not_run'] - answered:,} planned requests were not run"
    return f"{line}, and {answered:,} that were answered are scored when the run goes on" if answered else line


def _by_class(benchmark: Mapping[str, Any], n_unscored: int) -> list[str]:
    counts = Counter(benchmark["error_classes"]) + Counter({"unscored": n_unscored})
    named: dict[str, list[Mapping[str, Any]]] = {}
    for one in benchmark["errored_samples"]:
        named.setdefault(_class_of(one), []).append(one)
    lines = []
    for kind, count in counts.most_common():
        groups = _alike(named.get(kind, ()), kind)
        first, *others = groups or [("", [])]
        message, ids = first
        rows = count // benchmark.get("repeats", 1) if kind == _MALFORMED else count
        told = _ids(ids, len(ids) if others else rows)
        lines.append(f"  {kind} {count:,}{f': {message}' if message else ''}{told}")
        lines += [f"    also: {message}{_ids(ids, len(ids))}" for message, ids in others[: _SHOWN_MESSAGES - 1]]
        if len(others) >= _SHOWN_MESSAGES:
            lines.append(f"    and {len(others) - _SHOWN_MESSAGES + 1} other messages")
    return lines


def _class_of(one: Mapping[str, Any]) -> str:
    if one["state"] == "unscored":
        return "unscored"
    kind = str(one["reason"]).partition(":")[0]
    return _MALFORMED if kind == "malformed row" else kind


def _alike(samples: Sequence[Mapping[str, Any]], kind: str) -> list[tuple[str, list[str]]]:
    """(message, ids) of those whose messages differ in numbers at most, the most frequent first.

    Rows of a file are named by their lines.
    """
    groups: dict[str, tuple[str, list[str]]] = {}
    for one in samples:
        reason = one_line(str(one["reason"]))
        message, name = reason.removeprefix(f"{kind}: "), f"{one['sample_id']}#{one['repeat']}"
        if where := one.get("where"):
            name += f" at {where}"
        if (row := _MALFORMED_ROW.fullmatch(reason)) is not None:
            message = row["file"] + row["rest"] if row["line"] else row["rest"]
            name = row["line"] or name
        _, names = groups.setdefault(re.sub(r"\d+", "0", message), (shorten(message, _MESSAGE_CHARS), []))
        if name not in names:
            names.append(name)
    return sorted(groups.values(), key=lambda group: -len(group[1]))


def _ids(ids: Sequence[str], count: int) -> str:
    if not ids:
        return ""
    more = max(count, len(ids)) - min(len(ids), _SHOWN_IDS)
    return f" ({', '.join(ids[:_SHOWN_IDS])}{f' and {more:,} more' if more else ''})"


def note_lines(report: Mapping[str, Any]) -> list[str]:
    """What was guessed of the user's own files."""
    return [f"{one['name']}: {note}" for one in report["benchmarks"] for note in one.get("notes", ())]


def _next_steps(outcome: Outcome, work_dir: str) -> list[str]:
    run = outcome.run
    place = "" if os.path.normpath(work_dir) == "outputs" else f" --work-dir {quote(work_dir)}"
    if run.state is not RunState.SUCCEEDED:
        return [f"next     evalmesh runs resume {run.id}{place}"]
    if run.spec.labels.get("simulated") == "true":
        return [
            "",
            "This model is simulated: the scores say nothing about any real model. With yours:",
            "  evalmesh eval --model MODEL --api-url http://127.0.0.1:8000/v1 --datasets gsm8k --limit 5",
        ]
    config = quote(str(outcome.folder / "run.yaml"))
    lost = lost_lines(outcome.report) if outcome.report is not None else []
    if lost and run.spec.model.engine != "recorded":
        if _only_malformed(outcome.report or {}):
            return [f"next     evalmesh eval -c {config}   # once the malformed rows are mended"]
        return [f"next     evalmesh eval -c {config} --use-cache {run.id}   # asks only what failed"]
    wrong = "" if _all_right(outcome.report or {"benchmarks": ()}) else " --wrong"
    return [f"next     evalmesh samples {quote(str(outcome.folder))}{wrong}"]


def _all_right(report: Mapping[str, Any]) -> bool:
    """Whether every answer has full marks: there is no wrong one to look at."""
    names = ((one["primary_metric"], one["metrics"]) for one in report["benchmarks"])
    return all(metric["value"] == 1.0 for primary, metrics in names for metric in metrics if metric["name"] == primary)


def _only_malformed(report: Mapping[str, Any]) -> bool:
    """Whether what has no score are rows of the data: asking again cannot mend them."""
    kinds = {kind for benchmark in report["benchmarks"] for kind in benchmark["error_classes"]}
    unscored = sum(metric["n_unscored"] for benchmark in report["benchmarks"] for metric in benchmark["metrics"])
    whole = not report["benchmarks_not_reported"] and not any(one["n_not_run"] for one in report["benchmarks"])
    return kinds == {_MALFORMED} and not unscored and whole
