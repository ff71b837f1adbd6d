import json
import re

import pytest
from tests.kit.compared import Answered, samples, write_run
from tests.unit.report.page import Page

from evalmesh.domain.comparison import ComparisonWish
from evalmesh.pages.runs.compare_page import render_comparison
from evalmesh.results.comparing.alike import Source
from evalmesh.results.comparing.comparison import compare_runs

HOSTILE = "</pre></details><script>alert(1)</script>"
RIGHT = {**samples(1, 0, 1, 1, 0, 1, subset="law"), **samples(*[0] * 6, subset="art", first=6)}
WRONG = {**samples(0, 0, 0, 0, 0, 1, subset="law"), **samples(*[0] * 5, None, subset="art", first=6)}


@pytest.fixture
def page(tmp_path_factory):
    """The page of runs that answered so, and its document."""

    def render(*runs, gates=(), most=None):
        folder = tmp_path_factory.mktemp("outputs")
        sources = []
        for at, answered in enumerate(runs):
            place = write_run(folder, f"r{at}", answered, display_name=f"model {at} {HOSTILE}")
            table = place / "results/gsm8k.parquet"
            report = json.loads((place / "report.json").read_text())
            sources.append(Source(report, lambda _, table=table: table.open("rb")))
        found = compare_runs(sources, ComparisonWish(), "2026-01-01T00:00:00Z")
        return render_comparison({**found.document, "gates": list(gates)}, list(found.flips(most, texts=True)))

    return render


def test_the_page_needs_no_network_and_shows_hostile_text_as_text(page):
    tricky = dict.fromkeys(RIGHT, HOSTILE)
    html = page(Answered(RIGHT, inputs=tricky, answers=tricky), Answered(WRONG, inputs=tricky, answers=tricky))
    found = Page(html)
    assert found.all("script") == [{}]
    assert not found.all("link")
    assert not found.all("img")
    assert not re.search(r"url\(|@import|src=", html)
    policy = next(m["content"] for m in found.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    # Names, question and both answers, of which a completion is a part.
    assert found.shown.count("<script>alert(1)</script>") > 10


def test_effects_subsets_and_flips_are_there_and_can_be_read_out(page):
    found = Page(page(Answered(RIGHT), Answered(WRONG)))
    for words in (
        "-0.2727",
        "0 won, 3 lost of 11",
        "gsm8k by subset (2)",
        "gsm8k: Better in A (3)",
        "law/0",
        "I say 0",
    ):
        assert words in found.shown
    assert "samples without a score, left out: 1 (0 in A alone, 1 in B alone, 0 in both)" in found.shown
    assert "Better in B" not in found.shown
    assert len(found.ids) == len(set(found.ids))
    assert all(svg["role"] == "img" and "95% interval" in svg["aria-label"] for svg in found.all("svg"))
    assert all(head.get("scope") in {"col", "row"} for head in found.all("th"))


def test_gates_and_the_matrix_of_three_runs_are_shown(page):
    gate = {"gate": "gsm8k>=0", "run": 2, "benchmark": "gsm8k", "subset": "", "metric": "accuracy", "outcome": "missed"}
    found = Page(page(Answered(RIGHT), Answered(WRONG), Answered(RIGHT), gates=[gate]))
    assert "gsm8k>=0 gsm8k accuracy, model 2" in found.shown
    assert "Every run against every other" in found.shown
    assert found.shown.count("1 better, 0 worse") == 0
    assert found.shown.count("0 better, 0 worse") == 6


def test_few_of_many_flips_say_so(page):
    many = Answered(samples(*[1] * 30)), Answered(samples(*[0] * 30))
    assert "5 of 30 are here" in Page(page(*many, most=5)).shown
    assert "are here" not in Page(page(*many)).shown
