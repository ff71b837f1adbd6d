import io

from rich.console import Console
from tests.unit.report.builders import make_benchmark, make_many_subsets, make_metric, make_run

from evalmesh.cli.eval.table import render_table
from evalmesh.domain.metric import SubsetReport


def shown(report, width=160, **options):
    console = Console(file=io.StringIO(), width=width)
    console.print(render_table(report, **options))
    return console.file.getvalue()


def test_a_row_has_score_error_interval_and_denominators(build):
    text = shown(build(make_benchmark(metrics=(make_metric(value=0.85, n=100, errored=2, unscored=1),))))
    line = next(line for line in text.splitlines() if "gsm8k" in line)
    assert " ".join(line.split()) == "qwen-plus gsm8k main acc 0.8500 ± 0.0357 0.780 to 0.920 100 3"


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


def test_numbers_stay_whole_in_80_columns(build):
    text = shown(build(make_many_subsets(count=9)), width=80, verbose=True)
    assert text.count("±") == 1 + 1 + 4 + 9
    assert text.count(" to 0.") == 1 + 4 + 9
    assert max(len(line) for line in text.splitlines()) <= 80
