"""Levels that nobody sent: queues simulated to the event, and the records an engine would have written of them."""

import heapq
import math
from dataclasses import dataclass

import numpy as np

from evalmesh.domain.load_test import LoadLevel
from evalmesh.load.measure.histogram import Histogram
from evalmesh.load.measure.inputs import GeneratorHealth, LevelInputs, Second
from evalmesh.load.measure.records import Flag, Outcome
from evalmesh.load.measure.table import DTYPE, Records


@dataclass(frozen=True)
class Server:
    """`slots` requests at once; each takes `ttft_s` and then `token_s` per further token. Others wait in line."""

    slots: int = 32
    ttft_s: float = 0.1
    token_s: float = 0.01
    low: int = 16
    high: int = 48


def closed(server: Server, parallel: int, number: int = 0, duration_s: float = math.inf, seed: int = 1) -> Records:
    """`parallel` requests in flight; each client sends its next request when its last one was answered."""
    rng = np.random.default_rng(seed)
    slots = [0.0] * server.slots
    clients = [(0.0, k) for k in range(parallel)]
    rows = []
    while clients and (not number or len(rows) < number):
        due, client = heapq.heappop(clients)
        if due > duration_s:
            break
        rows.append(_serve(server, slots, due, rng))
        heapq.heappush(clients, (rows[-1][2], client))
    return records(rows, server)


def open_loop(server: Server, due: np.ndarray, seed: int = 1) -> Records:
    """Requests sent when they are due, however many are in flight."""
    rng = np.random.default_rng(seed)
    slots = [0.0] * server.slots
    return records([_serve(server, slots, float(at), rng) for at in due], server)


def _serve(server: Server, slots: list[float], at: float, rng: np.random.Generator) -> tuple[float, float, float, int]:
    tokens = int(rng.integers(server.low, server.high + 1))
    first = max(at, slots[0]) + server.ttft_s
    last = first + (tokens - 1) * server.token_s
    heapq.heapreplace(slots, last)
    return at, first, last, tokens


def records(rows: list[tuple[float, float, float, int]], server: Server = Server()) -> Records:
    """From (due and send, first token, last token, tokens)."""
    found = np.zeros(len(rows), DTYPE)
    table = np.array(rows, float).reshape(-1, 4)
    found["index"] = found["conversation"] = np.arange(len(rows))
    found["status"] = 200
    found["flags"] = Flag.USAGE
    found["due_s"] = found["send_s"] = table[:, 0]
    found["first_s"], found["last_s"], found["output_tokens"] = table[:, 1], table[:, 2], table[:, 3]
    found["end_s"] = found["last_s"]
    found["first_byte_s"] = found["first_s"] - found["send_s"]
    found["itl_mean_s"] = found["itl_p99_s"] = found["itl_max_s"] = server.token_s
    found["chunks"] = found["output_tokens"]
    found["input_tokens"] = found["prepared_tokens"] = 128
    return found


def seconds_of(table: Records, token_s: float = 0.01, generator: int = 0) -> tuple[Second, ...]:
    """What the engine would have told each second: counts of requests, and a histogram of the gaps."""
    told = []
    for second in range(int(np.nanmax(table["end_s"])) + 1 if len(table) else 0):
        gaps = Histogram()
        long_s = np.minimum(table["last_s"], second + 1) - np.maximum(table["first_s"], second)
        many = int(np.nansum(np.maximum(long_s, 0)) / token_s)
        if many:
            gaps.add(token_s, many)
        sent = int(((table["send_s"] >= second) & (table["send_s"] < second + 1)).sum())
        ended = (table["end_s"] >= second) & (table["end_s"] < second + 1)
        ok = int((ended & (table["outcome"] == Outcome.OK)).sum())
        told.append(
            Second(
                second, generator, sent=sent, ok=ok, errors=int(ended.sum()) - ok, cpu=0.1, loop_lag_ms=0.2,
                output_tokens=many, histograms={"itl": gaps, "chunk_gap": gaps},
            )
        )  # fmt: skip
    return tuple(told)


def inputs(table: Records, level: LoadLevel, **other: object) -> LevelInputs:
    """What the service would hand over after a level without trouble."""
    known = {
        "generators": (GeneratorHealth(0, host="a", cap=level.parallel, cpu=0.1, loop_lag_p99_ms=0.1),),
        "arrival": "closed" if not level.rate else "poisson",
    }
    if "seconds" not in other:
        known["seconds"] = seconds_of(table)
    return LevelInputs(level=level, records=table, **(known | other))
