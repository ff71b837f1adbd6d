"""The guide lists what there is."""

import re
from pathlib import Path

from evalmesh.runtime.telemetry.metrics import ALL

GUIDE = Path(__file__).parents[3] / "docs/guides/telemetry.md"
ROW = re.compile(r"^\| `([\w.]+)`(?: \((\w+)\))? \| (counter|histogram|gauge) \| ([^|]*) \| (.+) \|$", re.MULTILINE)


def test_every_metric_is_in_the_guide_as_it_is():
    listed = {
        name: (unit, kind, re.findall(r"`([\w.]+)`", labels), text[0].lower() + text[1:])
        for name, unit, kind, labels, text in ROW.findall(GUIDE.read_text())
    }
    assert listed == {
        one.name: (
            "" if one.unit.startswith("{") else one.unit,
            one.kind,
            list(one.labels),
            one.help[0].lower() + one.help[1:],
        )
        for one in ALL
    }
