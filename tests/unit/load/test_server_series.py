import json
from array import array
from pathlib import Path

import jsonschema
import pytest

from evalmesh.load.server.columns import ServerColumn, grown, growth, quantile
from evalmesh.load.server.names import QUANTITIES, WANTED, kind_of, raw_name
from evalmesh.load.server.readings import RawSeries, Reading
from evalmesh.load.server.series import build_server

SCHEMA = json.loads((Path(__file__).parents[3] / "docs/perf.schema.json").read_text(encoding="utf-8"))
VLLM = "http://127.0.0.1:8000/metrics"


def metric(name, **labels):
    return RawSeries(name, tuple(sorted(labels.items())))


def samples(rows, *, source=VLLM, kind="vllm", start_s=100.0, step_s=1.0, skip=()):
    """One sample a second: `rows` is {metric: function of seconds since the level's start}."""
    metrics = tuple(rows)
    length = 11
    return [
        Reading(source, kind, start_s + n * step_s, metrics, array("d", [rows[one](n * step_s) for one in metrics]))
        if n not in skip
        else Reading(source, "", start_s + n * step_s, error="it cannot be reached: Connection refused")
        for n in range(length)
    ]


def built(*parts, start_s=100.0, end_s=110.0, window=(0.0, 10.0), output_tokens=0):
    server = build_server([one for part in parts for one in part], start_s, end_s, window, output_tokens)
    jsonschema.validate(server, {**SCHEMA["$defs"]["server"], "$defs": SCHEMA["$defs"]})
    return server


def series(server, name):
    return [one for one in server["series"] if one["name"] == name]


def test_gauges_are_shown_as_they_are_and_summed_up_over_the_window():
    server = built(
        samples(
            {
                metric("vllm:kv_cache_usage_perc", engine="0", model_name="m"): lambda t: t / 10,
                metric("vllm:num_requests_running", engine="0", model_name="m"): lambda t: 8,
            }
        ),
        window=(5.0, 10.0),
    )
    (use,) = series(server, "kv_cache_use")
    assert use["t_s"] == [float(n) for n in range(11)]
    assert use["value"] == pytest.approx([n / 10 for n in range(11)])
    assert (use["unit"], use["label"]) == ("share", "")
    assert server["summary"]["kv_cache_use_mean"] == pytest.approx(0.75)
    assert server["summary"]["kv_cache_use_max"] == 1.0
    assert server["summary"]["running_mean"] == 8
    assert server["sources"] == [{"url": VLLM, "kind": "vllm", "error": ""}]


def test_counters_become_rates_between_readings_and_are_cut_at_the_window_between_two_readings():
    server = built(
        samples(
            {
                metric("vllm:generation_tokens_total"): lambda t: 1000 + 100 * t + 100 * max(0, t - 5),
                metric("vllm:num_preemptions_total"): lambda t: 4 + (t >= 6),
            }
        ),
        window=(4.5, 9.5),
    )
    (rate,) = series(server, "generation_tokens_rate")
    assert rate["t_s"][:2] == [0.5, 1.5]
    assert rate["value"] == pytest.approx([100] * 5 + [200] * 5)
    # Half a second at 100 and 4.5 s at 200.
    assert server["summary"]["generation_tokens_rate_mean"] == pytest.approx(190)
    assert server["summary"]["preemptions"] == 1
    assert max(series(server, "preemptions")[0]["value"]) == 1


def test_work_counted_around_the_edges_belongs_to_the_level():
    """The server was idle until 0.4 s after the second reading, and from 0.6 s after the last but one."""

    def counted(t):
        return 100 * (min(max(t, 1.4), 8.6) - 1.4)

    said = samples({metric("vllm:generation_tokens_total"): counted}, start_s=100.0)
    server = built(said, start_s=101.4, end_s=108.6, window=(0.0, 7.2))
    assert server["summary"]["generation_tokens_rate_mean"] == pytest.approx(100)
    (rate,) = series(server, "generation_tokens_rate")
    assert rate["value"] == pytest.approx([100] * 8)
    assert (rate["t_s"][0], rate["t_s"][-1]) == (0.3, 6.9)


def test_a_server_that_is_restarted_does_not_make_a_negative_rate_and_is_told():
    server = built(
        samples({metric("vllm:generation_tokens_total"): lambda t: 5000 + 100 * t if t < 6 else 100 * (t - 5.5)})
    )
    (rate,) = series(server, "generation_tokens_rate")
    assert min(rate["value"]) == pytest.approx(50)  # the half second that it was up
    assert server["sources"][0]["error"] == "its counters began again after 6 s: it was restarted"


def test_histograms_are_means_of_what_was_added_and_quantiles_of_the_window():
    def bucket(edge, per_s):
        return {metric("vllm:time_to_first_token_seconds_bucket", le=edge): lambda t: 7 + per_s * t}

    server = built(
        samples(
            {
                **bucket("0.1", 50),
                **bucket("0.2", 90),
                **bucket("0.4", 100),
                **bucket("+Inf", 100),
                metric("vllm:time_to_first_token_seconds_count"): lambda t: 7 + 100 * t,
                metric("vllm:time_to_first_token_seconds_sum"): lambda t: 3 + 12 * t,
            }
        )
    )
    (ttft,) = series(server, "server_ttft_ms")
    assert ttft["value"] == pytest.approx([120] * 10)
    summary = server["summary"]
    assert summary["server_ttft_ms_mean"] == pytest.approx(120)
    assert summary["server_ttft_ms_p50"] == pytest.approx(100)
    assert summary["server_ttft_ms_p90"] == pytest.approx(200)
    assert summary["server_ttft_ms_p99"] == pytest.approx(380)


def test_a_ratio_is_of_what_was_added_in_the_window_and_falls_back_to_older_names():
    for prefix in ("vllm:prefix_cache", "vllm:gpu_prefix_cache"):
        server = built(
            samples(
                {
                    metric(f"{prefix}_queries_total"): lambda t: 1e6 + 1000 * t,
                    metric(f"{prefix}_hits_total"): lambda t: 750 * t,
                }
            )
        )
        assert server["summary"]["prefix_cache_hit_rate"] == pytest.approx(0.75)
        assert series(server, "prefix_cache_hit_rate")[0]["value"] == pytest.approx([0.75] * 10)


def test_the_first_known_name_is_taken_when_a_server_has_the_old_one_too():
    server = built(
        samples({metric("vllm:gpu_cache_usage_perc"): lambda t: 0.9, metric("vllm:kv_cache_usage_perc"): lambda t: 0.5})
    )
    assert [one["value"][0] for one in series(server, "kv_cache_use")] == [0.5]


def test_engines_are_labelled_by_what_tells_them_apart_and_add_up():
    server = built(
        samples(
            {
                metric("vllm:num_requests_running", engine="0", model_name="m"): lambda t: 10,
                metric("vllm:num_requests_running", engine="1", model_name="m"): lambda t: 20 + t,
                metric("vllm:kv_cache_usage_perc", engine="0", model_name="m"): lambda t: 0.2,
                metric("vllm:kv_cache_usage_perc", engine="1", model_name="m"): lambda t: 0.6,
            }
        )
    )
    assert [one["label"] for one in series(server, "running")] == ["engine 0", "engine 1"]
    assert server["summary"]["running_mean"] == pytest.approx(35)
    assert server["summary"]["running_max"] == pytest.approx(40)
    assert server["summary"]["kv_cache_use_mean"] == pytest.approx(0.4)
    assert server["summary"]["kv_cache_use_max"] == pytest.approx(0.6)


def test_two_servers_are_told_apart_by_their_address():
    rows = {metric("vllm:num_requests_waiting"): lambda t: 3}
    server = built(samples(rows), samples(rows, source="http://10.0.0.2:8000/metrics"))
    assert [one["label"] for one in series(server, "waiting")] == ["127.0.0.1:8000", "10.0.0.2:8000"]
    assert server["summary"]["waiting_mean"] == 6


def gpu(number, watts):
    labels = {"gpu": str(number), "UUID": f"GPU-{number}", "Hostname": "node", "modelName": "H100"}
    return {
        metric("DCGM_FI_DEV_GPU_UTIL", **labels): lambda t: 90 + number,
        metric("DCGM_FI_DEV_FB_USED", **labels): lambda t: 1024,
        metric("DCGM_FI_DEV_POWER_USAGE", **labels): lambda t: watts,
        metric("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", **labels): lambda t: 1e9 + watts * 1000 * t,
    }


def test_gpus_in_the_units_we_use_and_tokens_per_joule():
    server = built(
        samples({**gpu(0, 400), **gpu(1, 600)}, source="http://127.0.0.1:9400/metrics", kind="dcgm"),
        window=(2.0, 8.0),
        output_tokens=12_000,
    )
    assert [(one["label"], one["value"][0]) for one in series(server, "gpu_use")] == [("GPU 0", 0.9), ("GPU 1", 0.91)]
    assert series(server, "gpu_memory_bytes")[0]["value"][0] == pytest.approx(1 << 30, rel=1e-5)
    summary = server["summary"]
    assert summary["power_w_mean"] == 1000
    assert summary["energy_j"] == pytest.approx(6000)
    assert summary["tokens_per_joule"] == pytest.approx(2.0)
    # The curve of energy begins with the level.
    assert series(server, "energy_j")[0]["value"][:3] == pytest.approx([0, 400, 800])


def test_gpus_that_two_sources_report_are_counted_once():
    server = built(
        samples(gpu(0, 400), source="http://127.0.0.1:9400/metrics", kind="dcgm"),
        samples(
            {metric("nvml:power_w", gpu="0"): lambda t: 401, metric("nvml:energy_j", gpu="0"): lambda t: 401 * t},
            source="nvml",
            kind="nvml",
        ),
        output_tokens=4000,
    )
    assert server["summary"]["power_w_mean"] == 400
    assert server["summary"]["tokens_per_joule"] == pytest.approx(1.0)
    assert [one["label"] for one in series(server, "power_w")] == [""]


def test_gpus_on_the_page_of_an_engine_are_known():
    """A collector tells both at one address, and the engine names the page."""
    page = samples({metric("vllm:num_requests_running"): lambda t: 3, **gpu(0, 400)})
    server = built(page, output_tokens=4000)
    assert server["summary"]["running_mean"] == 3
    assert server["summary"]["gpu_memory_bytes_max"] == pytest.approx(1 << 30, rel=1e-5)
    assert server["summary"]["tokens_per_joule"] == pytest.approx(1.0)
    both = built(page, samples(gpu(0, 400), source="http://127.0.0.1:9400/metrics", kind="dcgm"))
    assert both["summary"]["power_w_mean"] == 400  # the exporter's own page says it too


def test_energy_from_power_where_nobody_counts_it():
    server = built(
        samples({metric("nvml:power_w", gpu="0"): lambda t: 100 * t}, source="nvml", kind="nvml"), output_tokens=1000
    )
    assert server["summary"]["energy_j"] == pytest.approx(5000)
    assert server["summary"]["tokens_per_joule"] == pytest.approx(0.2)


def test_no_tokens_per_joule_where_energy_is_known_for_a_part_alone():
    said = samples({metric("nvml:energy_j", gpu="0"): lambda t: 100 * t}, source="nvml", kind="nvml", skip=range(7))
    server = built(said, output_tokens=1000)
    assert "tokens_per_joule" not in server["summary"]
    assert "energy_j" not in server["summary"]


def test_a_source_that_vanishes_and_returns_leaves_a_gap_and_says_so():
    rows = {metric("vllm:num_requests_running"): lambda t: 5, metric("vllm:prompt_tokens_total"): lambda t: 10 * t}
    server = built(samples(rows, skip=(4, 5)))
    (running,) = series(server, "running")
    assert running["value"] == [5, 5, 5, 5, None, 5, 5, 5, 5, 5]
    assert server["summary"]["prompt_tokens_rate_mean"] == pytest.approx(10)
    assert server["sources"][0] == {
        "url": VLLM,
        "kind": "vllm",
        "error": "2 of 11 readings are wanting: it cannot be reached: Connection refused",
    }


def test_a_source_that_said_nothing_is_listed_with_its_reason():
    server = built(samples({metric("vllm:num_requests_running"): lambda t: 5}, skip=range(11)))
    assert server == {
        "sources": [{"url": VLLM, "kind": "", "error": "it cannot be reached: Connection refused"}],
        "series": [],
        "summary": {},
    }


def test_without_samples_there_is_an_empty_answer():
    assert built() == {"sources": [], "series": [], "summary": {}}


def test_readings_of_other_levels_are_left_out():
    rows = {metric("vllm:num_requests_running"): lambda t: t}
    server = built(samples(rows, start_s=80.0), samples(rows))
    (running,) = series(server, "running")
    assert running["t_s"] == [float(n) for n in range(11)]


def test_values_that_are_no_numbers_are_left_out():
    server = built(samples({metric("vllm:kv_cache_usage_perc"): lambda t: float("nan") if t < 9 else 0.5}))
    assert series(server, "kv_cache_use")[0]["t_s"] == [9.0, 10.0]


def test_a_short_window_without_a_reading_takes_the_nearest_gauge():
    server = built(samples({metric("vllm:num_requests_running"): lambda t: t}), window=(3.2, 3.4))
    assert server["summary"]["running_mean"] == 3


def test_long_series_are_averaged_down():
    rows = {metric("vllm:num_requests_running"): lambda t: t % 2}
    said = [one for block in range(0, 3600, 11) for one in samples(rows, start_s=100.0 + block)]
    (running,) = series(built(said, end_s=3700.0, window=(0.0, 3600.0)), "running")
    assert len(running["t_s"]) <= 600
    assert running["t_s"] == sorted(running["t_s"])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sglang:token_usage", "sglang"),
        ("tgi_queue_size", "tgi"),
        ("llamacpp:requests_processing", "llama.cpp"),
        ("DCGM_FI_DEV_GPU_UTIL", "dcgm"),
        ("process_cpu_seconds_total", ""),
    ],
)
def test_the_kind_is_told_by_the_names(name, expected):
    assert kind_of([name, "process_resident_memory_bytes"]) == expected


def test_names_a_collector_changed_are_known():
    assert raw_name("vllm_num_requests_running") in WANTED
    assert raw_name("sglang_token_usage") in WANTED
    assert raw_name("tgi_queue_size") in WANTED


def test_every_quantity_has_a_name_of_its_own_and_ratios_a_denominator_each():
    names = [quantity.name for quantity in QUANTITIES]
    assert len(names) == len(set(names))
    assert all(len(one.over) == len(one.of) for one in QUANTITIES if one.form == "ratio")


def test_growth_between_readings():
    counted = grown(ServerColumn((0.0, 10.0), (5.0, 105.0)))
    assert growth(counted, 2.5, 7.5) == (50.0, 5.0)
    assert growth(counted, -100.0, 5.0) == (50.0, 5.0)
    assert growth(counted, 11.0, 12.0) is None
    assert growth(ServerColumn((1.0,), (0.0,)), 0.0, 2.0) is None


def test_quantiles_of_buckets():
    inf = float("inf")
    assert quantile({1.0: 10.0, 2.0: 20.0, inf: 20.0}, 0.5) == 1.0
    assert quantile({1.0: 10.0, 2.0: 20.0, inf: 20.0}, 0.75) == 1.5
    assert quantile({1.0: 0.0, inf: 5.0}, 0.9) == 1.0
    assert quantile({}, 0.5) is None
    assert quantile({1.0: 0.0, inf: 0.0}, 0.5) is None
