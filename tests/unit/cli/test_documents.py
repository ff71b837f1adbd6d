"""What Python callers get back, and what they may pass in."""

import json
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import evalmesh
from evalmesh import EvalmeshError, FailedPrecondition, InvalidInput, PerfConfig, PerfReport, Report, TaskConfig


def metric(value, name="accuracy"):
    counts = {"n_scored": 4, "n_errored": 1, "n_unscored": 0}
    return {"name": name, "value": value, "stderr": 0.1, "ci95": None if value is None else [0.2, 0.9], **counts}


@pytest.fixture
def report(tmp_path):
    math = {"name": "math", "primary_metric": "accuracy", "metrics": [metric(0.5), metric(None, "f1")]}
    math["subsets"] = [{"name": "<b>easy", "metrics": [metric(1.0)]}]
    qa = {"name": "qa", "primary_metric": "f1", "metrics": [metric(0.25, "f1")], "subsets": []}
    (tmp_path / "results").mkdir()
    for name in ("math", "qa"):
        pq.write_table(pa.table({"benchmark": [name] * 2, "answer": ["1", "2"]}), tmp_path / f"results/{name}.parquet")
    return Report({"run": {"id": "r1"}, "model": {"label": "m"}, "benchmarks": [math, qa]}, tmp_path)


def test_a_report_is_its_document_and_more(report, tmp_path):
    assert json.loads(json.dumps(report)) == report
    assert (report.folder, report.id) == (tmp_path, "r1")
    assert repr(report) == "<Report r1, m: math 0.5, qa 0.25>"


def test_scores_are_found_by_name(report):
    assert (report.score("math"), report.score("qa", "f1"), report.score("math", "f1")) == (0.5, 0.25, None)
    for names in ((), ("nope",), ("math", "nope")):
        with pytest.raises(InvalidInput, match="there are: "):
            report.score(*names)


def test_figures_are_rows_and_a_table(report):
    table = report.to_dataframe()
    assert list(table["benchmark"]) == ["math", "math", "math", "qa"]
    assert list(table["subset"].fillna("")) == ["", "", "<b>easy", ""]
    assert table["value"].sum() == pytest.approx(1.75)
    assert "<b>easy" not in report._repr_html_()
    assert "&lt;b&gt;easy" in report._repr_html_()


def test_without_pandas_the_way_out_is_named(report, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(FailedPrecondition, match="pip install pandas"):
        report.to_dataframe()


def test_samples_are_one_table(report):
    assert report.samples().column("benchmark").to_pylist() == ["math", "math", "qa", "qa"]
    assert report.samples("qa").num_rows == 2
    with pytest.raises(InvalidInput, match="no results of 'nope'"):
        report.samples("nope")


def test_a_load_test_has_a_row_per_level(tmp_path):
    level = {"label": "parallel 1", "ok": 9, "failed": 1, "request_rate": 2.5, "ttft_ms": {"p50": 3.0, "p99": 5.0}}
    perf = PerfReport({"load_test": {"id": "t1"}, "levels": [level]}, tmp_path)
    assert perf.rows() == [
        {"label": "parallel 1", "ok": 9, "failed": 1, "request_rate": 2.5, "ttft_ms_p50": 3.0, "ttft_ms_p99": 5.0}
    ]
    assert perf.to_dataframe()["ttft_ms_p99"].tolist() == [5.0]
    assert repr(perf) == "<PerfReport t1: parallel 1>"


def test_configs_take_paths(tmp_path):
    config = TaskConfig(
        model="m",
        api_url="http://h/v1",
        datasets=["general_mcq"],
        work_dir=tmp_path,
        dataset_dir=tmp_path / "data",
        dataset_args={"general_mcq": {"local_path": tmp_path / "q.csv"}},
    )
    assert (config.work_dir, config.dataset_dir) == (str(tmp_path), str(tmp_path / "data"))
    assert config.dataset_args["general_mcq"]["local_path"] == str(tmp_path / "q.csv")
    assert PerfConfig(model="m", dataset_path=tmp_path / "x").dataset_path == str(tmp_path / "x")


def test_every_name_of_the_package_is_there():
    assert [name for name in evalmesh.__all__ if getattr(evalmesh, name, None) is None] == []
    assert issubclass(evalmesh.NotFound, EvalmeshError)
