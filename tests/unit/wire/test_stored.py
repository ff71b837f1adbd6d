"""Completions that an older build stored: what cannot be a count or a time is dropped, and nothing else."""

import json

import pytest

from evalmesh.domain.completion import Completion, Timing, Usage
from evalmesh.domain.errors import InternalError
from evalmesh.wire.codec import encode_rows
from evalmesh.wire.runs.stored import decode_completions

GOOD = Completion("s/0", 0, "d", text="four", usage=Usage(7, 2), timing=Timing(1.0, 0.5, 0.1))


def stored(**changes: object) -> bytes:
    row = json.loads(encode_rows([GOOD]))
    return encode_rows([GOOD]) + (json.dumps(row | changes) + "\n").encode()


def test_sound_rows_are_unchanged():
    assert decode_completions(encode_rows([GOOD, GOOD])) == [GOOD, GOOD]


@pytest.mark.parametrize("count", [2**64 - 1, 2**63, -1, 10**25])
def test_counts_out_of_range_are_absent(count):
    kept, healed = decode_completions(stored(usage={"input_tokens": count, "output_tokens": 2}))
    assert kept == GOOD
    assert (healed.text, healed.usage, healed.timing) == ("four", Usage(None, 2), GOOD.timing)


@pytest.mark.parametrize(
    "timing",
    [
        {"start_time": 1.0, "latency_s": None},
        {"start_time": None, "latency_s": 1.0},
        {"start_time": 1.0, "latency_s": -0.5},
        {"start_time": 1.0, "latency_s": 0.5, "ttft_s": -1.0},
    ],
)
def test_times_that_are_none_cost_the_timing_alone(timing):
    kept, healed = decode_completions(stored(timing=timing))
    assert kept == GOOD
    assert (healed.text, healed.usage, healed.timing) == ("four", GOOD.usage, None)


@pytest.mark.parametrize("damage", [b"[]\n", b'{"sample_id": 1}\n', b'{"broken'])
def test_other_damage_is_told(damage):
    with pytest.raises(InternalError, match="key, line 2"):
        decode_completions(encode_rows([GOOD]) + damage, "key")
