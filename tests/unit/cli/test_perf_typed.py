"""Values as people type them."""

import pytest
from tests.unit.cli.test_perf_config import BASE, config, spec


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        (["--duration", "2s"], "duration", 2.0),
        (["--duration", "1.5m"], "duration", 90.0),
        (["--sleep-interval", "500ms"], "sleep_interval", 0.5),
        (["--connect-timeout", "3"], "connect_timeout", 3.0),
        (["--parallel", "1,2", "4"], "parallel", [1, 2, 4]),
        (["--rate", "0.5,2"], "rate", [0.5, 2.0]),
        (["--number", "10, 20"], "number", [10, 20]),
        (["--stages", "30s:5,60s:5-50"], "stages", ["30s:5", "60s:5-50"]),
        (["--ramp", "1", "50", "30s"], "ramp", [1.0, 50.0, 30.0]),
    ],
)
def test_times_have_units_and_lists_have_commas(words, field, value):
    assert getattr(config(*BASE, *words), field) == value


def test_the_wish_to_go_on_is_a_part_of_the_body():
    assert spec(*BASE, "--ignore-eos").prompts.body["ignore_eos"] is True
    assert "ignore_eos" not in spec(*BASE).prompts.body


def test_gpus_of_this_machine_are_a_source():
    assert spec(*BASE, "--server-metrics", "auto", "nvml").server_metrics == ("auto", "nvml")
