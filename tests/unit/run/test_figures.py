import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from mnasbench.run.figures import (
    PERCENTILES,
    distribution,
    figures,
    mean_interval,
    percentile_interval,
    requests_needed,
)
from mnasbench.run.performance import Load, Measured, Records


def closed_loop(sessions=2, service=0.1, seconds=10.0, preprocessing=0.02):
    """Records of sessions that never rest, the first request of each at time 100."""
    count = int(np.ceil(seconds / service))
    begin = np.tile(100 + service * np.arange(count), sessions)
    records = Records(begin, begin, begin + preprocessing, begin + service)
    order = np.argsort(records.end, kind="stable")
    return Measured(
        records=Records(*(getattr(records, name)[order] for name in ("due", "begin", "ready", "end"))),
        started=100.0,
        finished=100.0 + seconds,
        cpu_seconds=7.0,
        peak_bytes=1000,
        load_seconds=0.5,
        first_inference_seconds=0.25,
    )


def test_a_steady_closed_loop_has_the_figures_that_arithmetic_gives():
    found = figures(closed_loop(), Load(instances=2, batch=4))
    assert found["throughput_qps"] == pytest.approx(2 / 0.1 * 4)
    assert found["throughput_interval"] == pytest.approx((80, 80))
    assert found["latency_us"]["avg"] == pytest.approx(1e5)
    assert found["service_us"]["avg"] == pytest.approx(8e4)
    assert found["preprocessing_us"]["max"] == pytest.approx(2e4)
    assert found["queue_us"]["max"] == 0
    assert (found["requests"], found["samples"]) == (200, 800)
    assert found["cpu_us_per_image"] == pytest.approx(7 / 800 * 1e6)
    assert found["littles_law"]["in_flight"] == pytest.approx(2)
    assert found["littles_law"]["ratio"] == pytest.approx(1)
    assert found["windows"]["throughput_qps"] == pytest.approx([80] * 10)
    assert found["windows"]["spread"] == pytest.approx(0)
    assert found["first_inference_us"] == 250_000


def test_throughput_is_of_the_wall_clock_not_of_the_median():
    measured = closed_loop(sessions=1)
    records = measured.records
    late = records.begin >= 105  # nothing happens from 105 to 115, then it goes on
    moved = Records(*(getattr(records, name) + 10 * late for name in ("due", "begin", "ready", "end")))
    stalled = Measured(moved, 100.0, 120.0, 1.0, 1, 1.0, 1.0)
    assert figures(stalled, Load())["throughput_qps"] == pytest.approx(5)
    assert figures(stalled, Load())["windows"]["spread"] > 0.9


def test_a_request_that_straddles_the_end_counts_by_its_share():
    records = Records(*(np.array(column) for column in ([0.0, 2.0], [0.0, 2.0], [0.0, 2.0], [2.0, 6.0])))
    assert figures(Measured(records, 0.0, 3.0, 1.0, 1, 1.0, 1.0), Load())["throughput_qps"] == pytest.approx(1.25 / 3)


def test_percentiles_are_withheld_as_early_stopping_asks():
    assert requests_needed(0.9) == 64
    assert requests_needed(0.99) == 662
    values = np.linspace(1, 2, 661)
    found = distribution(values, np.zeros(661, dtype=int))
    assert found["p99"] is None and found["intervals"]["p99"] is None
    assert found["p90"] == pytest.approx(1e6 * np.quantile(values, 0.9))
    assert distribution(np.linspace(1, 2, 662), np.zeros(662, dtype=int))["p99"] is not None


@given(st.lists(st.floats(0.001, 10), min_size=70, max_size=300))
def test_intervals_hold_their_percentile_and_lie_within_the_sample(values):
    found = distribution(np.array(values), np.arange(len(values)) % 5)
    for name in ("p50", "p90"):
        low, high = found["intervals"][name]
        # np.quantile interpolates between neighbours, hence the rounding.
        assert found["min"] <= low <= found[name] * (1 + 1e-9) and found[name] * (1 - 1e-9) <= high <= found["max"]


@pytest.mark.parametrize("quantile", PERCENTILES.values())
@pytest.mark.parametrize("times", [1, 2, 10, 100])
def test_an_interval_covers_the_true_quantile_as_often_as_it_says(quantile, times):
    # Of any law without ties: how many values lie below the true quantile is binomial, and sorted values 0..n-1 name
    # the ranks that the interval takes. Ranks are whole, so a small sample's interval holds it more often.
    requests = requests_needed(quantile) * times
    low, high = (int(rank) for rank in percentile_interval(np.arange(float(requests)), quantile))
    covered = binom.cdf(high, requests, quantile) - binom.cdf(low, requests, quantile)
    assert 0.95 <= covered <= (0.96 if times * min(quantile, 1 - quantile) * requests_needed(quantile) > 50 else 0.99)


def test_the_interval_of_a_mean_is_students():
    low, high = mean_interval(np.array([1.0, 2.0, 3.0]))
    assert (low, high) == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5))
    assert mean_interval(np.array([1.0])) is None
