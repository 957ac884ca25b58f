"""Calibration statistics of a tensor, in memory that does not grow with the number of images."""

import numpy as np

from mnasbench.errors import ModelError
from mnasbench.jit import jit

# 2,048 bins resolve 8 bits eightfold; ONNX Runtime's entropy calibrator needs as many to be of use.
BINS = 2048


class Moments:
    """Extremes and mean of each channel.

    ``low``, ``high``, ``mean`` (channels,) float64 in the tensor's unit; ``count`` how many values each channel
    has, ``images`` how many images they are from.
    """

    def __init__(self, channels: int) -> None:
        self.low = np.full(channels, np.inf)
        self.high = np.full(channels, -np.inf)
        self.total = np.zeros(channels)
        self.count = 0
        self.images = 0

    @property
    def mean(self) -> np.ndarray:
        """Mean of each channel, (channels,) float64."""
        return self.total / max(self.count, 1)

    def moved(self, shift: np.ndarray | float, scale: np.ndarray) -> "Moments":
        """The moments of ``(values - shift) * scale``, both by channel, without the values themselves."""
        moved = Moments(len(self.low))
        ends = (self.low - shift) * scale, (self.high - shift) * scale
        moved.low, moved.high = np.minimum(*ends), np.maximum(*ends)
        moved.total = (self.total - self.count * shift) * scale
        moved.count, moved.images = self.count, self.images
        return moved

    def add(self, values: np.ndarray) -> None:
        """Add float32 values of shape (n, channels, ...); ModelError where one is not a finite number."""
        flat = np.ascontiguousarray(values, np.float32).reshape(len(values), len(self.low), -1)
        low, high, total = _moments(flat)
        if not np.isfinite(total).all():
            raise ModelError("the float model gives values that are not finite numbers; check its weights")
        self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)
        self.total += total
        self.count += flat.shape[0] * flat.shape[2]
        self.images += flat.shape[0]


class Histogram:
    """A histogram of a whole tensor whose bins double in width when a larger value arrives.

    Bins are ``width`` wide, a power of two, and cover ``[0, BINS * width)``, or the same length centred on zero once
    a negative value arrived; so the counts do not depend on the order of the images. Exact zeros, the spike
    that ReLU leaves, are counted apart: every range here represents zero exactly, so they add no error and would
    only drown the rest.

    ``counts`` (BINS,) int64; ``zeros`` and ``count`` numbers of values; ``low`` and ``high`` exact extremes, in the
    tensor's unit.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(BINS, np.int64)
        self.zeros = 0
        self.count = 0
        self.low, self.high = np.inf, -np.inf
        self.width = 0.0
        self.signed = False

    @property
    def edges(self) -> np.ndarray:
        """Borders of the bins, (BINS + 1,) float64."""
        return np.arange(-self._first, BINS - self._first + 1) * self.width

    @property
    def _first(self) -> int:
        """How many bins lie below zero."""
        return BINS // 2 if self.signed else 0

    def add(self, values: np.ndarray) -> None:
        """Count float32 values of any shape; ModelError where one is not a finite number."""
        flat = np.ascontiguousarray(values, np.float32).ravel()
        low, high = float(flat.min()), float(flat.max())
        if not np.isfinite(low + high):
            raise ModelError("the float model gives values that are not finite numbers; check its weights")
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.count += flat.size
        self._reach()
        self.zeros += int(_count(flat, 1 / self.width, self._first, self.counts))

    def _reach(self) -> None:
        """Widen the bins until the extremes fall into them."""
        signed = self.low < 0
        limit = max(self.high, -self.low)
        width = 2.0 ** np.ceil(np.log2(limit / (BINS // 2 if signed else BINS))) if limit > 0 else 2.0**-126
        width = float(max(width, 2.0**-126))  # float32's smallest normal number
        if signed == self.signed and width <= self.width:
            return
        old, first = self.counts, self._first
        width = max(width, self.width)
        self.signed, ratio = signed, (width / self.width if self.width else 1)
        self.width = width
        self.counts = np.zeros(BINS, np.int64)
        places = np.flatnonzero(old)
        np.add.at(self.counts, np.floor_divide(places - first, ratio).astype(int) + self._first, old[places])


# Sums may be taken in any order, so that the compiler can use vector instructions; not-a-number stays one.
@jit(fastmath={"reassoc", "nsz"})
def _moments(values):  # type: ignore[no-untyped-def]  # pragma: no cover - machine code
    """Smallest, largest and sum of each channel of (n, channels, places)."""
    images, channels = values.shape[:2]
    low, high, total = np.full(channels, np.inf), np.full(channels, -np.inf), np.zeros(channels)
    for image in range(images):
        for channel in range(channels):
            row = values[image, channel]
            smallest, largest, added = row[0], row[0], 0.0
            for value in row:
                smallest = value if value < smallest else smallest
                largest = value if value > largest else largest
                added += value
            low[channel] = min(low[channel], smallest)
            high[channel] = max(high[channel], largest)
            total[channel] += added
    return low, high, total


@jit()
def _count(values, inverse, first, counts):  # type: ignore[no-untyped-def]  # pragma: no cover - machine code
    """Count each value's bin; return how many are exactly zero. A value on the last border is in the last bin."""
    last = len(counts) - 1
    zeros = 0
    for value in values:
        if value == 0:
            zeros += 1
        else:
            counts[min(int(np.floor(value * inverse)) + first, last)] += 1
    return zeros
