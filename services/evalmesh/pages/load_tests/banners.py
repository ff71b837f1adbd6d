"""What a reader of a load test's report must know before any number."""

from collections.abc import Mapping, Sequence
from typing import Any

Banner = tuple[str, str, str]
"""Level (`bad`, `warn`, `info`), headline, explanation."""

_STATES = {
    "FAILED": ("bad", "This load test failed.", "The figures cover what was measured before."),
    "CANCELLED": ("warn", "This load test was cancelled.", "The figures cover what was measured before."),
    "CANCELLING": ("warn", "This load test is being cancelled.", "The figures cover what was measured before."),
}
_UNFINISHED = ("warn", "This load test is not finished.", "The figures cover what was measured so far.")
_WEIGHTS = ("bad", "warn", "info")
_REASONS = 2
_NAMED = 4
"""Levels that a banner names; more are counted."""


def banners(perf: Mapping[str, Any]) -> list[Banner]:
    """In order of weight."""
    found = [
        *_state(perf["load_test"]),
        *_limited(perf["levels"]),
        *_noted(perf["levels"]),
        *_lost(perf["levels"]),
        *_search(perf["search"]),
        *_errors(perf["levels"]),
        *_windows(perf["levels"]),
        *_tokens(perf["levels"]),
    ]
    found += [("info", note, "") for note in perf["notes"]]
    if perf["load_test"]["labels"].get("simulated") == "true":
        text = "The answers come from evalmesh's model simulator. The figures say nothing about a real server."
        found.append(("info", "This model is simulated.", text))
    return sorted(found, key=lambda banner: _WEIGHTS.index(banner[0]))


def _state(test: Mapping[str, Any]) -> list[Banner]:
    if test["state"] == "SUCCEEDED":
        return []
    level, headline, text = _STATES.get(test["state"], _UNFINISHED)
    return [(level, headline, f"{text} {test['error']}".strip())]


def _limited(levels: Sequence[Mapping[str, Any]]) -> list[Banner]:
    limited = [level for level in levels if level["client_limited"]]
    if not limited:
        return []
    reasons = list(dict.fromkeys(reason for level in limited for reason in level["client"]["reasons"]))
    more = f" {len(reasons) - _REASONS} more reasons are told level by level." if len(reasons) > _REASONS else ""
    why = " ".join(reasons[:_REASONS]) + more
    advice = list(dict.fromkeys(one for level in limited for one in level["client"].get("advice", ())))
    way_out = f" What helps: {'; '.join(advice)}." if advice else ""
    text = f"The figures of {_names(limited)} describe the load generator, not the server. {why}{way_out}"
    return [("bad", "Not to be used: the client was the bottleneck.", text)]


def _noted(levels: Sequence[Mapping[str, Any]]) -> list[Banner]:
    noted = [level for level in levels if level["client"].get("grade") == "noted"]
    if not noted:
        return []
    reasons = list(dict.fromkeys(reason for level in noted for reason in level["client"]["reasons"]))
    text = f"{_names(noted)}: {' '.join(reasons[:_REASONS])}"
    return [("info", "The load generator shows in some figures a little.", text)]


def _lost(levels: Sequence[Mapping[str, Any]]) -> list[Banner]:
    hurt = [level for level in levels if level["lost"] or any(one["lost"] for one in level["generators"])]
    if not hurt:
        return []
    count = sum(level["lost"] for level in hurt)
    seats = sorted({one["seat"] for level in hurt for one in level["generators"] if one["lost"]})
    who = f"Lost: seat {', '.join(map(str, seats))}." if seats else ""
    text = f"{count:,} requests of {_names(hurt)} are unaccounted for; the figures are those of the others. {who}"
    return [("bad", "A generator was lost.", text.strip())]


def _search(search: Mapping[str, Any] | None) -> list[Banner]:
    if search is None:
        return []
    unit = "requests/s" if search["variable"] == "rate" else "in flight"
    known = "none" if search["answer"] is None else f"{search['answer']:g} {unit}"
    if search["state"] == "none":
        headline = "No load that was tried meets the objective."
    elif search["state"] == "unfinished":
        headline = f"The search did not finish. Highest load known to meet the objective: {known}."
    else:
        at_least = "at least " if search["client_limited"] else ""
        headline = f"Highest load that meets the objective: {at_least}{known}."
    sure = {
        "interval": "Both ends are decided.",
        "estimate": "An end of the bracket is undecided, and taken by its estimate.",
    }
    # Where the load generator was the bottleneck from the beginning nothing was decided.
    decided = "" if search["answer"] is None and search["client_limited"] else sure[search["by"]]
    text = " ".join(part for part in (decided, search["stop_rule"], search["note"]) if part)
    return [("info" if search["state"] == "found" else "warn", headline, text)]


def _errors(levels: Sequence[Mapping[str, Any]]) -> list[Banner]:
    failed = sum(sum(level["errors"].values()) - level["cancelled"] for level in levels)
    sent = sum(level["sent"] - level["cancelled"] for level in levels)
    if not failed:
        return []
    share = 100 * failed / max(1, sent)
    text = "Latencies are those of successes; every failure is counted by class below."
    level = "bad" if failed > sent / 2 else "warn"
    return [(level, f"{failed:,} of {sent:,} requests failed ({share:.3g}%).", text)]


def _windows(levels: Sequence[Mapping[str, Any]]) -> list[Banner]:
    unsteady = [level for level in levels if level["window"]["steady"] is False]
    if not unsteady:
        return []
    text = f"The figures of {_names(unsteady)} depend on how long was measured: load and latency were still changing."
    return [("warn", "No steady state was reached.", text)]


def _tokens(levels: Sequence[Mapping[str, Any]]) -> list[Banner]:
    doubtful = sum(level["token_mismatches"] for level in levels)
    if not doubtful:
        return []
    text = "The server's usage contradicts what was streamed: its token rates are doubtful."
    return [("warn", f"Token counts of {doubtful:,} requests are doubtful.", text)]


def _names(levels: Sequence[Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(level["label"] for level in levels))
    if len(names) <= _NAMED:
        return ", ".join(names)
    return f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} more"
