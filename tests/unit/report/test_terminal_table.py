import io
from dataclasses import replace

import pytest
from rich.cells import cell_len
from tests.unit.report.builders import make_benchmark, make_many_subsets, make_metric, make_run

from evalmesh.cli.console import SafeConsole
from evalmesh.cli.eval.show import lost_lines, show_report
from evalmesh.domain.metric import ErroredSample, LimitWarning, SubsetReport
from evalmesh.domain.run import ModelSpec


def shown(report, width=160, **options):
    console = SafeConsole(file=io.StringIO(), width=width)
    show_report(console, report, **options)
    return console.file.getvalue()


def test_a_row_has_score_error_interval_and_denominators(build):
    text = shown(build(make_benchmark(metrics=(make_metric(value=0.85, n=100, errored=2, unscored=1),))))
    line = next(line for line in text.splitlines() if line.startswith("gsm8k"))
    assert " ".join(line.split()) == "gsm8k main acc 0.8500 ± 0.0357 0.780 to 0.920 100 3"
    assert text.splitlines()[0].startswith("qwen-plus  run r-20260225-abc  2026-02-25 ")


def test_few_subsets_are_shown_and_many_only_when_asked(build):
    few = make_benchmark("arc", subsets=tuple(SubsetReport(name, (make_metric(),)) for name in ("Easy", "Challenge")))
    assert "Challenge" in shown(build(few))
    many = build(make_many_subsets(count=57))
    assert "subject_number_01" not in shown(many)
    assert "all STEM" in shown(many)
    assert "subject_number_01" in shown(many, verbose=True)


def test_nothing_scored_and_simulated_are_said(build):
    run = make_run(spec={"labels": {"simulated": "true"}})
    text = shown(build(make_benchmark(metrics=(make_metric(value=None, errored=5),)), run=run))
    assert "no score" in text
    assert "(simulated)" in text


def test_square_brackets_in_names_are_text(build):
    assert "[red]x[/]" in shown(build(make_benchmark("[red]x[/]")))


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_names_and_numbers_stay_whole_in_any_width(build, width):
    text = shown(build(make_many_subsets(count=9)), width=width, verbose=True)
    table = [line for line in text.splitlines() if " ± 0" in line]
    assert len(table) == 1 + 4 + 9
    assert sum(f"subject_number_{index:02}" in line for index in range(9) for line in table) == 9
    assert any("subject_number_07_with_a_very_long_name_indeed" in line for line in table)
    assert all(len(line) <= max(width, 62) for line in table)  # the longest name and its score need 62


def test_columns_are_left_out_in_their_order_and_said(build):
    report = build(make_benchmark())
    wide, narrow, narrower = (shown(report, width=width) for width in (66, 65, 50))
    assert "no room" not in wide
    assert "no room for: Errored (0)" in narrow
    assert "no room for: Metric (acc), n (100), Errored (0)" in narrower
    assert all("0.8500 ± 0.0357" in text and "0.780 to 0.920" in text for text in (wide, narrow, narrower))


def test_a_long_model_name_costs_one_line(build):
    model = ModelSpec(name="m" * 64, url="http://h/v1")
    text = shown(build(make_benchmark(), run=make_run(spec={"model": model})), width=80)
    assert text.count("m" * 64) == 1
    assert "no room" not in text


def test_wide_letters_are_counted_as_the_terminal_does(build):
    subsets = tuple(SubsetReport(name, (make_metric(),)) for name in ("历史", "Geschichte"))
    lines = shown(build(make_benchmark("中文基准", subsets=subsets)), width=80).splitlines()
    ends = {cell_len(line[: line.index(" ±")]) for line in lines if " ± 0" in line}
    assert len(ends) == 1


def test_generations_are_apart_from_samples_and_equal_metrics_are_one_row(build):
    agreeing = [replace(make_metric(name, n=6), n_samples=3) for name in ("acc", "pass@2", "pass^2")]
    text = shown(build(make_benchmark(repeats=2, metrics=tuple(agreeing), subsets=())))
    assert text.count(" ± 0") == 1
    assert "Generations" in text
    assert "3           6" in text
    assert "gsm8k: pass@2, pass^2 the same as acc: all repeats agree" in text
    assert "pass^2" in shown(build(make_benchmark(repeats=2, metrics=tuple(agreeing), subsets=())), verbose=True)
    other = [*agreeing[:2], replace(agreeing[2], value=0.7)]
    text = shown(build(make_benchmark(repeats=2, metrics=tuple(other), subsets=())))
    assert "pass@2 the same as acc\n" in text
    assert text.count(" ± 0") == 2


def test_hidden_subsets_are_said(build):
    report = build(make_many_subsets(count=57))
    assert "mmlu: 57 subsets: evalmesh report RUN --verbose" in shown(report)
    assert "57 subsets" not in shown(report, verbose=True)


def test_answers_that_are_missing_and_what_that_means_are_told(build):
    warning = LimitWarning(12, 2 / 3, (0.1, 0.7), "67% of the answers were empty")
    outcomes = {"answered": 6, "empty": 6, "cut": 6}
    text = shown(build(make_benchmark(outcomes=outcomes, warning=warning)))
    assert "gsm8k: no answer found 12 (cut at max_tokens 6, empty 6)" in text
    assert "warning: gsm8k: 67% of the answers were empty" in text
    assert "no answer" not in shown(build(make_benchmark(outcomes={"answered": 6})))
    parts = [SubsetReport(name, (make_metric(),), outcomes={"answered": 3, "empty": n}) for n, name in enumerate("ab")]
    report = build(make_benchmark(outcomes={"answered": 6, "empty": 1}, subsets=tuple(parts)))
    assert "\n  b: no answer found 1 (empty 1)\n" in shown(report, verbose=True)
    assert "\n  b: no answer" not in shown(report)


def errored(index, reason, state="errored"):
    return ErroredSample(f"main/{index}", 0, state, reason)


def lost(build, *samples, **classes):
    metric = make_metric(errored=sum(classes.values()), unscored=sum(one.state == "unscored" for one in samples))
    return lost_lines(build(make_benchmark(metrics=(metric,), errored_samples=samples, error_classes=classes)))


def test_equal_errors_are_one_line_with_their_number(build):
    refused = [errored(i, f"connect: Cannot connect to 127.0.0.1:800{i}; is it up?") for i in range(9)]
    assert lost(build, *refused, errored(9, "server: HTTP 500"), connect=98, server=1) == [
        "gsm8k: 99 of 199 requests have no score",
        "  connect 98: Cannot connect to 127.0.0.1:8000; is it up? (main/0#0, main/1#0, main/2#0 and 95 more)",
        "  server 1: HTTP 500 (main/9#0)",
    ]


def test_different_errors_of_a_class_are_told_apart(build):
    samples = [errored(i, f"malformed row: no column {name}") for i, name in enumerate("aaabbcde")]
    lines = lost(build, *samples, errored(9, "took too long", "unscored"), malformed_row=8)
    assert lines[1:] == [
        "  malformed_row 8: no column a (main/0#0, main/1#0, main/2#0)",
        "    also: no column b (main/3#0, main/4#0)",
        "    also: no column c (main/5#0)",
        "    and 2 other messages",
        "  unscored 1: took too long (main/9#0)",
    ]


def test_malformed_rows_of_a_file_are_named_by_their_lines(build):
    rows = [errored(i, f"malformed row: exam.csv: line {i + 2}: column 'answer' is empty") for i in (1, 4, 8, 9)]
    twice = tuple(replace(one, repeat=repeat) for one in rows for repeat in (0, 1))
    metrics, counts = (make_metric(errored=8),), {"malformed_row": 8}
    report = build(make_benchmark(metrics=metrics, errored_samples=twice, error_classes=counts, repeats=2))
    assert lost_lines(report)[1:] == [
        "  malformed_row 8: exam.csv: column 'answer' is empty (line 3, line 6, line 10 and 1 more)"
    ]


def test_long_errors_break_at_words_and_their_escapes_are_shown(build):
    reason = "server: \x1b[2J\x1b]0;owned\x07 " + "the server is starting, " * 12
    metrics, samples = (make_metric(errored=1),), (errored(0, reason),)
    report = build(make_benchmark(metrics=metrics, errored_samples=samples, error_classes={"server": 1}))
    text = shown(report, width=80)
    assert "\x1b" not in text
    assert "\\u001b[2J\\u001b]0;owned\\u0007" in text
    words = {word.strip(",") for line in text.splitlines() if "starting" in line for word in line.split()}
    assert words <= {"server", "1:", "the", "is", "starting", "\\u001b[2J\\u001b]0;owned\\u0007", "(main/0#0)"}
