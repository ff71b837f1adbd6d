"""Level documents of load tests as the conductor writes them (docs/perf.schema.json), with plausible figures."""

import math
import random

from evalmesh.domain.load_test import Lengths, LoadLevel, LoadTarget, LoadTest, LoadTestSpec, PromptSpec
from evalmesh.domain.state import State

CREATED = 1_772_000_000.0
STATISTICS = {"p25": -0.67, "p50": 0.0, "p75": 0.67, "p90": 1.28, "p95": 1.64, "p99": 2.33, "p99.9": 3.09}
NONE = dict.fromkeys(("mean", "std", "min", *STATISTICS, "max"))
PROBABILITIES = [round(n / 100, 4) for n in range(101)] + [0.995, 0.999, 1.0]


def make_summary(median=None, spread=0.3, n=1000):
    """A lognormal distribution; `median=None`: nothing was measured."""
    if median is None or not n:
        return {"n": 0, **NONE, "ci95": {}}
    at = {name: median * math.exp(spread * z) for name, z in STATISTICS.items()}
    mean = median * math.exp(spread**2 / 2)
    width = 2 * spread / math.sqrt(n)
    intervals = {name: [value * (1 - width), value * (1 + width)] for name, value in {**at, "mean": mean}.items()}
    ci95 = {name: intervals[name] if n > 20 else None for name in ("mean", "p50", "p90", "p95", "p99")}
    low, high = median * math.exp(-3 * spread), median * math.exp(3.6 * spread)
    return {"n": n, "mean": mean, "std": mean * spread, "min": low, **at, "max": high, "ci95": ci95}


def make_tokens(mean=None, n=1000):
    if mean is None:
        return {"n": 0, "total": 0, **dict.fromkeys(("mean", "std", "min", "p50", "p90", "p99", "max"))}
    spread = {"p50": mean, "p90": mean * 1.2, "p99": mean * 1.4, "max": mean * 2}
    return {"n": n, "total": int(mean * n), "mean": mean, "std": mean * 0.2, "min": mean * 0.5, **spread}


def make_curve(median, spread):
    """Quantiles at `PROBABILITIES`."""
    draw = random.Random(3)
    values = sorted(median * math.exp(spread * draw.gauss(0, 1)) for _ in range(2000))
    return [values[min(1999, int(p * 2000))] for p in PROBABILITIES]


def make_timeline(seconds, **arrays):
    empty = (
        *("input_tokens", "ttft_p50_ms", "ttft_p99_ms", "ttft_due_p99_ms", "itl_p50_ms", "itl_p99_ms", "e2e_p50_ms"),
        *("e2e_p99_ms", "send_lag_p99_ms", "cpu", "loop_lag_ms", "output_tokens"),
    )
    fields = {name: [None] * seconds for name in empty}
    fields |= {name: [0] * seconds for name in ("sent", "ok", "errors", "in_flight", "queued")}
    return {"step_s": 1.0, "t_s": [float(n) for n in range(seconds)], "offered": [None] * seconds, **fields, **arrays}


def make_generator(seat=0, **changes):
    fields = {
        "seat": seat,
        "host": "load-1",
        "requests": 1000,
        "ok": 990,
        "errors": {},
        "unsent": 0,
        "lost": False,
        "cap": 8,
        "clock_offset_s": 0.0,
        "clock_error_s": 0.00002,
        "cpu": 0.31,
        "loop_lag_p99_ms": 0.4,
        "loop_lag_max_ms": 2.2,
        "peak_in_flight": 8,
        "error": "",
    }
    return fields | changes


def make_term(metric="ttft", statistic="p99", limit=500.0, value=210.0, **changes):
    unit = "" if metric == "error_rate" else ("1/s" if metric.endswith("_rate") else "ms")
    met = value is not None and (value >= limit if unit == "1/s" else value <= limit)
    fields = {
        "metric": metric,
        "statistic": statistic,
        "limit": limit,
        "unit": unit,
        "source": f"{metric}_ms.{statistic}" if statistic else metric,
        "value": value,
        "interval": None if value is None else [value * 0.95, value * 1.05],
        "beyond": None,
        "implied": False,
        "decision": "met" if met else "missed",
    }
    made = fields | changes
    return made | {"met": {"met": True, "missed": False}.get(made["decision"])}


def make_slo(*terms):
    decisions = {term["decision"] for term in terms}
    whole = "missed" if "missed" in decisions else ("undecided" if "undecided" in decisions else "met")
    return {"met": {"met": True, "missed": False}.get(whole), "decision": whole, "terms": list(terms)}


def make_goodput(rate, share, n=1000):
    ci95 = {"rate": [rate * 0.97, rate * 1.03], "share": [share * 0.97, min(1.0, share * 1.03)]}
    terms = ["ttft at most 500 ms", "itl mean at most 50 ms"]
    return {"rate": rate, "share": share, "good": int(n * share), "requests": n, "ci95": ci95, "terms": terms}


def make_level(index=0, parallel=8, *, ttft=50.0, itl=10.0, seconds=20, n=2000, **changes):  # long: a whole document
    """A level of closed loop; `rate` in `changes` makes it Poisson arrivals; `ttft=None`: no tokens come out."""
    rate = changes.pop("rate", 0.0)
    tokens = 64
    answer = ttft + itl * (tokens - 1) if ttft is not None else itl
    reached = rate or 1000 * parallel / answer
    rows = seconds
    draw = random.Random(index)
    per_second = [round(reached * draw.uniform(0.95, 1.05)) for _ in range(rows)]
    streams = ttft is not None
    due = bool(rate)

    def noisy(value):
        return [None if value is None else value * draw.uniform(0.93, 1.1) for _ in range(rows)]

    timeline = make_timeline(
        rows,
        sent=per_second,
        ok=per_second,
        offered=[rate] * rows if due else [None] * rows,
        in_flight=[parallel or round(rate * answer / 1000)] * rows,
        input_tokens=[count * 256 for count in per_second],
        output_tokens=[count * tokens for count in per_second] if streams else [None] * rows,
        ttft_p50_ms=noisy(ttft),
        ttft_p99_ms=noisy(ttft and ttft * 2),
        ttft_due_p99_ms=noisy(ttft and ttft * 2.1) if due else [None] * rows,
        itl_p50_ms=noisy(itl if streams else None),
        itl_p99_ms=noisy(itl * 1.6 if streams else None),
        e2e_p50_ms=noisy(answer),
        e2e_p99_ms=noisy(answer * 1.3),
        send_lag_p99_ms=noisy(0.3),
        cpu=[0.31] * rows,
        loop_lag_ms=noisy(0.8),
    )
    values = {"e2e_ms": make_curve(answer, 0.1)}
    if streams:
        values |= {"ttft_ms": make_curve(ttft, 0.3), "tpot_ms": make_curve(itl, 0.1)}
        values |= {"itl_ms": make_curve(itl, 0.2), "chunk_gap_ms": make_curve(itl * 2, 0.2)}
    fields = {
        "schema_version": 1,
        "index": index,
        "repeat": 0,
        "role": "level",
        "state": "done",
        "label": f"rate {rate:g}" if rate else f"parallel {parallel}",
        "arrival": "poisson" if rate else "closed",
        "parallel": 0 if rate else parallel,
        "rate": rate,
        "number": n,
        "level_duration_s": 0.0,
        "stages": [],
        "start_time": "2026-02-25T06:13:21.000Z",
        "end_time": "2026-02-25T06:13:41.000Z",
        "wall_s": float(seconds),
        "planned": n,
        "requests": n,
        "sent": n,
        "ok": n,
        "errors": {},
        "cancelled": 0,
        "unsent": 0,
        "skipped": 0,
        "lost": 0,
        "warmup": {"requests": 0, "ok": 0, "errors": {}},
        "error_rate": 0.0,
        "error_examples": [],
        "window": {
            "start_s": 1.0,
            "end_s": max(1.5, seconds - 2.0),
            "duration_s": max(0.5, seconds - 3.0),
            "rate_start_s": 0.4,
            "rate_end_s": 30.4,
            "requests": n - 200 if n > 400 else n,
            "ok": n - 200 if n > 400 else n,
            "errors": {},
            "rule": "closed_loop",
            "steady": True,
            "drift": None,
            "note": "Steady from 1.0 s on.",
        },
        "request_rate": reached,
        "offered_rate": rate or None,
        "input_token_rate": reached * 256,
        "output_token_rate": reached * tokens if streams else None,
        "total_token_rate": reached * (256 + tokens) if streams else reached * 256,
        "rates_ci95": {
            "request_rate": [reached * 0.98, reached * 1.02],
            "input_token_rate": [reached * 250, reached * 262],
            "output_token_rate": [reached * 63, reached * 65] if streams else None,
            "total_token_rate": None,
            "error_rate": [0.0, 0.002],
        },
        "ttft_ms": make_summary(ttft, n=n),
        "ttft_due_ms": make_summary(ttft and ttft * 1.02, n=n) if due else None,
        "itl_ms": make_summary(itl if streams else None, 0.2, n * 63),
        "chunk_gap_ms": make_summary(itl * 2 if streams else None, 0.2, n * 32),
        "tpot_ms": make_summary(itl if streams else None, 0.1, n),
        "tpot_due_ms": make_summary(itl if streams else None, 0.1, n) if due else None,
        "e2e_ms": make_summary(answer, 0.1, n),
        "e2e_due_ms": make_summary(answer * 1.01, 0.1, n) if due else None,
        "queue_ms": make_summary(0.05, 0.5, n),
        "send_lag_ms": make_summary(0.05, 0.5, n),
        "connect_ms": make_summary(0.4, 0.3, parallel),
        "first_byte_ms": make_summary(ttft or answer, 0.3, n),
        "input_tokens": make_tokens(256, n),
        "output_tokens": make_tokens(tokens if streams else None, n),
        "cached_tokens": make_tokens(),
        "reasoning_tokens": make_tokens(),
        "token_source": "usage",
        "token_mismatches": 0,
        "goodput": None,
        "slo": None,
        "client_limited": False,
        "client": {
            "limited": False,
            "grade": "fine",
            "reasons": [],
            "advice": [],
            "cpu": 0.31,
            "loop_lag_p99_ms": 0.4,
            "loop_lag_max_ms": 2.2,
            "send_lag_p99_ms": 0.2,
            "send_lag_bound_ms": 1.0,
            "feed_starved": False,
            "peak_in_flight": parallel,
            "connections": parallel,
            "max_rss_bytes": 41_000_000,
        },
        "generators": [make_generator(requests=n, ok=n)],
        "timeline": timeline,
        "distributions": {"probabilities": PROBABILITIES, "values": values},
        "turns": [],
        "lengths": [],
        "server": None,
        "notes": [],
    }
    return fields | changes


def make_limited(level, reason="The busiest engine used 97% of a core: it could not send or read any faster."):
    """The same level, measured by a client that was the bottleneck."""
    found = {"limited": True, "grade": "unusable", "reasons": [reason], "advice": ["use more --generators"]}
    return level | {"client_limited": True, "client": level["client"] | found}


def make_failures(level, **errors):
    """The same level with failed requests: `http_429=12`."""
    count = sum(errors.values())
    examples = [
        {
            "class": name,
            "count": number,
            "message": f"the server said: {name}",
            "examples": [
                {
                    "index": 17 + n,
                    "turn": 0,
                    "generator": 0,
                    "send_s": 1.5 + n,
                    "after_ms": 12.5,
                    "status": int(name[5:]) if name.startswith("http_") else 200,
                    "output_tokens": 3,
                }
                for n in range(min(5, number))
            ],
        }
        for name, number in errors.items()
    ]
    ok = level["requests"] - count
    timeline = level["timeline"]
    each = count // max(1, len(timeline["t_s"]))
    return level | {
        "ok": ok,
        "errors": errors,
        "error_rate": count / level["requests"],
        "error_examples": examples,
        "window": level["window"] | {"errors": errors, "ok": max(0, level["window"]["ok"] - count)},
        "timeline": timeline | {"errors": [each] * len(timeline["t_s"])},
    }


def make_server(seconds=20):
    """What a vLLM server and its GPUs say."""
    t_s = [float(n) for n in range(seconds)]

    def series(name, unit, value, label=""):
        return {"name": name, "unit": unit, "label": label, "t_s": t_s, "value": [value(t) for t in t_s]}

    return {
        "sources": [
            {"url": "http://127.0.0.1:8000/metrics", "kind": "vllm", "error": ""},
            {"url": "http://127.0.0.1:9400/metrics", "kind": "", "error": "connection refused"},
        ],
        "series": [
            series("kv_cache_usage", "share", lambda t: min(0.95, 0.1 + t / 20)),
            series("requests_running", "requests", lambda t: 8 + t % 3),
            series("requests_waiting", "requests", lambda t: max(0.0, t - 12)),
            series("preemptions", "per s", lambda t: float(t > 15)),
            series("gpu_utilization", "share", lambda t: 0.93, "GPU 0"),
            series("gpu_utilization", "share", lambda t: None if t == 7 else 0.88, "GPU 1"),
            series("power", "W", lambda t: 410.0 + 10 * (t % 4), "GPU 0"),
        ],
        "summary": {"tokens_per_joule": 3.21, "energy_j": 8123.0, "kv_cache_usage_max": 0.95, "preemptions": None},
    }


def make_turns():
    def turn(name, number, ttft):
        return {
            "name": name,
            "turn": number,
            "requests": 500,
            "ok": 498,
            "ttft_ms": make_summary(ttft, n=498),
            "tpot_ms": make_summary(10.0, 0.1, 498),
            "e2e_ms": make_summary(700.0, 0.1, 498),
            "input_tokens": make_tokens(300, 498),
            "output_tokens": make_tokens(64, 498),
            "cached_tokens": make_tokens(200 if number else None, 498),
        }

    return [turn("first", 0, 60.0), turn("later", None, 35.0), turn("turn 1", 0, 60.0), turn("turn 2", 1, 35.0)]


def make_lengths(*lengths, n=2):
    """A speed benchmark: TTFT and TPOT grow with the prompt."""
    return [
        {
            "prepared_tokens": length,
            "requests": n,
            "ok": n,
            "input_tokens": make_tokens(length, n),
            "output_tokens": make_tokens(64, n),
            "ttft_ms": make_summary(20.0 + length / 10, n=n),
            "tpot_ms": make_summary(10.0 + length / 10_000, 0.1, n),
            "e2e_ms": make_summary(700.0 + length / 10, 0.1, n),
            "output_token_rate_per_request": 64_000 / (700.0 + length / 10),
            "prefill_token_rate": 1000 * length / (20.0 + length / 10),
        }
        for length in lengths or (1, 6144, 14336, 30720)
    ]


def make_test(state=State.SUCCEEDED, *, target=None, body=None, server_metrics=("auto",), **changes):
    spec = LoadTestSpec(
        target or LoadTarget("http://127.0.0.1:8000/v1/chat/completions", "org/qwen-plus", key_ref="env:API_KEY"),
        PromptSpec(
            input_tokens=Lengths("fixed", 512, 512),
            output_tokens=Lengths("fixed", 64, 64),
            body=body or {"temperature": 0},
        ),
        levels=changes.pop("asked", (LoadLevel(parallel=1, number=100), LoadLevel(parallel=8, number=800))),
        display_name=changes.pop("display_name", ""),
        server_metrics=server_metrics,
        **changes.pop("spec", {}),
    )
    times = {"create_time": CREATED, "start_time": CREATED + 1, "end_time": CREATED + 95.5}
    return LoadTest("lt-20260225-abc", spec, state, **(times | changes))
