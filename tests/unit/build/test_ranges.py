import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
from onnxruntime.quantization.calibrate import create_calibrator
from scipy.stats import entropy

from mnasbench.build.calibration import observe
from mnasbench.build.graph import prepare
from mnasbench.build.observer import Histogram
from mnasbench.build.quantize import quantized_tensors
from mnasbench.build.ranges import CALIBRATORS, Range, range_of, squared_error
from unit.build.nets import random_images, small_mnasnet


def seen(values: np.ndarray) -> Histogram:
    histogram = Histogram()
    histogram.add(values)
    return histogram


def samples(kind: str, count: int = 200_000) -> np.ndarray:
    values = np.random.default_rng(5).standard_t(4, count).astype(np.float32)
    return np.maximum(values, 0) if kind == "relu" else values


@given(st.floats(-1e4, 0), st.floats(0, 1e4))
def test_zero_is_exactly_on_a_step(low: float, high: float) -> None:
    scale, zero_point = Range(low, high).scale_and_zero_point
    assert 0 <= zero_point <= 255
    assert scale > 0
    assert -zero_point * scale <= low + scale
    assert (255 - zero_point) * scale >= high - scale


class _Reader(CalibrationDataReader):
    def __init__(self, images: np.ndarray) -> None:
        self.rest = iter(np.split(images, 4))

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self.rest, None)
        return None if batch is None else {"input": batch}


def test_max_is_onnx_runtimes_minmax(tmp_path) -> None:
    model, images = prepare(small_mnasnet()), random_images(16)
    tensors = quantized_tensors(model)
    histograms = {name: Histogram() for name in tensors}
    observe(model, {name: [histogram] for name, histogram in histograms.items()}, lambda: iter(np.split(images, 4)))
    onnx.save(model, tmp_path / "model.onnx")
    calibrator = create_calibrator(
        tmp_path / "model.onnx",
        augmented_model_path=str(tmp_path / "augmented.onnx"),
        calibrate_method=CalibrationMethod.MinMax,
    )
    calibrator.collect_data(_Reader(images))
    theirs = calibrator.compute_data()
    for name in tensors:
        low, high = (np.asarray(value).item() for value in theirs[name].range_value)
        ours = range_of(histograms[name], "largest")
        assert ours.low == pytest.approx(min(low, 0), rel=1e-5)
        assert ours.high == pytest.approx(max(high, 0), rel=1e-5)


@pytest.mark.parametrize("kind", ("signed", "relu"))
@pytest.mark.parametrize("percent", (50.0, 99.0, 99.99))
def test_percentile_is_numpys_to_one_bin(kind: str, percent: float) -> None:
    values = samples(kind)
    histogram = seen(values)
    wanted = np.percentile(np.abs(values), percent, method="inverted_cdf")
    assert range_of(histogram, "percentile", percent).high == pytest.approx(wanted, abs=histogram.width)


@pytest.mark.parametrize("kind", ("signed", "relu"))
def test_mse_is_what_a_search_over_the_raw_values_finds(kind: str) -> None:
    values = samples(kind)
    chosen = range_of(seen(values), "least_squares")

    def error(limit: float) -> float:
        scale, zero_point = Range(max(values.min(), -limit), min(values.max(), limit)).scale_and_zero_point
        steps = np.clip(np.rint(values / scale) + zero_point, 0, 255) - zero_point
        return float(np.square(steps * scale - values, dtype=np.float64).mean())

    best = min(error(limit) for limit in np.linspace(0, np.abs(values).max(), 257)[1:])
    assert error(max(chosen.high, -chosen.low)) <= best * 1.02
    assert chosen.high < values.max(), "a heavy tail is worth clipping"


def test_squared_error_is_that_of_the_raw_values() -> None:
    values, chosen = samples("signed"), Range(-3.0, 4.0)
    scale, zero_point = chosen.scale_and_zero_point
    steps = np.clip(np.rint(values / scale) + zero_point, 0, 255) - zero_point
    raw = np.square(steps * scale - values, dtype=np.float64).sum()
    assert squared_error(seen(values), chosen) == pytest.approx(raw, rel=0.02)


@pytest.mark.parametrize("kind", ("signed", "relu"))
def test_kl_divergence_cuts_a_far_outlier_and_keeps_an_even_distribution(kind: str) -> None:
    even = np.random.default_rng(0).uniform(0 if kind == "relu" else -1, 1, 200_000).astype(np.float32)
    assert range_of(seen(even), "kl_divergence").high == pytest.approx(1, abs=0.05)
    outlier = np.append(even, np.float32(16))
    assert range_of(seen(outlier), "kl_divergence").high < 4


def test_kl_divergence_is_the_smallest_by_scipys_entropy() -> None:
    histogram = seen(samples("relu"))
    counts = histogram.counts.astype(np.float64)

    def divergence(bins: int) -> float:
        p, q = counts[:bins].copy(), np.zeros(bins)
        p[-1] += counts[bins:].sum()
        width = bins // 128
        for level in range(128):
            part = slice(level * width, bins if level == 127 else (level + 1) * width)
            filled = counts[part] > 0
            q[part][filled] = counts[part].sum() / max(filled.sum(), 1)
        p, q = (np.where(x == 0, 1e-4, x - 1e-4 * (x == 0).sum() / (x != 0).sum()) for x in (p, q))
        return float(entropy(p, q))

    best = min(range(128, len(counts) + 1), key=divergence)
    assert range_of(histogram, "kl_divergence").high == pytest.approx(histogram.edges[best])


@pytest.mark.parametrize("calibrator", CALIBRATORS)
@pytest.mark.parametrize("value", (0.0, 3.0, -3.0))
def test_a_constant_tensor_has_a_range_with_zero_in_it(calibrator: str, value: float) -> None:
    chosen = range_of(seen(np.full(1000, value, np.float32)), calibrator)
    assert chosen.low <= 0 <= chosen.high
    assert chosen.scale_and_zero_point[0] > 0
