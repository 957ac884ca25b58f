"""Every figure of a performance run, from the times of its requests. One definition each; docs/measurement.md.

Times are on the monotonic clock. The measured phase begins when all sessions are warm, and ends when the first
of them finds no more work, so that all are busy throughout.
"""

import functools
import itertools
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy  # its parts are imported when they are used, which an accuracy run does not do

from mnasbench.run.performance import Load, Measured

Float64Array = npt.NDArray[np.float64]

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}
CONFIDENCE = 0.95
# MLPerf's early stopping: with 99 % confidence at least two requests must lie above the percentile.
_EARLY_STOPPING = 0.99
# At least three windows tell a drift from a difference between two halves; a second each is enough for tens of
# requests, and more than twenty say no more.
_MIN_WINDOWS, _MAX_WINDOWS, _WINDOW_SECONDS = 3, 20, 1.0


@functools.cache
def requests_needed(quantile: float) -> int:
    """Requests below which a percentile is withheld: 64 for p90, 662 for p99.

    The smallest n for which at most one of n requests lies above the percentile with probability <= 1 %.
    """
    n = 2
    while scipy.special.bdtr(1, n, 1 - quantile) > 1 - _EARLY_STOPPING:
        n += 1
    return n


def percentile_interval(ordered: Float64Array, quantile: float) -> tuple[float, float]:
    """Distribution-free 95 % interval of a quantile of sorted values, from the binomial law of their ranks.

    Two-sided; a bound whose rank lies outside the sample is the sample's extreme.
    """
    n = len(ordered)
    ranks = np.arange(n + 1)
    cumulative = scipy.special.bdtr(ranks, n, quantile)  # P(at most k values lie below the quantile)
    tail = (1 - CONFIDENCE) / 2
    low = int(np.searchsorted(cumulative, tail, side="right"))
    high = int(np.searchsorted(cumulative, 1 - tail, side="left")) + 1
    return float(ordered[max(low - 1, 0)]), float(ordered[min(high - 1, n - 1)])


def mean_interval(values: Float64Array) -> tuple[float, float] | None:
    """95 % interval of a mean by Student's t; None for fewer than two values."""
    n = len(values)
    if n < 2:
        return None
    half = float(scipy.special.stdtrit(n - 1, (1 + CONFIDENCE) / 2) * values.std(ddof=1) / np.sqrt(n))
    mean = float(values.mean())
    return mean - half, mean + half


def distribution(values: Float64Array, window: npt.NDArray[np.intp]) -> dict[str, Any]:
    """avg, min, max and percentiles of ``values`` in seconds, as microseconds, with 95 % intervals.

    A percentile is None where there are too few values. The interval of the mean comes from the means of the
    windows that the values fall into (``window``, one index each), because neighbours are correlated.
    """
    ordered = np.sort(values) * 1e6
    latencies: dict[str, Any] = {"avg": float(ordered.mean()), "min": float(ordered[0]), "max": float(ordered[-1])}
    means = np.array([values[window == w].mean() for w in np.unique(window)]) * 1e6
    intervals: dict[str, Any] = {"avg": mean_interval(means)}
    for name, quantile in PERCENTILES.items():
        enough = len(ordered) >= requests_needed(quantile)
        latencies[name] = float(np.quantile(ordered, quantile)) if enough else None
        intervals[name] = percentile_interval(ordered, quantile) if enough else None
    return {**latencies, "intervals": intervals}


def _overlap(begin: Float64Array, end: Float64Array, low: float, high: float) -> Float64Array:
    """Seconds that each interval spends in [low, high]."""
    overlap: Float64Array = np.maximum(np.minimum(end, high) - np.maximum(begin, low), 0.0)
    return overlap


def _rate(measured: Measured, low: float, high: float) -> float:
    """Requests a second in [low, high]; one that straddles a bound counts by the share of its time inside."""
    records = measured.records
    shares = _overlap(records.begin, records.end, low, high) / np.maximum(records.end - records.begin, 1e-9)
    return float(shares.sum() / (high - low))


def window_bounds(measured: Measured) -> Float64Array:
    """Bounds of equal windows over the measured phase: one a second, at least 3, at most 20."""
    count = int((measured.finished - measured.started) / _WINDOW_SECONDS)
    return np.linspace(measured.started, measured.finished, min(max(count, _MIN_WINDOWS), _MAX_WINDOWS) + 1)


def figures(measured: Measured, load: Load) -> dict[str, Any]:
    """All figures of a run as plain JSON values; microseconds, seconds, bytes, images a second."""
    records = measured.records
    elapsed = measured.finished - measured.started
    bounds = window_bounds(measured)
    rates = np.array([_rate(measured, low, high) for low, high in itertools.pairwise(bounds)])
    window = np.clip(np.searchsorted(bounds, records.end) - 1, 0, len(rates) - 1)
    requests_per_second = _rate(measured, measured.started, measured.finished)
    images = len(records.end) * load.batch
    in_flight = float(_overlap(records.due, records.end, measured.started, measured.finished).sum() / elapsed)
    latency = records.end - records.due
    expected_in_flight = requests_per_second * float(latency.mean())
    return {
        "throughput_qps": requests_per_second * load.batch,
        "throughput_interval": _scaled(mean_interval(rates), load.batch),
        "latency_us": distribution(latency, window),
        "service_us": distribution(records.end - records.ready, window),
        "preprocessing_us": distribution(records.ready - records.begin, window),
        "queue_us": distribution(records.begin - records.due, window),
        "requests": len(records.end),
        "samples": images,
        "elapsed_seconds": float(records.end[-1] - measured.started),
        "measured_seconds": elapsed,
        "windows": {
            "seconds": elapsed / len(rates),
            "throughput_qps": (rates * load.batch).tolist(),
            "spread": float((rates.max() - rates.min()) / np.median(rates)) if np.median(rates) > 0 else None,
        },
        "littles_law": {
            "in_flight": in_flight,
            "throughput_times_latency": expected_in_flight,
            "ratio": expected_in_flight / in_flight if in_flight else None,
        },
        "cpu_us_per_image": measured.cpu_seconds / images * 1e6,
        "cpu_seconds": measured.cpu_seconds,
        "peak_memory_bytes": measured.peak_bytes,
        "load_seconds": measured.load_seconds,
        "first_inference_us": measured.first_inference_seconds * 1e6,
        "settings": asdict(load),
    }


def _scaled(interval: tuple[float, float] | None, factor: float) -> tuple[float, float] | None:
    return None if interval is None else (interval[0] * factor, interval[1] * factor)
