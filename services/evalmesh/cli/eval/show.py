"""What a finished run prints: the table, what has no score, where things are, what to try next."""

import os
from collections.abc import Mapping
from shlex import quote
from typing import Any

from rich.console import Console
from rich.text import Text

from evalmesh.cli.console import is_live, make_console
from evalmesh.cli.eval.evaluate import Outcome
from evalmesh.cli.eval.reuse import reuse_lines
from evalmesh.cli.eval.table import render_table
from evalmesh.domain.run import RunState

__all__ = ["is_live", "lost_lines", "make_console", "note_lines", "show_outcome"]

_SHOWN_LOST = 5


def show_outcome(console: Console, outcome: Outcome, *, work_dir: str) -> None:
    """Prints everything about a finished run."""
    run, report = outcome.run, outcome.report
    if run.state is not RunState.SUCCEEDED:
        why = f": {run.error}" if run.error else ""
        console.print(Text(f"{run.id} {run.state.value.lower()}{why}", style="bold red"))
    if report is not None:
        if report["benchmarks"]:
            console.print(render_table(report))
        if run.spec.reuse_runs or run.spec.reuse_completions:
            for line in reuse_lines(report):
                console.print(Text(line))
        for line in lost_lines(report):
            console.print(Text(line, style="yellow"))
        for line in note_lines(report):
            console.print(Text(line))
        console.print(Text(f"report   {outcome.folder / 'report.html'}"))
        console.print(Text(f"results  {outcome.folder / 'results'}"))
    console.print(Text(f"outputs  {outcome.folder}"))
    for line in _next_steps(outcome, work_dir):
        console.print(Text(line))


def lost_lines(report: Mapping[str, Any]) -> list[str]:
    """What has no score, in words: how many of each kind, and the first ones by name."""
    lines = []
    for benchmark in report["benchmarks"]:
        metric = next(m for m in benchmark["metrics"] if m["name"] == benchmark["primary_metric"])
        lost = metric["n_errored"] + metric["n_unscored"]
        if lost:
            kinds = ", ".join(f"{kind} {count}" for kind, count in benchmark["error_classes"].items())
            total = lost + metric["n_scored"]
            lines.append(f"{benchmark['name']}: {lost} of {total} requests have no score ({kinds or 'unscored'})")
            lines += [
                f"  {one['sample_id']}#{one['repeat']} {one['state']}: {one['reason'][:160]}"
                for one in benchmark["errored_samples"][:_SHOWN_LOST]
            ]
        if benchmark["n_not_run"]:
            lines.append(_not_run_line(benchmark))
    missing = report["benchmarks_not_reported"]
    return [*lines, f"not reported: {', '.join(missing)}"] if missing else lines


def _not_run_line(benchmark: Mapping[str, Any]) -> str:
    answered = benchmark.get("n_not_judged", 0)
    line = f"{benchmark['name']}: {benchmark['n_not_run'] - answered} planned requests were not run"
    return f"{line}, and {answered} that were answered are scored when the run goes on" if answered else line


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
    if outcome.report is not None and lost_lines(outcome.report) and run.spec.model.engine != "recorded":
        config = quote(str(outcome.folder / "run.yaml"))
        return [f"next     evalmesh eval -c {config} --use-cache {run.id}   # asks only what failed"]
    return [f"next     evalmesh samples {quote(str(outcome.folder))} --wrong"]
