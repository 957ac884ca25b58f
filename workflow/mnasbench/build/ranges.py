"""From a tensor's calibration statistics to the range of its eight bits, by the calibrator of a precision.

Every calibrator returns a range that holds zero, which the zero padding of Conv needs to be exact.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from onnxruntime.quantization.quant_utils import compute_scale_zp

from mnasbench.build.observer import BINS, Histogram

# Steps of an unsigned 8-bit activation.
LEVELS = 256
# ONNX Runtime's and TensorRT's entropy calibrators compare distributions of this many levels.
_KL_LEVELS = 128
# Counts that an empty bin is given; the logarithm of zero would decide everything else.
_SMOOTHING = 1e-4
# Candidate ranges that `least_squares` compares, evenly spaced down from the full one.
_CANDIDATES = 128


@dataclass(frozen=True)
class Range:
    """``low <= 0 <= high`` in the tensor's unit; the 8-bit steps that spread over it."""

    low: float
    high: float

    @property
    def dtype(self) -> npt.DTypeLike:
        """Element type of the 8-bit steps."""
        return np.uint8

    @property
    def scale_and_zero_point(self) -> tuple[np.float32, int]:
        """As ONNX Runtime computes them for unsigned 8-bit asymmetric quantization (scale 1 for an empty range)."""
        low, high = np.float32(self.low), np.float32(self.high)
        zero_point, scale = compute_scale_zp(low, high, np.array(0), np.array(LEVELS - 1))
        return np.float32(scale), int(zero_point)

    def in_steps(self, values: np.ndarray) -> np.ndarray:
        """Float32 ``values`` as the 8-bit steps give them back, in an array of its own."""
        scale, zero_point = self.scale_and_zero_point
        limits = np.iinfo(self.dtype)
        result = values / scale
        np.rint(result, out=result)
        np.clip(result, limits.min - zero_point, limits.max - zero_point, out=result)
        result *= scale
        return np.asarray(result)


class Symmetric(Range):
    """A range of signed 8-bit steps about zero, of which the largest magnitude is 128, as TVM's quantizer spreads them.

    TVM has no step -128, a QuantizeLinear has: there the most negative value is off by one step less.
    """

    @property
    def dtype(self) -> npt.DTypeLike:
        """Element type of the 8-bit steps."""
        return np.int8

    @property
    def scale_and_zero_point(self) -> tuple[np.float32, int]:
        """Scale (1 for an empty range) and the zero point 0."""
        largest = max(self.high, -self.low)
        return np.float32(largest / (LEVELS // 2) if largest > 0 else 1.0), 0


# From a tensor's histogram and a percentage to the largest magnitude that its range holds.
Calibrator = Callable[[Histogram, float], float]
CALIBRATORS: dict[str, Calibrator] = {}


def _calibrator(function: Calibrator) -> Calibrator:
    """Make ``function`` known under its name, by which an entry of ``mnasbench.precisions`` asks for it."""
    CALIBRATORS[function.__name__] = function
    return function


def range_of(histogram: Histogram, calibrator: str, percent: float = 99.999) -> Range:
    """The range of a whole tensor as the named calibrator chooses it.

    ``percent``: how many of the values, by magnitude, the range of ``percentile`` holds; the others do not ask.
    """
    limit = CALIBRATORS[calibrator](histogram, percent)
    return Range(max(min(histogram.low, 0.0), -limit), min(max(histogram.high, 0.0), limit))


def _magnitudes(histogram: Histogram) -> tuple[np.ndarray, np.ndarray]:
    """Counts by magnitude, and the upper edge of each bin; the sign is folded away, zeros are not in it."""
    counts = histogram.counts.astype(np.float64)
    if histogram.signed:
        counts = counts[BINS // 2 :] + counts[BINS // 2 - 1 :: -1]
    return counts, np.arange(1, len(counts) + 1) * histogram.width


@_calibrator
def largest(histogram: Histogram, percent: float) -> float:
    """The largest magnitude of all values."""
    return max(histogram.high, -histogram.low, 0.0)


@_calibrator
def percentile(histogram: Histogram, percent: float) -> float:
    """The magnitude that ``percent`` percent of all values (zeros counted) do not exceed, to one bin."""
    counts, edges = _magnitudes(histogram)
    reached = histogram.zeros + np.cumsum(counts)
    enough = percent / 100 * histogram.count
    return float(edges[min(int(np.searchsorted(reached, enough)), len(edges) - 1)])


@_calibrator
def least_squares(histogram: Histogram, percent: float) -> float:
    """The limit of magnitude with the smallest squared error of rounding and clipping over the histogram."""
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    limits = max(high, -low) * np.arange(_CANDIDATES, 0, -1) / _CANDIDATES
    return float(min(limits, key=lambda limit: squared_error(histogram, Range(max(low, -limit), min(high, limit)))))


def squared_error(histogram: Histogram, chosen: Range) -> float:
    """Sum of squared errors that rounding to the range's steps and clipping to it make, in the tensor's unit squared.

    Every value counts as the middle of its bin.
    """
    filled = histogram.counts > 0
    centres = (histogram.edges[:-1] + histogram.width / 2)[filled]
    scale, zero_point = chosen.scale_and_zero_point
    steps = np.clip(np.rint(centres / scale) + zero_point, 0, LEVELS - 1) - zero_point
    return float(histogram.counts[filled] @ np.square(steps * scale - centres))


@_calibrator
def kl_divergence(histogram: Histogram, percent: float) -> float:
    """The limit of magnitude whose quantized distribution diverges least from the clipped one (TensorRT's method).

    Szymon Migacz, "8-bit inference with TensorRT", GTC 2017; candidates are the bin edges from 128 bins on.
    """
    counts, edges = _magnitudes(histogram)
    best, least = len(counts), np.inf
    for bins in range(_KL_LEVELS, len(counts) + 1):
        reference = counts[:bins].copy()
        quantized = _spread_over_levels(reference)
        reference[-1] += counts[bins:].sum()
        divergence = _divergence(reference, quantized)
        if divergence < least:
            best, least = bins, divergence
    return float(edges[best - 1])


def _spread_over_levels(counts: np.ndarray) -> np.ndarray:
    """``counts`` summed into levels, and each level's sum spread evenly over its bins that were not empty."""
    level = np.minimum(np.arange(len(counts)) // (len(counts) // _KL_LEVELS), _KL_LEVELS - 1)
    filled = counts > 0
    sums = np.bincount(level, counts, _KL_LEVELS)
    members = np.bincount(level, filled, _KL_LEVELS)
    return np.where(filled, sums[level] / np.maximum(members[level], 1), 0.0)


def _divergence(reference: np.ndarray, quantized: np.ndarray) -> float:
    """Kullback-Leibler divergence of two histograms; infinite where smoothing would leave nothing of one."""
    p, q = _smoothed(reference), _smoothed(quantized)
    if p is None or q is None:
        return np.inf
    p, q = p / p.sum(), q / q.sum()
    return float(p @ np.log(p / q))


def _smoothed(counts: np.ndarray) -> np.ndarray | None:
    """Give empty bins a little of what the others have, as ONNX Runtime's entropy calibrator does."""
    empty = counts == 0
    filled = counts.size - np.count_nonzero(empty)
    taken = _SMOOTHING * np.count_nonzero(empty) / filled if filled else 1.0
    return None if taken >= 1 else np.where(empty, _SMOOTHING, counts - taken)
