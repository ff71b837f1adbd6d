"""Token counts drawn from a distribution, by its inverse: one uniform number gives one length."""

import math
from collections.abc import Callable
from statistics import NormalDist

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.load_test import Lengths

MOST_TOKENS = 16_777_216
"""More is a mistyped number; it also keeps prompts within memory."""
_NORMAL = NormalDist()
_NEAREST = 1e-12
"""The inverse of the normal distribution is not finite at 0 and 1."""


def sampler(lengths: Lengths) -> Callable[[float], int]:
    """A function from a uniform number in [0, 1) to a length. Raises `InvalidInput` for kind `trace`: rows have it."""
    low, high = lengths.low, lengths.high
    if lengths.kind == "uniform":
        width = high - low + 1
        return lambda u: low + int(u * width)
    if lengths.kind == "normal":
        mean, spread = lengths.mean, lengths.spread
        return lambda u: _within(mean + spread * _z(u), low, high)
    if lengths.kind == "lognormal":
        location, sigma = math.log(lengths.mean), lengths.spread
        return lambda u: _within(math.exp(min(700.0, location + sigma * _z(u))), low, high)
    if lengths.kind == "trace":
        raise InvalidInput("Lengths of kind 'trace' are those of a trace's rows; this data set has no lengths.")
    return lambda _: low


def check(lengths: Lengths, field: str) -> None:
    """Raises `InvalidInput` naming the field that makes no distribution."""
    if lengths.kind not in {"fixed", "uniform", "normal", "lognormal", "trace"}:
        _refuse(field + ".kind", lengths.kind, "use fixed, uniform, normal, lognormal or trace")
    if lengths.kind == "trace":
        return
    if lengths.low < 0:
        _refuse(field + ".low", lengths.low, "a length is not negative")
    if lengths.high > MOST_TOKENS:
        _refuse(field + ".high", lengths.high, f"at most {MOST_TOKENS}")
    if lengths.high < lengths.low:
        _refuse(field + ".high", lengths.high, f"it must not be below {field}.low, which is {lengths.low}")
    if lengths.kind == "fixed" and lengths.low != lengths.high:
        _refuse(field + ".high", lengths.high, f"a fixed length has low = high; low is {lengths.low}")
    if lengths.kind in {"normal", "lognormal"}:
        if not lengths.mean > 0 or math.isinf(lengths.mean):
            _refuse(field + ".mean", lengths.mean, "it must be above 0")
        if not lengths.spread >= 0 or math.isinf(lengths.spread):
            _refuse(field + ".spread", lengths.spread, "it must not be negative")


def _refuse(field: str, value: object, way_out: str) -> None:
    raise InvalidInput(f"{field} is {value}; {way_out}.", {"field": field, "value": str(value)})


def _z(u: float) -> float:
    return _NORMAL.inv_cdf(min(1 - _NEAREST, max(_NEAREST, u)))


def _within(value: float, low: int, high: int) -> int:
    return low if value <= low else high if value >= high else round(value)
