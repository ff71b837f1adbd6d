"""A comparison as JSON, CSV, Markdown or a page."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from evalmesh.cli.eval import compare_table as tables
from evalmesh.cli.printing import as_csv, markdown
from evalmesh.domain.natural_order import by_name

FORMS = ("json", "csv", "markdown", "html")

_EFFECT_COLUMNS = (
    *("run", "benchmark", "subset", "metric", "n", "a", "b", "difference", "ci95_low", "ci95_high", "stderr"),
    *("wins", "ties", "losses", "test", "p_value", "p_corrected", "smallest", "verdict"),
    *("without_score_a", "without_score_b", "without_score_both", "bound_low", "bound_high"),
)
_FLIP_COLUMNS = (
    *("run", "benchmark", "subset", "sample_id", "target", "value_a", "value_b", "answer_a", "answer_b", "input"),
)


def pieces(
    form: str, document: dict[str, Any], flips: Iterable[dict[str, Any]] | None, *, verbose: bool
) -> Iterator[str]:
    """The text, bit by bit; flips are read as it is written. As CSV, flips that are given are the rows."""
    if form == "json":
        yield from _json_pieces(document, flips or ())
    elif form == "csv":
        names = [run["label"] for run in document["runs"]]
        rows = effect_rows(document) if flips is None else (_flip_row(one, names) for one in flips)
        yield from as_csv(rows, _EFFECT_COLUMNS if flips is None else _FLIP_COLUMNS)
    elif form == "markdown":
        for line in _markdown_lines(document, list(flips or ()), verbose=verbose):
            yield f"{line}\n"
    else:
        from evalmesh.pages.runs.compare_page import render_comparison  # noqa: PLC0415  # templates take a while

        yield render_comparison(document, list(flips or ()))


def _json_pieces(document: dict[str, Any], flips: Iterable[dict[str, Any]]) -> Iterator[str]:
    """The flips, which may be many, come last."""
    yield f'{json.dumps(document, indent=2, ensure_ascii=False)[:-2]},\n  "flips": ['
    for at, flip in enumerate(flips):
        yield f"{',' if at else ''}\n    {json.dumps(flip, ensure_ascii=False)}"
    yield "\n  ]\n}\n"


def effect_rows(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """One flat row per run, benchmark, subset (empty: the whole) and metric."""
    for comparison in document["comparisons"]:
        for benchmark in comparison["benchmarks"]:
            subsets = by_name(benchmark["subsets"]) if len(benchmark["subsets"]) > 1 else []
            for subset, part in (("", benchmark), *((one["name"], one) for one in subsets)):
                for metric in part["metrics"]:
                    low, high = metric["ci95"] or (None, None)
                    worst, best = metric["bounds"] or (None, None)
                    yield {
                        **metric,
                        "run": document["runs"][comparison["run"]]["label"],
                        "benchmark": benchmark["name"],
                        "subset": subset,
                        "metric": metric["name"],
                        "ci95_low": low,
                        "ci95_high": high,
                        "bound_low": worst,
                        "bound_high": best,
                        **{f"without_score_{side}": count for side, count in metric["left_out"].items()},
                    }


def _flip_row(flip: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    target, answer_a, answer_b = tables.flip_texts(flip)
    return {
        **{name: flip[name] for name in ("benchmark", "subset", "sample_id", "input")},
        "run": names[flip["run"]],
        "target": target,
        "answer_a": answer_a,
        "answer_b": answer_b,
        **{f"value_{side}": flip[side]["value"] for side in "ab"},
    }


def _markdown_lines(document: Mapping[str, Any], flips: Sequence[Mapping[str, Any]], *, verbose: bool) -> Iterator[str]:
    runs = document["runs"]
    letters = tables.letters(len(runs))
    for letter, run in zip(letters, runs, strict=True):
        yield f"- **{letter}** {tables.escaped(run['label'])}: {tables.escaped(tables.described(run))}"
    for comparison in document["comparisons"]:
        b = letters[comparison["run"]]
        yield ""
        for text, _ in tables.remarks(comparison):
            yield f"> {tables.escaped(text)}\n"
        yield markdown(tables.comparison_table(comparison, b, verbose=verbose))
        yield ""
        for text in tables.notes(comparison):
            yield f"{tables.escaped(text)}\n"
        if found := [one for one in flips if one["run"] == comparison["run"]]:
            yield markdown(tables.flips_table(found, b))
    if document["matrix"]:
        yield f"\n{markdown(tables.matrix_table(document))}\n"
    yield tables.family(document)
    for one in document["gates"]:
        yield f"\n**{one['outcome']}** `{one['gate']}`: {tables.gate_place(one, document)}"
