"""Several load tests on one page."""

import json

import pytest
from tests.unit.cli.test_perf_tables import perf
from tests.unit.report.perf_builders import make_level

from evalmesh.cli.__main__ import main


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name, ttft in (("one", 50.0), ("two", 100.0), ("three", 50.0)):
        found = perf(make_level(0, 1, ttft=ttft), make_level(1, 8, ttft=ttft))
        found["load_test"] = {**found["load_test"], "id": f"lt-{name}", "display_name": f"<b>{name}</b>"}
        (tmp_path / f"{name}.json").write_text(json.dumps(found))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_curves_of_all_lie_over_each_other(folder, capsys):
    assert main(["perf", "compare", "one.json", "two.json", "three.json", "--html", "c.html"]) == 0
    page = (folder / "c.html").read_text()
    assert page.count('class="plot"') == 8
    assert "B against A" in page
    assert "C against A" in page
    assert "&lt;b&gt;two&lt;/b&gt;" in page
    assert "<b>two" not in page, "names of users are no markup"
    assert 'badge bad">worse' in page
    assert page.count("<title>A, parallel 8: ") == 8
    out = capsys.readouterr().out
    assert out.count("ttft_ms.p50") == 4, out


def test_each_is_compared_with_the_first(folder, capsys):
    assert main(["perf", "compare", "one.json", "three.json", "two.json", "--format", "json"]) == 0
    third, second = json.loads(capsys.readouterr().out)
    assert (third["verdict"], second["verdict"]) == ("no difference", "worse")
    assert main(["perf", "compare", "one.json", "three.json", "two.json", "--fail-on", "worse"]) == 7
    assert main(["perf", "compare", *["one.json"] * 7]) == 2
