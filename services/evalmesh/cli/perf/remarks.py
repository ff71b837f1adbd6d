"""What must be known about the figures of a load test, in lines: the best levels, failures, the client, notes."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from evalmesh.cli.perf.live import errors_text
from evalmesh.cli.perf.table import failed_count
from evalmesh.cli.perf.words import milliseconds, per_second
from evalmesh.load.measure.best import left_out

Level = Mapping[str, Any]
_SHORT_OF_ASKED = 0.5
"""Output of less than this share of what was asked for is another load than that."""
_PROBE_NOTES = ("bracketing", "bisection", "once more", "the lowest load", "a lower load", "repeat ")
_URGENT = ("lost", "never sent", "doubtful", "ended early", "more than once", "cannot")
_FAINT = ("whole level", "independent", "successes", "completions", "no trend")


def search_line(search: Mapping[str, Any]) -> str:
    """The answer in words."""
    unit = " requests/s" if search["variable"] == "rate" else " in flight"
    if search["answer"] is None and _stopped_by_client(search):
        return f"search: no answer, since the load generator was the bottleneck. {search['stop_rule']}".rstrip()
    if search["answer"] is None:
        text = f"search: no {search['variable']} that was tried met the objective"
    else:
        least = "at least " if search["client_limited"] else ""
        text = f"search: the highest {search['variable']} that meets the objective is {least}{search['answer']:g}{unit}"
        ends = [value for value in search["bracket"] or () if value is not None]
        ends = ends[:1] if search["client_limited"] else ends
        text += f" ({', '.join(f'{end:g}: {_decision_at(search, end)}' for end in ends)})"
    unfinished = "; it did not come to its end" if search["state"] == "unfinished" else ""
    return f"{text}{unfinished}. {search['stop_rule']}".rstrip()


def _decision_at(search: Mapping[str, Any], load: float) -> str:
    found = next((one for one in search["evidence"] if one["value"] == load), None)
    if found is None:
        return "undecided"
    taken = "met" if found["passed"] else "missed"
    return taken if found["by"] == "interval" else f"undecided, {taken} by the estimate"


def _stopped_by_client(search: Mapping[str, Any]) -> bool:
    """Whether nothing was decided because of the load generator itself."""
    evidence = search["evidence"]
    return bool(evidence) and all(one["by"] == "client" for one in evidence)


def best_lines(perf: Mapping[str, Any]) -> list[str]:
    """The best levels, what is as good, and what is never best; empty where there was no choice."""
    best = perf["best"] or {}
    words = {"throughput": "most throughput", "goodput": "most goodput", "latency": "lowest latency"}
    if perf["search"]:
        return []  # its answer is what was asked for
    parts = [_best(words[name], best[name]) for name in words if best.get(name)]
    levels = perf["levels"]
    several = len({level["label"] for level in levels}) > 1
    lines = [f"best: {'; '.join(parts)}"] if parts else []
    return lines + [f"never best: {', '.join(out)}" for out in [left_out(levels)] if out and several]


def _best(word: str, one: Mapping[str, Any]) -> str:
    metric, value = str(one["metric"]), float(one["value"])
    text = f"{milliseconds(value)} ms" if "_ms" in metric else per_second(value)
    tied = one.get("tied") or ()
    more = f" and {len(tied) - 3} more" if len(tied) > 3 else ""
    as_good = f", no difference to {', '.join(tied[:3])}{more}" if tied else ""
    return f"{word} at {one['label']} ({metric} {text}{as_good})"


def failure_lines(level: Level) -> list[str]:
    """What failed at a level: how many of each class, and what the first one said."""
    errors = errors_text(level["errors"])
    lines = []
    if errors or level["lost"]:
        lost = f"{level['lost']:,} lost with their generator" if level["lost"] else ""
        asked = level["sent"] + level["lost"]
        said = ", ".join(part for part in (errors, lost) if part)
        lines.append(f"{level['label']}: {failed_count(level):,} of {asked:,} requests failed ({said})")
        lines += [f"  {one['class']}: {one['message'][:160]}" for one in level["error_examples"] if one["message"]][:3]
    if level["unsent"] and level["state"] != "done":
        lines.append(f"{level['label']}: {level['unsent']:,} requests were not sent, since the level ended before")
    return lines


def generator_lines(level: Level) -> list[str]:
    """Generators that were lost, or ended early."""
    lines = []
    for one in level["generators"]:
        if one["lost"]:
            why = f": {one['error']}" if one["error"] else ""
            where = f" at {one['host']}" if one["host"] else ""
            lines.append(f"{level['label']}: generator {one['seat']}{where} was lost{why}")
        elif one["error"]:
            lines.append(f"{level['label']}: ended early: {one['error']}")
    return lines


def client_lines(levels: Sequence[Level]) -> list[tuple[str, bool]]:
    """Levels whose figures are partly the client's own, and whether they are of no use; each grade in one line."""
    lines = []
    for grade in ("unusable", "noted"):
        hurt = [level for level in levels if _grade(level) == grade]
        if not hurt:
            continue
        reasons = list(dict.fromkeys(reason for level in hurt[:1] for reason in level["client"]["reasons"]))
        advice = list(dict.fromkeys(one for level in hurt for one in level["client"].get("advice", ())))
        where, why = listed([level["label"] for level in hurt]), " ".join(reasons)
        way_out = f" What helps: {'; '.join(advice)}." if advice else ""
        what = (
            "not to be used, the load generator was the bottleneck"
            if grade == "unusable"
            else "the load generator shows in these figures a little"
        )
        lines.append(
            (f"{'* ' if grade == 'unusable' else 'note: '}{where}: {what}. {why}{way_out}", grade == "unusable")
        )
    return lines


def _grade(level: Level) -> str:
    # Documents of the same schema version may have been written before there were grades.
    return str(level["client"].get("grade") or ("unusable" if level["client_limited"] else "fine"))


def output_lines(perf: Mapping[str, Any]) -> list[str]:
    """That answers were much shorter than was asked for: then the load was another one, too."""
    known = [(level, found) for level in perf["levels"] if (found := asked_output(level, perf)) is not None]
    short = [(level, got, asked) for level, (got, asked) in known if got < _SHORT_OF_ASKED * asked]
    if not short:
        return []
    _, got, asked = short[0]
    text = (
        f"answers have {got:,.0f} tokens on the mean and {asked:,.0f} were asked for: the model ended them before. "
        "--ignore-eos asks servers to go on (vLLM, SGLang, TensorRT-LLM)."
    )
    return [f"{listed([level['label'] for level, _, _ in short])}: {text}"]


def asked_output(level: Level, perf: Mapping[str, Any]) -> tuple[float, float] | None:
    """(mean output tokens, mean of what was asked for); `None` where either is unknown or nothing was asked for."""
    lengths = (perf["spec"].get("prompts") or {}).get("output_tokens")
    mean = level["output_tokens"]["mean"]
    if not lengths or lengths["kind"] == "trace" or not mean:
        return None
    asked = lengths["mean"] if lengths["kind"] in {"normal", "lognormal"} else (lengths["low"] + lengths["high"]) / 2
    return float(mean), float(asked)


def notes_of(perf: Mapping[str, Any], said: Iterable[str] = ()) -> list[str]:
    """Notes of a load test, the most important first, each once; not what was `said` before."""
    told = [*perf["notes"], *_silent_sources(perf["levels"]), *level_notes(perf["levels"])]
    known = set(said)
    told = [note for note in dict.fromkeys(told) if note.partition(": ")[2] not in known and _beyond(note, known)]
    kept = [note for note in told if not any(note in other for other in told if other != note)]
    return sorted(kept, key=_weight)


def _beyond(note: str, known: Iterable[str]) -> str:
    """What a note of several sentences says that is not known."""
    for one in known:
        note = note.replace(one, "")
    return note.strip()


def _silent_sources(levels: Sequence[Level]) -> list[str]:
    """What was asked about the server and told nothing: an address that is away, GPUs without a driver."""
    sources = [source for level in levels for source in (level["server"] or {"sources": ()})["sources"]]
    return list(dict.fromkeys(f"server metrics: {one['url']}: {one['error']}." for one in sources if one["error"]))


def _weight(note: str) -> int:
    if any(word in note for word in _URGENT):
        return 0
    return 2 if any(word in note for word in _FAINT) else 1


def level_notes(levels: Sequence[Level]) -> list[str]:
    """Notes of levels; what differs in numbers alone is said once, with the levels it is true of unless it is all."""
    where: dict[str, tuple[str, list[str]]] = {}
    for level in levels:
        for note in level["notes"]:
            # Why a search probed a load is in its evidence.
            if level["role"] != "probe" or not note.startswith(_PROBE_NOTES):
                where.setdefault(re.sub(r"\d[\d,.]*", "#", note), (note, []))[1].append(level["label"])
    whole = len(levels)
    return [note if len(labels) == whole else f"{listed(labels)}: {note}" for note, labels in where.values()]


def listed(labels: Sequence[str]) -> str:
    """`parallel 1, parallel 2, parallel 4 and 3 more`."""
    known = list(dict.fromkeys(labels))
    return ", ".join(known[:3]) + (f" and {len(known) - 3} more" if len(known) > 3 else "")
