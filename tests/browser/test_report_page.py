"""The samples of a report in a real browser: by keys, by search, by address, and against hostile texts."""

from contextlib import asynccontextmanager

import pytest
from tests.kit.browser import opened
from tests.kit.results import KINDS, write_results
from tests.unit.report.builders import CREATED, make_benchmark, make_plan, make_run

from evalmesh.adapters.object_store.folder import FolderObjectStore
from evalmesh.domain import layout
from evalmesh.domain.completion import Completion
from evalmesh.domain.request import Message
from evalmesh.domain.sample import Sample
from evalmesh.domain.score import Score
from evalmesh.domain.shard_data import PlannedSample
from evalmesh.report_aggregator.runs.page_file import write_page
from evalmesh.report_aggregator.runs.report_json import build_report
from evalmesh.results.table import ResultsWriter

RUN = "r-20260225-abc"
HOSTILE = "</script><img src=x onerror=alert(1)> \u202eevil \u2028 & #x \U0001f600"
SHOWN = "document.getElementById('found').textContent"
TITLE = "document.querySelector('#sample h3')?.textContent"
READY = "!document.getElementById('browse').hidden && document.getElementById('rows').children.length > 0"


@pytest.fixture
def page_of(tmp_path):
    """Opens the page of a run with these benchmarks, of which each has a file of results."""

    @asynccontextmanager
    async def _open(*paths, fragment="", before="", **size):
        (tmp_path / "store").mkdir()
        store = FolderObjectStore(tmp_path / "store")
        names = [path.stem for path in paths]
        for path in paths:
            await store.put(layout.results_key(RUN, path.stem), path.read_bytes())
        benchmarks = [make_benchmark(name, n_samples=1000) for name in names]
        await write_page(build_report(make_run(), make_plan(*names), benchmarks, CREATED), store)
        file = tmp_path / "store" / layout.report_html_key(RUN)
        async with opened(file.as_uri() + fragment, **size) as tab:
            if before:
                await tab.call("Page.addScriptToEvaluateOnNewDocument", source=before)
                await tab.call("Page.reload")
            await tab.until("document.readyState === 'complete'")
            await tab.until(READY)
            yield tab
            assert tab.complaints == []

    return _open


@pytest.fixture
def two(tmp_path):
    rivers = write_results(tmp_path / "rivers.parquet", (("geo 2", KINDS * 20), ("geo 10", KINDS)), name="rivers")
    return rivers, write_results(tmp_path / "lakes.parquet", (("deep", ("right",) * 300),), name="lakes")


async def test_keys_filters_and_search(page_of, two):
    async with page_of(*two) as tab:
        assert await tab.js(SHOWN) == "426 shown"
        drawn = await tab.js("document.querySelectorAll('.row').length")
        assert drawn < 60, "what is not seen is not drawn"
        await tab.press("/")
        assert await tab.js("document.activeElement.id") == "find"
        await tab.call("Input.insertText", text="DANUBE")
        await tab.until(f"{SHOWN} === '21 shown'")
        await tab.press("ArrowDown", "ArrowDown")
        await tab.until(f"{TITLE} === 'geo 2/9'")
        assert "HTTP 500: no Danube" in await tab.js("document.getElementById('sample').textContent")
        assert await tab.js("document.querySelector('#sample mark').textContent") == "Danube"
        await tab.js("document.getElementById('find').value = ''")
        await tab.js("document.getElementById('find').dispatchEvent(new Event('input'))")
        await tab.until(f"{SHOWN} === '426 shown'")
        await tab.js("document.querySelector('.grades .g-no_answer').click()")
        assert await tab.js(SHOWN) == "21 shown"
        subsets = await tab.js("Array.from(document.getElementById('of-subset').options, (one) => one.value)")
        assert subsets == ["", "deep", "geo 2", "geo 10"]
        select = "document.getElementById('of-subset')"
        await tab.js(f"{select}.value = 'geo 10'; {select}.dispatchEvent(new Event('change'))")
        assert await tab.js(SHOWN) == "1 shown"


async def test_one_sample_whole_by_its_address(page_of, two):
    async with page_of(*two, fragment="#sample=geo%202/6&benchmark=rivers") as tab:
        await tab.until(f"{TITLE} === 'geo 2/6'")
        said = await tab.js("document.getElementById('sample').innerText")
        order = [
            said.index(part) for part in ("right", "rule: marker", "Rhine | Rhein", "it was compared", "Be brief.")
        ]
        assert order == sorted(order)
        assert await tab.js("document.querySelector('#sample details').open") is False
        await tab.press("ArrowDown")
        await tab.until(f"{TITLE} === 'geo 2/7'")
        await tab.until("location.hash === '#sample=geo%202/7&benchmark=rivers'")
        await tab.js("location.hash = '#sample=nowhere/1'")
        await tab.until("document.getElementById('sample').textContent.includes('does not hold the sample nowhere/1')")


async def test_a_browser_that_cannot_unpack_is_helped(page_of, two):
    async with page_of(*two, before="delete window.DecompressionStream") as tab:
        assert await tab.js("typeof DecompressionStream") == "undefined"
        assert await tab.js(SHOWN) == "426 shown"
        await tab.js("location.hash = '#sample=deep/299'")
        await tab.until(f"{TITLE} === 'deep/299'")
        assert "It is the RHINE." in await tab.js("document.getElementById('sample').textContent")


async def test_hostile_texts_are_texts(page_of, tmp_path):
    path = tmp_path / "odd.parquet"
    with ResultsWriter(path, run=RUN, benchmark="odd", score_names=["acc"]) as writer:
        for n in range(3):
            sample = Sample(f"{n} {HOSTILE}", n, HOSTILE, HOSTILE, (HOSTILE,))
            score = Score(sample.id, 0, "scored", {"acc": 0.0}, HOSTILE, HOSTILE, HOSTILE)
            turns = (Message("user", HOSTILE + "\ud800"),)
            said = "x" * 1_000_000 if n == 2 else HOSTILE
            writer.add([PlannedSample(sample, "chat", ("d",), turns)], [Completion(sample.id, 0, "d", said)], [score])
    async with page_of(path, width=420) as tab:
        await tab.js("document.getElementById('list').focus()")
        for n in range(3):
            await tab.press("ArrowDown")
            await tab.until(f"{TITLE}?.startsWith('{n} ')")
            shown = await tab.js("document.getElementById('sample').textContent")
            assert "</script><img src=x onerror=alert(1)> \\u202eevil" in shown
            address = await tab.js("new Promise((done) => setTimeout(() => done(location.hash), 400))")
            assert address.startswith(f"#sample={n}%20%3C/script%3E")
        await tab.js("location.hash = location.hash.replace('=2', '=1')")
        await tab.until(f"{TITLE}?.startsWith('1 ')")
        assert await tab.js("document.images.length") == 0
        assert await tab.js("document.documentElement.scrollWidth") <= 500, "nothing is wider than a phone"
