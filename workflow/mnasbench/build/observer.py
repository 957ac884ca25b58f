"""What calibration sees of a tensor, in memory that does not depend on how many pictures there are."""

from dataclasses import dataclass, field

import numba
import numpy as np

from mnasbench.errors import ModelError

# 2,048 bins resolve 8 bits eightfold; it is also what ONNX Runtime's entropy calibrator works well with.
BINS = 2048


@dataclass
class Histogram:
    """A histogram for each channel whose bins double in width when a larger value arrives.

    Bins cover ``[0, BINS * width)`` of a tensor that is never negative (``signed`` False) and
    ``[-BINS / 2 * width, BINS / 2 * width)`` of one that may be. Exact zeros, the spike that ReLU leaves, are
    counted apart: every quantizer here represents zero exactly, so they add no error and would only drown the rest.

    ``counts`` (channels, BINS) uint32; ``zeros`` (channels,) int64; ``low``, ``high``, ``width`` (channels,) float64,
    exact minimum, maximum and bin width in the tensor's unit; ``total`` and ``squares`` (channels,) float64, the
    sums of values and of squared values; ``seen`` the values seen in each channel.
    """

    channels: int
    signed: bool
    seen: int = 0
    counts: np.ndarray = field(init=False)
    zeros: np.ndarray = field(init=False)
    low: np.ndarray = field(init=False)
    high: np.ndarray = field(init=False)
    width: np.ndarray = field(init=False)
    total: np.ndarray = field(init=False)
    squares: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.counts = np.zeros((self.channels, BINS), np.uint32)
        self.zeros = np.zeros(self.channels, np.int64)
        self.low = np.full(self.channels, np.inf)
        self.high = np.full(self.channels, -np.inf)
        self.width = np.zeros(self.channels)
        self.total = np.zeros(self.channels)
        self.squares = np.zeros(self.channels)

    def add(self, values: np.ndarray) -> None:
        """Count ``values``, float32 of shape (n, channels, ...); ModelError where one is not a finite number."""
        flat = np.ascontiguousarray(values, np.float32).reshape(len(values), self.channels, -1)
        state = (self.counts, self.zeros, self.low, self.high, self.width, self.total, self.squares)
        if not _count(flat, self.signed, *state):
            raise ModelError("the float model gives values that are not finite numbers; check its weights")
        self.seen += flat.shape[0] * flat.shape[2]

    @property
    def centres(self) -> np.ndarray:
        """Middle of each bin, (channels, BINS) float64."""
        first = -BINS // 2 if self.signed else 0
        return (np.arange(first, first + BINS) + 0.5) * self.width[:, None]


@numba.njit(parallel=True, cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _count(  # type: ignore[no-untyped-def]
    values, signed, counts, zeros, low, high, width, total, squares
):  # pragma: no cover - compiled
    images, channels, places = values.shape
    bins = counts.shape[1]
    first = bins // 2 if signed else 0
    reach = bins - first
    finite = np.ones(channels, np.bool_)
    for c in numba.prange(channels):
        smallest, largest, added, squared = np.inf, -np.inf, 0.0, 0.0
        for i in range(images):
            for p in range(places):
                value = values[i, c, p]
                smallest = min(smallest, value)
                largest = max(largest, value)
                added += value
                squared += value * value
        if not np.isfinite(squared):
            finite[c] = False
            continue
        low[c] = min(low[c], smallest)
        high[c] = max(high[c], largest)
        total[c] += added
        squares[c] += squared
        limit = max(largest, -smallest) if signed else largest
        if limit <= 0:
            zeros[c] += images * places
            continue
        if width[c] == 0:
            width[c] = limit / reach
        while limit > width[c] * reach:
            width[c] *= 2
            merged = np.zeros(bins, counts.dtype)
            for b in range(bins):
                merged[first + (b - first) // 2] += counts[c, b]
            counts[c] = merged
        inverse = 1.0 / width[c]
        for i in range(images):
            for p in range(places):
                value = values[i, c, p]
                if value == 0:
                    zeros[c] += 1
                else:
                    b = int(np.floor(value * inverse)) + first
                    counts[c, min(max(b, 0), bins - 1)] += 1
    return finite.all()
