import math

import numpy as np
import pytest

from evalmesh.load.measure.histogram import RELATIVE_ERROR, Histogram


def of(values: np.ndarray) -> Histogram:
    histogram = Histogram()
    histogram.add_all(values.tolist())
    return histogram


@pytest.mark.parametrize("scale_s", [2e-6, 0.01, 5.0, 4000.0])
def test_quantiles_are_within_the_stated_error(scale_s: float) -> None:
    values = np.random.default_rng(1).lognormal(0, 1.0, 5000) * scale_s
    histogram = of(values)
    for q in (0.01, 0.25, 0.5, 0.9, 0.99, 0.999):
        exact = np.quantile(values, q, method="lower")
        assert histogram.quantile(q) == pytest.approx(max(exact, 1e-6), rel=RELATIVE_ERROR * 1.01)
    assert histogram.mean == pytest.approx(values.mean())
    assert (histogram.min, histogram.max) == (values.min(), values.max())


def test_merging_equals_recording_at_one_place() -> None:
    values = np.random.default_rng(2).lognormal(-4, 0.5, 3000)
    merged = Histogram.merged([of(values[:1000]), of(values[1000:]), Histogram()])
    assert merged.counts == of(values).counts
    assert (merged.n, merged.min, merged.max) == (3000, values.min(), values.max())


@pytest.mark.parametrize(
    "values", [[0.01], [1e-6], [1e-7, -1.0, 0.0], [1e-5, 3e4], [0.01] * 100_000, [0.5, 0.02] * 300]
)
def test_bytes_hold_all_of_it(values: list[float]) -> None:
    histogram = of(np.array(values))
    again = Histogram.decode(histogram.encode())
    assert again.counts == histogram.counts
    assert (again.n, again.total, again.min, again.max) == (
        histogram.n,
        histogram.total,
        histogram.min,
        histogram.max,
    )


def test_nothing_recorded_is_no_bytes() -> None:
    assert Histogram().encode() == b""
    assert Histogram.decode(b"").n == 0
    assert math.isnan(Histogram().quantile(0.5))


@pytest.mark.parametrize("cut", [1, 20, 28, -1, -2])
def test_bytes_that_were_cut_are_refused(cut: int) -> None:
    data = of(np.random.default_rng(3).lognormal(-4, 0.5, 300)).encode()
    with pytest.raises(ValueError, match="are no histogram"):
        Histogram.decode(data[:cut])
    with pytest.raises(ValueError, match="are no histogram"):
        Histogram.decode(data + b"\x80")
