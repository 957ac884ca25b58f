import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mnasbench.build.observer import BINS, Histogram, Moments
from mnasbench.errors import ModelError

FLOATS = st.floats(-1e6, 1e6, width=32).filter(lambda value: value == 0 or abs(value) > 1e-20)
CHUNKS = st.lists(arrays(np.float32, st.integers(1, 50), elements=FLOATS), min_size=1, max_size=4)


@given(CHUNKS)
def test_a_histogram_counts_every_value_whatever_the_order(chunks: list[np.ndarray]) -> None:
    forwards, backwards = Histogram(), Histogram()
    for chunk in chunks:
        forwards.add(chunk)
    for chunk in reversed(chunks):
        backwards.add(chunk)
    values = np.concatenate(chunks)
    assert (forwards.low, forwards.high) == (values.min(), values.max())
    assert forwards.counts.sum() + forwards.zeros == forwards.count == values.size
    assert forwards.zeros == np.count_nonzero(values == 0)
    assert forwards.width == backwards.width
    np.testing.assert_array_equal(forwards.counts, backwards.counts)


def test_a_histogram_is_numpys_on_the_same_edges() -> None:
    values = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
    histogram = Histogram()
    for chunk in np.split(values, 10):
        histogram.add(chunk)
    np.testing.assert_array_equal(histogram.counts, np.histogram(values, histogram.edges)[0])
    assert np.abs(values).max() > histogram.width * BINS / 4, "half of the bins would be empty"


def test_moments_are_numpys() -> None:
    values = np.random.default_rng(0).normal(size=(6, 5, 7, 7)).astype(np.float32)
    moments = Moments(5)
    for chunk in np.split(values, 3):
        moments.add(chunk)
    np.testing.assert_array_equal(moments.low, values.min(axis=(0, 2, 3)))
    np.testing.assert_array_equal(moments.high, values.max(axis=(0, 2, 3)))
    np.testing.assert_allclose(moments.mean, values.mean(axis=(0, 2, 3), dtype=np.float64))
    assert (moments.count, moments.images) == (6 * 49, 6)


@pytest.mark.parametrize("bad", (np.nan, np.inf, -np.inf))
@pytest.mark.parametrize("observer", (Histogram(), Moments(1)))
def test_values_that_are_no_numbers_are_refused(observer: Histogram | Moments, bad: float) -> None:
    with pytest.raises(ModelError, match="finite"):
        observer.add(np.array([[[1.0, bad]]], np.float32))
