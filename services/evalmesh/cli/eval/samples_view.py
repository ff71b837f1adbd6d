"""Sample results as a table, as lines for programs, and one of them whole."""

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import IO, Any

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from evalmesh.cli.console import make_console
from evalmesh.cli.printable import one_line, printable
from evalmesh.domain.result_query import GRADES
from evalmesh.results.row_text import turns_of
from evalmesh.results.table import SCORE_PREFIX

Row = dict[str, Any]

_HEADINGS = ("Sample", "Grade", "Answer", "Target", "Question, or why there is no score")
_STYLES = {"right": "green", "wrong": "red", "no_answer": "magenta", "errored": "bold red", "unscored": "yellow"}
_SHORT = 18
"""Cells of an answer and of a target."""
_LEAST_REST = 20
_AT_ONCE = 500
_LONGEST_CELL = 300
"""Characters that are looked at for a cell of a table."""


def grade_words(grade: str) -> str:
    """As people say it."""
    return grade.replace("_", " ")


def request_id(row: Mapping[str, Any]) -> str:
    """As lists of errors name it: the sample, and which of its repeats where it is not the first."""
    return f"{row['sample_id']}#{row['repeat']}" if row["repeat"] else str(row["sample_id"])


def counted(counts: Mapping[str, int]) -> str:
    """`132 rows: 92 right, 40 wrong`."""
    kinds = [grade for grade in (*GRADES, "scored") if counts.get(grade)]
    parts = ", ".join(f"{counts[grade]:,} {grade_words(grade)}" for grade in kinds)
    return f"{sum(counts.values()):,} rows{f': {parts}' if parts else ''}"


def print_table(name: str, rows: Iterator[Row], counts: Mapping[str, int], grades: Sequence[str]) -> None:
    """One line a row, in the width there is; ids are whole however long they are."""
    console = make_console()
    matching = sum(count for grade, count in counts.items() if not grades or grade in grades)
    console.print(Text(f"{name}  {counted(counts)}", style="bold"), soft_wrap=True)
    shown = 0
    while some := list(islice(rows, _AT_ONCE)):
        cells = [_cells(row) for row in some]
        widths = _widths(cells, console.width)
        for values in [*([] if shown else [_HEADINGS]), *cells]:
            console.print(_line(values, widths), soft_wrap=True)
        shown += len(some)
    if shown < matching:
        console.print(Text(f"{matching - shown:,} more; --limit 0 shows all", style="dim"), soft_wrap=True)
    elif not shown:
        console.print(Text("  none of them fits", style="dim"))


def _cells(row: Row) -> tuple[str, ...]:
    said = row["reason"] or row["error_message"] if row["state"] != "scored" else _question(row)
    return (
        one_line(request_id(row)),
        grade_words(row["grade"]),
        _short(row["answer"]),
        _short(" | ".join(row["target"] or ())),
        _short(said),
    )


def _question(row: Mapping[str, Any]) -> str:
    return row["input"] or turns_of(row["prompt"] or "")[-1][1]


def _short(text: str | None) -> str:
    return one_line((text or "")[:_LONGEST_CELL])


def _widths(cells: Sequence[Sequence[str]], width: int) -> list[int]:
    """Of all columns but the last, which takes what is left."""
    widest = [max(map(cell_len, column)) for column in zip(_HEADINGS, *cells, strict=True)]
    return [widest[0], widest[1], min(widest[2], _SHORT), min(widest[3], _SHORT), max(width, 40)]


def _line(values: Sequence[str], widths: Sequence[int]) -> Text:
    line = Text(values[0])
    head, width = widths[0], widths[-1]
    if head + sum(widths[1:4]) + 8 + _LEAST_REST > width:  # ids so long that they get a line of their own
        line.append("\n")
        head = 0
    else:
        line.append(" " * (head - cell_len(values[0]) + 2))
        head += 2
    for value, room in zip(values[1:4], widths[1:4], strict=True):
        line.append(_fitted(value, room, fill=True) + "  ", _STYLES.get(value.replace(" ", "_"), ""))
        head += room + 2
    line.append(_fitted(values[4], width - head))
    if values == _HEADINGS:
        line.stylize("dim")
    return line


def _fitted(text: str, room: int, *, fill: bool = False) -> str:
    if cell_len(text) > room:
        return set_cell_size(text, max(room - 1, 0)) + "…"
    return set_cell_size(text, room) if fill else text


# For programs


def _write_jsonl(rows: Iterator[Row], out: IO[str]) -> None:
    for row in rows:
        out.write(printable(json.dumps(_finite(row), ensure_ascii=False)) + "\n")


def _finite(row: Row) -> Row:
    return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in row.items()}


def _write_csv(rows: Iterator[Row], out: IO[str]) -> None:
    writer, columns = csv.writer(out, lineterminator="\n"), list[str]()
    for row in rows:
        if not columns:
            columns = list(row)
            writer.writerow(columns)
        writer.writerow([_cell(row.get(name)) for name in columns])


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value)
    return printable(json.dumps(value, ensure_ascii=False)) if isinstance(value, list | dict) else value


def _write_markdown(rows: Iterator[Row], out: IO[str]) -> None:
    heads: Sequence[str] = ()
    for row in rows:
        usual = "sample_id" in row and "grade" in row and "prompt" in row
        if not heads:
            heads = _HEADINGS if usual else tuple(row)
            out.write(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}\n")
        values = (
            _cells(row) if usual else [_short(str(_cell(value))) if value is not None else "" for value in row.values()]
        )
        out.write(f"| {' | '.join(_in_markdown(value) for value in values)} |\n")


def _in_markdown(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _write_columns(rows: Iterator[Row], out: IO[str]) -> None:
    """The columns that were asked for, a tab between them."""
    for row in rows:
        out.write("\t".join("" if value is None else one_line(str(_cell(value))) for value in row.values()) + "\n")


WRITERS: Mapping[str, Callable[[Iterator[Row], IO[str]], None]] = {
    "jsonl": _write_jsonl,
    "csv": _write_csv,
    "md": _write_markdown,
    "table": _write_columns,
}

# One of them whole


def print_whole(row: Row) -> None:
    """Everything that is known of a request, its texts in full."""
    console = make_console()
    title = Text(f"{one_line(request_id(row))}  ", style="bold")
    title.append(grade_words(row["grade"]), _STYLES.get(row["grade"], ""))
    console.print(
        title, Text(f"{row['benchmark']}, subset {one_line(row['subset'])}, run {row['run']}"), soft_wrap=True
    )
    for label, value in facts_of(row):
        console.print(Text.assemble((f"{label:<12}", "dim"), printable(value)), soft_wrap=True)
    for label, text in texts_of(row):
        rule = f"── {one_line(label)} "
        console.print(Text(f"\n{rule}{'─' * max(2, min(console.width, 80) - cell_len(rule))}", style="bold"))
        console.print(Text(printable(text)), soft_wrap=True)
    console.print()


def whole_markdown(row: Row) -> str:
    """The same as a document."""
    lines = [f"## {_in_markdown(one_line(request_id(row)))}: {grade_words(row['grade'])}\n"]
    lines += [f"- {label}: {_in_markdown(one_line(value))}" for label, value in facts_of(row)]
    for label, text in texts_of(row):
        fence = "```"
        while fence in text:
            fence += "`"
        lines.append(f"\n### {_in_markdown(one_line(label))}\n\n{fence}\n{printable(text)}\n{fence}")
    return "\n".join(lines) + "\n\n"


def facts_of(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is short: how it was read and judged, usage and times."""
    scores = [f"{name.removeprefix(SCORE_PREFIX)} {value:g}" for name, value in row.items() if _is_score(name, value)]
    rule = f"   (rule {row['extractor']})" if row["extractor"] else ""
    scored = row["state"] == "scored"
    facts = {
        "score": ", ".join(scores),
        "answer": f"{row['answer']}{rule}" if row["answer"] else ("none was found" if scored else ""),
        "target": " | ".join(row["target"] or ()),
        "outcome": str(row.get("outcome") or ""),
        "explanation": row["explanation"],
        "reason": row["reason"],
        "error": " ".join(str(row[name]) for name in ("error_class", "http_status", "error_message") if row[name]),
        "refusal": row["refusal"],
        "finish": row["finish_reason"],
        "tokens": _joined((row["input_tokens"], "in"), (row["output_tokens"], "out")),
        "time": _times(row),
        "tries": str(row["tries"]) if (row["tries"] or 1) > 1 else "",
        "reused from": row["reused_from"],
        "other scores": row["other_scores"],
        "metadata": row["metadata"] if row["metadata"] != "{}" else "",
        "reference": row["reference"],
        "tags": ", ".join(row["tags"] or ()),
        "group": row["group"],
        "continuation": _continuations(row),
        "row": str(row["index"]),
        "digest": row["digest"],
    }
    return [(label, value) for label, value in facts.items() if value]


def _is_score(name: str, value: Any) -> bool:
    return name.startswith(SCORE_PREFIX) and value is not None


def _joined(*counts: tuple[int | None, str]) -> str:
    return ", ".join(f"{count:,} {word}" for count, word in counts if count is not None)


def _times(row: Mapping[str, Any]) -> str:
    if row["latency_s"] is None:
        return ""
    first = f", first token after {row['ttft_s']:.3f} s" if row["ttft_s"] is not None else ""
    begun = (
        f", sent {datetime.fromtimestamp(row['start_time'], UTC):%Y-%m-%d %H:%M:%S} UTC" if row["start_time"] else ""
    )
    return f"{row['latency_s']:.3f} s{first}{begun}"


def _continuations(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{one['text']!r} {one['logprob']:.4f}" for one in row["continuations"] or ())


def texts_of(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is long: the prompt turn by turn, and what came back."""
    said = [*turns_of(row["prompt"] or ""), *turns_of(row.get("turns") or "")]
    texts = [(role or "prompt", text) for role, text in said]
    if row["reasoning"]:
        texts.append(("reasoning", row["reasoning"]))
    if row["completion"] is not None:
        texts.append(("completion", row["completion"] or "(empty)"))
    return [*texts, *((name, row[name]) for name in ("tool_calls", "media") if row[name])]
