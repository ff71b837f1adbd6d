"""The guide's example runs, and prints what the guide says."""

import re
from pathlib import Path

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "guides" / "add-a-benchmark.md"


def test_the_example_of_the_guide_does_what_the_guide_says(capsys):
    guide = GUIDE.read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", guide, re.DOTALL))
    (expected,) = re.findall(r"```text\n(.*?)```", guide, re.DOTALL)
    names = {}
    exec(compile(code, str(GUIDE), "exec"), names)
    printed = capsys.readouterr().out
    assert "What is the capital of Peru?\n\nA) Lima\nB) Quito\nC) Bogotá" in printed
    assert printed.endswith(expected)
    assert names["benchmarks"]()[0].name == "capitals"
