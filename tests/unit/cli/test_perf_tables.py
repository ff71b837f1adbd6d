"""What a load test prints at its end, and the exit code it ends with."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from rich.console import Console
from tests.unit.report.perf_builders import (
    make_failures,
    make_generator,
    make_goodput,
    make_lengths,
    make_level,
    make_limited,
    make_server,
    make_slo,
    make_summary,
    make_term,
    make_test,
)

from evalmesh.cli.__main__ import main
from evalmesh.cli.outputs import LOAD_TESTS
from evalmesh.cli.perf.compare import compare_reports, render_comparison
from evalmesh.cli.perf.outcome import PerfOutcome, objective
from evalmesh.cli.perf.remarks import notes_of
from evalmesh.cli.perf.show import show_outcome, show_perf
from evalmesh.cli.perf.words import milliseconds, per_second
from evalmesh.domain.errors import InvalidInput, NotFound
from evalmesh.domain.state import State

SCHEMA = json.loads((Path(__file__).parents[3] / "docs" / "perf.schema.json").read_text())


def perf(*levels, stream=True, api="chat", **changes):
    fields = {
        "schema_version": 1,
        "evalmesh_version": "0.1.0",
        "create_time": "2026-02-25T06:13:41.000Z",
        "load_test": {
            "id": "lt-1",
            "display_name": "",
            "state": "SUCCEEDED",
            "attempt": 0,
            "create_time": "2026-02-25T06:13:20.000Z",
            "start_time": None,
            "end_time": None,
            "duration_s": None,
            "error": "",
            "error_reason": "",
            "labels": {},
        },
        "target": {
            "url": "http://h:8000/v1/chat/completions",
            "model": "qwen",
            "api": api,
            "stream": stream,
            "key_ref": "",
            "transport": "auto",
        },
        "spec": {},
        "client_limited": any(level["client_limited"] for level in levels),
        "levels": list(levels),
        "best": {"throughput": None, "goodput": None, "latency": None},
        "search": None,
        "repeats": [],
        "notes": [],
    }
    made = fields | changes
    Draft202012Validator(SCHEMA).validate(made)
    return made


def make_search(values, answer=None, **changes):
    """Probes in this order, the n-th of them being level n; those up to the answer have met the objective."""
    evidence = [
        {
            "value": value,
            "levels": [index],
            "decision": "met" if answer is not None and value <= answer else "missed",
            "passed": answer is not None and value <= answer,
            "by": "interval",
            "seconds": 4.2,
            "note": "",
        }
        for index, value in enumerate(values)
    ]
    missed = [value for value in values if answer is None or value > answer]
    fields = {
        "variable": "rate",
        "state": "none" if answer is None else "found",
        "answer": answer,
        "bracket": [answer, min(missed, default=None)],
        "client_limited": False,
        "by": "interval",
        "evidence": evidence,
        "stop_rule": "The bracket is narrower than 5% of its lower end.",
        "note": "",
    }
    return fields | changes


def paper(width=160, **options):
    return Console(width=width, record=True, file=io.StringIO(), highlight=False, **options)


def shown(document, width=160):
    console = paper(width)
    show_perf(console, document)
    return console.export_text()


def heading(text):
    """The lines above the rule, in one."""
    return " ".join(text.split("──")[0].split())


def row(text, start):
    found = [line for line in text.splitlines() if line.strip().startswith(start)]
    assert len(found) == 1, text
    return " ".join(found[0].split())


def test_a_closed_sweep_has_one_row_per_level():
    text = shown(perf(make_level(0, 1), make_level(1, 8)))
    assert all(name in heading(text) for name in ("Failed", "Req/s", "Out tok/s", "TTFT ms", "ITL ms", "E2E ms"))
    assert "Offered" not in heading(text)
    assert "Goodput" not in heading(text)
    assert row(text, "parallel 8").startswith("parallel 8 2,000 0 ")
    assert "50.0 / 73.4 / 81.8 / 101" in row(text, "parallel 8")
    assert "TPOT ms" in heading(text)
    assert "per req" in heading(text)


def test_open_loop_shows_both_clocks_and_the_send_lag():
    level = make_level(rate=20.0) | {"ttft_due_ms": make_summary(80.0), "ttft_ms": make_summary(50.0)}
    text = shown(perf(level))
    assert "80.0 / 117 / 131 / 161" in row(text, "rate 20")
    assert "50.0 / 73.4 / 81.8 / 101" in row(text, "from send")
    assert "Offered/s" in heading(text)
    assert "Send lag" in heading(text)


def test_embeddings_have_no_columns_of_tokens():
    level = make_level(ttft=None, itl=12.0)
    text = shown(perf(level, stream=False, api="embeddings"))
    assert "TTFT" not in text
    assert "ITL" not in text
    assert "In tok/s" in text
    assert "12.0 / 13.6 / 14.1 / 15.1" in row(text, "parallel 8")


@pytest.mark.parametrize("width", [80, 100, 160])
def test_figures_are_never_cut(width):
    slo = make_slo(make_term(value=210.0))
    level = make_level(0, rate=20.0, slo=slo, goodput=make_goodput(12345.6, 0.98))
    level |= {"ttft_ms": make_summary(12345.0), "e2e_ms": make_summary(23456.0), "e2e_due_ms": make_summary(34567.0)}
    text = shown(perf(level), width=width)
    assert "\u2026" not in text
    for figure in ("12,346 (98.0%)", "12,345 / ", " / 24,8", "34,567 / ", "23,456 / "):
        assert figure in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    assert text.count("from send") == 1
    assert shown(perf(make_level(0, 1), make_level(1, 512)), width=160).count("parallel 512") == 1
    assert "p50 / p95 / p99" in shown(perf(make_level(0, 1), make_level(1, 512)), width=80)


def test_failures_are_named_by_class_with_what_the_first_one_said():
    level = make_failures(make_level(n=100), http_500=3, truncated=1)
    text = shown(perf(level))
    assert row(text, "parallel 8 ").startswith("parallel 8 96 4 ")
    assert "parallel 8: 4 of 100 requests failed (http_500 3, truncated 1)" in text
    assert "http_500: the server said: http_500" in text


def test_requests_that_time_left_unsent_are_no_failure():
    """Both a number and a duration were asked for; an interrupted level is another matter."""
    level = make_level() | {"planned": 5000, "unsent": 3000, "notes": ["2,000 of 5,000 requests were sent: ..."]}
    document = perf(level)
    text = shown(document)
    assert "not sent" not in text
    assert "note: 2,000 of 5,000 requests were sent: ..." in text
    assert code(document) == 0
    assert "3,000 requests were not sent, since the level ended before" in shown(perf(level | {"state": "cancelled"}))


def test_a_client_that_was_the_bottleneck_is_said_loudly():
    console = paper(160, force_terminal=True)
    show_perf(console, perf(make_limited(make_level())))
    styled = console.export_text(styles=True, clear=False)
    text = console.export_text()
    assert "parallel 8*" in text
    assert "not to be used, the load generator was the bottleneck. The busiest engine used 97% of a core" in text
    assert "What helps: use more --generators." in text
    assert "\x1b[1;31m* parallel 8" in styled


def test_a_lost_generator_is_named():
    level = make_level() | {"generators": [make_generator(), make_generator(1, lost=True, error="killed")], "lost": 7}
    text = shown(perf(level))
    assert "generator 1 at load-1 was lost: killed" in text
    assert "7 lost with their generator" in text


def test_an_objective_has_verdicts_intervals_and_goodput():
    good = make_slo(make_term(value=210.0), make_term("error_rate", "", 0.01, 0.002))
    bad = make_slo(make_term(value=700.0), make_term("error_rate", "", 0.01, 0.002))
    levels = make_level(0, 1, slo=good, goodput=make_goodput(12.0, 0.98)), make_level(1, 8, slo=bad)
    text = shown(perf(*levels))
    rows = {" ".join(line.split()) for line in text.splitlines()}
    assert "parallel 1 ttft p99 <= 500 ms 210 ms 200 ms to 220 ms met" in rows
    assert "error_rate <= 1.00% 0.20% 0.19% to 0.21% met" in rows
    assert "parallel 8 ttft p99 <= 500 ms 700 ms 665 ms to 735 ms missed" in rows
    assert "12.0 (98.0%)" in text
    assert not {"pass", "fail"}.intersection(text.split())


def test_the_best_levels_are_one_line():
    best = {"index": 1, "label": "parallel 8", "metric": "output_token_rate", "value": 1234.0, "tied": []}
    fast = {"index": 0, "label": "parallel 1", "metric": "e2e_ms.p50", "value": 680.0, "tied": ["parallel 2"]}
    text = shown(perf(make_level(), best={"throughput": best, "goodput": None, "latency": fast}))
    assert "best: most throughput at parallel 8 (output_token_rate 1,234/s); lowest latency at parallel 1" in text
    assert "(e2e_ms.p50 680 ms, no difference to parallel 2)" in text


def test_a_search_shows_its_answer_and_its_evidence():
    found = make_search([1.0, 2.0, 4.0, 3.0], answer=3.0)
    text = shown(perf(make_level(rate=3.0), search=found))
    assert "the highest rate that meets the objective is 3 requests/s (3: met, 4: missed)" in text
    assert "The bracket is narrower than 5%" in text
    assert row(text, "4 ").startswith("4 4.2 missed")
    text = shown(perf(make_level(), search=make_search([1.0], variable="parallel")))
    assert "no parallel that was tried met the objective" in text
    text = shown(perf(make_level(), search=make_search([1.0], answer=1.0, client_limited=True)))
    assert "is at least 1 requests/s" in text


def test_a_search_that_the_client_stopped_says_nothing_of_the_server():
    found = make_search([1.0], state="unfinished", client_limited=True, stop_rule="It is not known.")
    found["evidence"][0] |= {"passed": None, "by": "client"}
    text = shown(perf(make_limited(make_level()), search=found))
    assert "search: no answer, since the load generator was the bottleneck. It is not known." in text
    assert "interval" not in text


def test_a_speed_benchmark_has_one_row_per_length():
    server = make_server()
    server["summary"]["gpu_memory_bytes_max"] = 61.2e9
    lengths = make_lengths()
    lengths[3] |= {"ok": 1}
    text = shown(perf(make_level(lengths=lengths, server=server)), width=80)
    assert row(text, "1 ").startswith("1 2 0 64 91.4 49.8 21.0 ")
    assert row(text, "30,720").startswith("30,720 1 1 64 17.0 ")
    assert "GPU memory of the server: at most 61.2 GB" in text
    assert "GPU memory" not in shown(perf(make_level(lengths=lengths)))
    assert "Prompt" not in shown(perf(make_level(server=server)))


def test_lengths_of_several_levels_are_rows_of_their_level():
    text = shown(perf(make_level(0, 1, lengths=make_lengths()), make_level(1, 8, lengths=make_lengths())), width=80)
    assert text.count("parallel 8") == 3
    assert text.count("30,720") == 2
    many = [make_level(n, n + 1, lengths=make_lengths()) for n in range(7)]
    assert "30,720" not in shown(perf(*many)), "more than a terminal shows: they are in the report"


def test_a_document_from_before_there_were_lengths_is_shown():
    document = perf(make_level())
    del document["levels"][0]["lengths"]
    assert "parallel 8" in shown(document)


def test_repeats_come_with_intervals():
    metric = {"n": 3, "mean": 52.0, "stderr": 1.0, "ci95": [48.0, 56.0], "values": [50.0, 52.0, 54.0]}
    group = {"label": "parallel 8", "parallel": 8, "rate": 0.0, "levels": [0, 1, 2], "metrics": {"ttft_ms.p50": metric}}
    text = shown(perf(make_level(), repeats=[group]))
    assert "52.0 ±4.00" in text
    assert "half of the 95% interval of the mean over runs (Student's t, 0 degrees of freedom)" not in text
    assert "Student's t, 2 degrees of freedom" in text
    assert "TTFT ms" in heading(text.split("Means over repeats")[1])


def test_names_of_users_are_no_markup():
    document = perf(make_level())
    document["target"] = {**document["target"], "model": "[red]x[/oops]"}
    assert "[red]x[/oops] at http://h:8000" in shown(document)


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (float("nan"), "-"), (0.5178, "0.52"), (51.23, "51.2"), (1234.5, "1,234")]
)
def test_milliseconds(value, text):
    assert milliseconds(value) == text


def test_rates_in_words():
    assert [per_second(value) for value in (0.5, 19.83, 12345.6)] == ["0.50/s", "19.8/s", "12,346/s"]


# Exit codes.


def code(document, state=State.SUCCEEDED, *, ignore=False, strict=False, **changes):
    test = replace(make_test(state), error_reason=changes.pop("reason", ""))
    return PerfOutcome(test, Path(), document, **changes).exit_code(ignore_errors=ignore, strict=strict)


def nobody(**errors):
    return make_failures(make_level(n=10), **errors) | {"ok": 0}


def test_exit_codes_without_a_finished_load_test():
    assert code(None, State.FAILED, reason="INTERNAL") == 1
    assert code(None, State.FAILED, reason="UNAVAILABLE") == 5
    assert code(None, State.FAILED, reason="UNAUTHENTICATED") == 5
    assert code(None, State.CANCELLED) == 4
    assert code(perf(make_level()), State.CANCELLED, interrupted=True) == 130


def test_exit_codes_of_requests_that_failed():
    some = perf(make_level(), make_failures(make_level(1), http_500=1))
    assert (code(perf(make_level())), code(some), code(some, ignore=True)) == (0, 3, 0)
    assert code(perf(make_level() | {"lost": 3})) == 3
    assert code(perf(nobody(http_500=10))) == 1
    assert code(perf(nobody(http_500=10)), ignore=True) == 1
    assert code(perf(nobody(connect=6, tls=4))) == 5
    assert code(perf(nobody(http_401=10))) == 5
    assert code(perf(nobody(http_401=9, http_500=1))) == 1


def test_strict_exit_codes():
    limited = perf(make_limited(make_level()))
    lost = perf(make_level(generators=[make_generator(lost=True)]))
    missed = perf(make_level(slo=make_slo(make_term(value=900.0))))
    assert (code(limited), code(lost), code(missed)) == (0, 0, 0)
    assert [code(one, strict=True) for one in (limited, lost, missed)] == [6, 6, 7]
    both = perf(make_limited(make_level(slo=make_slo(make_term(value=900.0)))))
    failing = make_slo(make_term("error_rate", "", 0.01, 0.55))
    assert code(perf(make_limited(make_level(slo=failing))), strict=True) == 7, "failures are the server's all the same"
    open_ = perf(make_level(slo=make_slo(make_term(value=9.0, decision="undecided"))))
    assert (code(open_), code(open_, strict=True)) == (0, 8)
    assert code(both, strict=True) == 6, "figures that are the client's own say nothing about an objective"
    assert code(perf(make_level(slo=make_slo(make_term(value=9.0)))), strict=True) == 0


def test_a_search_meets_its_objective_when_it_has_an_answer():
    missed = make_level(1, slo=make_slo(make_term(value=900.0)))
    assert objective(perf(make_level(), missed, search=make_search([1.0, 2.0], answer=1.0))) == "met"
    assert objective(perf(missed, search=make_search([1.0]))) == "missed"
    assert objective(perf(missed, search=make_search([1.0], state="unfinished"))) == "undecided"


def test_an_export_that_failed_is_no_success():
    assert code(perf(make_level()), export_errors=("wandb: offline",)) == 1


# Outputs.


def test_the_end_names_every_file_that_is_there(tmp_path):
    console = paper(200)
    for name in ("perf_report.html", "perf.json"):
        (tmp_path / name).touch()
    show_outcome(console, PerfOutcome(make_test(), tmp_path, perf(make_level()), exported=("wandb: there",)))
    text = console.export_text()
    for name in ("perf_report.html", "perf.json", "perf.yaml"):
        assert str(tmp_path / name) in text
    assert "requests.parquet" not in text, "it could not be written"
    assert "wandb: there" in text


def test_a_failed_load_test_says_why(tmp_path):
    test = replace(make_test(State.FAILED), error="The endpoint is gone.")
    console = paper(200)
    show_outcome(console, PerfOutcome(test, tmp_path, None))
    assert "failed: The endpoint is gone." in console.export_text()


def test_reports_are_found_by_folder_file_and_age(tmp_path):
    folder = LOAD_TESTS.folder_of(make_test(), tmp_path)
    assert folder.name.endswith("_lt-20260225-abc")
    assert LOAD_TESTS.folder_of(make_test(), tmp_path, no_timestamp=True) == tmp_path
    with pytest.raises(NotFound, match="no load test"):
        LOAD_TESTS.newest_folder(tmp_path)
    folder.mkdir()
    (folder / "perf.json").write_text(json.dumps(perf(make_level())))
    (folder / "perf.yaml").write_text("# load test: lt-20260225-abc\n")
    assert LOAD_TESTS.report_at(folder) == LOAD_TESTS.report_at(folder / "perf.json") == folder / "perf.json"
    assert LOAD_TESTS.report_at(tmp_path / "lt-20260225-abc") is None
    assert LOAD_TESTS.newest_folder(tmp_path) == LOAD_TESTS.find_folder("lt-20260225-abc", tmp_path) == folder
    assert LOAD_TESTS.read_report(folder / "perf.json")["levels"][0]["label"] == "parallel 8"


def test_other_files_are_no_reports(tmp_path):
    path = tmp_path / "report.json"
    path.write_text('{"schema_version": 1, "benchmarks": []}')
    with pytest.raises(InvalidInput, match=r"no perf\.json"):
        LOAD_TESTS.read_report(path)
    path.write_text('{"schema_version": 2, "levels": []}')
    with pytest.raises(InvalidInput, match="update evalmesh"):
        LOAD_TESTS.read_report(path)


# Comparison.


def test_a_comparison_has_a_table_per_level_with_intervals_and_verdicts():
    before = perf(make_level(0, 1), make_level(1, 8), make_level(2, 64))
    after = perf(make_level(0, 1), make_level(1, 8, ttft=100.0))
    console = paper()
    render_comparison(console, compare_reports(before, after))
    text = console.export_text()
    assert "A  lt-1  qwen at http://h:8000" in text
    assert "only in A: parallel 64" in text
    same, slower = text.split("parallel 8 ")
    assert "no difference" in same
    assert "worse" not in same
    assert row(slower, "ttft_ms.p50").startswith("ttft_ms.p50 50.0 ms 100 ms +100.0% +")
    assert row(slower, "ttft_ms.p50").endswith("worse")
    assert row(slower, "output_token_rate").endswith("differs within these runs")
    assert "One run a side" in text
    assert row(same, "error_rate").split()[3:5] == ["+0.00", "pp"]
    assert not row(same, "request_rate").endswith(("worse", "better", "no difference"))
    assert "figures are judged together" in text


def test_what_too_few_requests_leave_undecided_is_told_as_that():
    few = make_level()
    few["window"]["effective_requests"] = 9.0
    console = paper()
    render_comparison(console, compare_reports(perf(make_level()), perf(few)))
    assert "undecided without enough requests: " in console.export_text()
    console = paper()
    render_comparison(console, compare_reports(perf(make_level()), perf(make_level(ttft=100.0))))
    assert ("undecided without enough requests: " in console.export_text()) == any(
        one["verdict"] == "undecided" and one["p_value"] is None
        for level in compare_reports(perf(make_level()), perf(make_level(ttft=100.0)))["levels"]
        for one in level["metrics"]
    )


def test_a_note_is_told_once_however_it_is_put_together():
    first, second = "Prompts were given.", "Every request has the same prompt."
    told = perf(make_level()) | {"notes": [second, f"{first} {second}"]}
    assert notes_of(told) == [f"{first} {second}"]
    assert notes_of(told, [first, second]) == []
    assert notes_of(told, [first]) == [f"{first} {second}"]


def test_show_and_compare_take_folders_and_print_json(tmp_path, capsys, monkeypatch):
    for name, level in (("a", make_level()), ("b", make_level(ttft=100.0))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "perf.json").write_text(json.dumps(perf(level)))
    monkeypatch.chdir(tmp_path)
    assert main(["perf", "compare", "a", "b/perf.json", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["levels"][0]["label"] == "parallel 8"
    assert main(["perf", "compare", "a", "b", "--fail-on", "worse"]) == 7
    assert main(["perf", "compare", "a", "a", "--fail-on", "worse"]) == 0
    assert main(["perf", "compare", "a", "b", "--tolerance", "30"]) == 2
    assert "tolerance: '30' is not allowed" in capsys.readouterr().err
    assert main(["perf", "compare", "a", "b"]) == 0
    assert "worse" in capsys.readouterr().out
    assert main(["perf", "show", "a"]) == 0
    assert "parallel 8" in capsys.readouterr().out
    assert main(["perf", "show", "--work-dir", str(tmp_path), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["schema_version"] == 1
    assert main(["perf", "show", str(tmp_path)]) == 2
    assert "holds no perf.json" in capsys.readouterr().err
