"""Pillow's antialiased resampling, only for the rows and columns that a crop keeps; equal to Pillow bit for bit.

The arithmetic is that of Pillow's ``Resample.c``: weights in double precision, rounded to 22 fractional bits; a
horizontal pass, rounded and clipped to 8 bits; then a vertical one. Pixels are taken four bytes at a time (RGBX), so
that the inner loops are over neighbouring bytes with one weight each, which LLVM turns into vector instructions.
"""

import math
import pickle
from pathlib import Path

import numba
import numpy as np
import numpy.typing as npt

UInt8Array = npt.NDArray[np.uint8]

_BITS = 22  # PRECISION_BITS in Resample.c: 32 - 8 bits of a pixel - 2 of headroom
_HALF = 1 << (_BITS - 1)


def resize_to_crop(
    rgbx: UInt8Array, size: tuple[int, int], offset: tuple[int, int], crop: int, cubic: bool
) -> UInt8Array:
    """The square of side ``crop`` at ``offset`` (top, left) of the picture resized to ``size`` (height, width).

    ``rgbx``: uint8 (height, width, 4), contiguous; the fourth byte is ignored. Bilinear, or bicubic where ``cubic``.
    Gives uint8 (3, crop, crop). The crop must lie within ``size``.
    """
    height, width, _ = rgbx.shape
    pixels = rgbx.reshape(height, width * 4).view(np.uint32)
    arguments = (pixels, size[0], size[1], offset[0], offset[1], crop, cubic)
    resized: UInt8Array
    try:
        resized = _resize_to_crop(*arguments)
    except (EOFError, pickle.UnpicklingError, numba.core.errors.NumbaError):
        _forget_compiled()
        resized = _resize_to_crop(*arguments)
    return resized


def _forget_compiled() -> None:
    """Remove numba's cache of these functions: it trusts its files, which a power cut may have emptied."""
    for path in Path(_resize_to_crop.stats.cache_path or "").glob("resample.*"):
        path.unlink(missing_ok=True)


def compile_now() -> None:
    """Have the functions compiled (or read from numba's cache) before processes fork, once instead of in each."""
    resize_to_crop(np.zeros((2, 2, 4), np.uint8), (2, 2), (0, 0), 1, False)


@numba.njit(cache=True)
def _resize_to_crop(pixels, height, width, top, left, crop, cubic):  # type: ignore[no-untyped-def]
    first_rows, row_weights = _weights(pixels.shape[0], height, top, crop, cubic)
    first_columns, column_weights = _weights(pixels.shape[1], width, left, crop, cubic)
    first = first_rows[0]
    rows = first_rows[-1] + row_weights.shape[0] - first
    between = np.empty((rows, crop * 4), np.uint8)
    _resize_rows(pixels, first, first_columns, column_weights, between)
    planes = np.empty((3, crop, crop), np.uint8)
    _resize_columns(between, first, first_rows, row_weights, planes)
    return planes


@numba.njit(cache=True)
def _weights(size, resized, offset, count, cubic):  # type: ignore[no-untyped-def]
    """For each output position: its first input position, and (taps, count) fixed-point weights from there on.

    Every position has the same number of taps, some of weight zero, none outside the input.
    """
    scale = size / resized
    stretch = max(scale, 1.0)
    support = (2.0 if cubic else 1.0) * stretch
    window = np.empty(math.ceil(support) * 2 + 1)
    taps = min(window.shape[0], size)
    firsts = np.empty(count, np.int64)
    weights = np.zeros((taps, count), np.int32)
    most = 1
    for i in range(count):
        centre = (offset + i + 0.5) * scale
        low = max(int(centre - support + 0.5), 0)
        high = min(int(centre + support + 0.5), size)
        total = 0.0
        for k in range(high - low):
            window[k] = _filter((k + low - centre + 0.5) * (1.0 / stretch), cubic)
            total += window[k]
        firsts[i] = min(low, size - taps)
        shift = low - firsts[i]
        most = max(most, shift + high - low)
        for k in range(high - low):
            weight = window[k] / total * (1 << _BITS)
            weights[shift + k, i] = int(weight - 0.5) if weight < 0 else int(weight + 0.5)
    return firsts, weights[:most]


@numba.njit(cache=True)
def _filter(x, cubic):  # type: ignore[no-untyped-def]
    x = abs(x)
    if not cubic:
        return 1.0 - x if x < 1.0 else 0.0
    a = -0.5
    if x < 1.0:
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    return (((x - 5) * x + 8) * x - 4) * a if x < 2.0 else 0.0


@numba.njit(cache=True)
def _resize_rows(pixels, first, firsts, weights, resized):  # type: ignore[no-untyped-def]
    taps, count = weights.shape
    spread = np.empty((taps, count * 4), np.int32)  # each weight once a byte
    for tap in range(taps):
        for j in range(count * 4):
            spread[tap, j] = weights[tap, j // 4]
    gathered = np.empty(count, np.uint32)
    values = gathered.view(np.uint8)
    sums = np.empty(count * 4, np.int32)
    for row in range(resized.shape[0]):
        for j in range(count * 4):
            sums[j] = _HALF
        for tap in range(taps):
            for x in range(count):
                gathered[x] = pixels[first + row, firsts[x] + tap]
            for j in range(count * 4):
                sums[j] = np.int32(sums[j] + np.int32(np.int32(values[j]) * spread[tap, j]))
        for j in range(count * 4):
            resized[row, j] = np.uint8(min(max(sums[j] >> _BITS, 0), 255))


@numba.njit(cache=True)
def _resize_columns(lines, first, firsts, weights, planes):  # type: ignore[no-untyped-def]
    taps, count = weights.shape
    sums = np.empty(count * 4, np.int32)
    for y in range(count):
        for j in range(count * 4):
            sums[j] = _HALF
        for tap in range(taps):
            weight = weights[tap, y]
            if weight != 0:
                row = firsts[y] + tap - first
                for j in range(count * 4):
                    sums[j] = np.int32(sums[j] + np.int32(np.int32(lines[row, j]) * weight))
        for x in range(count):
            for channel in range(3):
                planes[channel, y, x] = np.uint8(min(max(sums[4 * x + channel] >> _BITS, 0), 255))
