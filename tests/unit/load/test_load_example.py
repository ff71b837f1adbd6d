"""The worked example of docs/load-metrics.md, computed."""

import re
from pathlib import Path

import pytest
from tests.kit.load_levels import inputs, records

from evalmesh.domain.load_test import LoadLevel
from evalmesh.load.measure.figures import build_level
from evalmesh.load.objective.slo import parse_slo

PAGE = (Path(__file__).parents[3] / "docs/load-metrics.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| (\d) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| (\d)", re.MULTILINE)


def test_the_worked_example_is_right() -> None:
    rows = [tuple(map(float, row)) for row in ROW.findall(PAGE)]
    assert [row[0] for row in rows] == [0, 1, 2, 3]
    table = records([(due, first, last, int(tokens)) for _, due, _, first, last, tokens in rows])
    table["send_s"] = [row[2] for row in rows]
    slo = parse_slo("ttft:p99:500ms")
    told = build_level(inputs(table, LoadLevel(rate=2, parallel=2, number=4), arrival="constant", slo=slo, seconds=()))

    def values(name: str) -> list[float]:
        return [told[name][statistic] for statistic in ("min", "mean", "p90", "max")]

    assert values("ttft_ms") == pytest.approx([200, 200, 200, 200])
    assert values("ttft_due_ms") == pytest.approx([200, 325, 550, 700])
    assert values("e2e_ms")[::3] == pytest.approx([800, 1500])
    assert told["e2e_ms"]["mean"] == pytest.approx((800 + 1500 + 1400 + 800) / 4)
    assert told["e2e_due_ms"]["mean"] == pytest.approx((800 + 1500 + 1400 + 1300) / 4)
    assert told["tpot_ms"]["max"] == pytest.approx(433.3, abs=0.1)
    assert told["tpot_due_ms"]["mean"] == pytest.approx((200 + 375 + 350 + 325) / 4)
    assert told["queue_ms"]["max"] == pytest.approx(500)
    assert told["send_lag_ms"]["max"] == pytest.approx(0, abs=1e-6)
    assert told["window"]["rule"] == "whole"
    assert told["request_rate"] == pytest.approx(1.43, abs=0.005)
    assert told["output_token_rate"] == pytest.approx(5.71, abs=0.005)
    assert told["goodput"]["share"] == 0.75
    assert told["goodput"]["rate"] == pytest.approx(1.07, abs=0.005)
