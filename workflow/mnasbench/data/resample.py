"""Pillow's antialiased resampling, only for the rows and columns that a crop keeps; equal to Pillow bit for bit.

Six times as fast as Pillow, whose resize makes the whole image (``resample`` of benchmarks/shortcuts.py); the vectors
of ``_resize_four`` are ten times as fast as the same loop left to numba (``resample_lanes``). Pillow is the plain twin:
tests/unit/data/test_preprocess.py compares every byte.

The arithmetic is that of Pillow's ``Resample.c``: weights in double precision, rounded to 22 fractional bits; a
horizontal pass, rounded and clipped to 8 bits; then a vertical one. Pixels are taken four bytes at a time (RGBX) and
taps in fours, so that one vector of 16 bytes holds what four taps need; taps that are too many have weight zero.
"""

import math
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from mnasbench.jit import jit

UInt8Array = npt.NDArray[np.uint8]

_BITS = 22  # PRECISION_BITS in Resample.c: 32 - 8 bits of a pixel - 2 of headroom
_HALF = 1 << (_BITS - 1)


def resize_to_crop(
    rgbx: UInt8Array, size: tuple[int, int], offset: tuple[int, int], crop: tuple[int, int], cubic: bool
) -> UInt8Array:
    """The part of size ``crop`` at ``offset`` (top, left) of the image resized to ``size``; sizes are (height, width).

    ``rgbx``: uint8 (height, width, 4), contiguous; the fourth byte is ignored. Bilinear, or bicubic where ``cubic``.
    Gives uint8 (3, *crop). The crop must lie within ``size``.
    """
    (height, width), (resized_height, resized_width) = rgbx.shape[:2], size
    taps = _most_taps(height, resized_height, cubic), _most_taps(width, resized_width, cubic)
    room = max(height, taps[0]), max(width, taps[1])
    if room != (height, width):
        # What lies beyond a small image is read with weight zero.
        larger = np.zeros((*room, 4), np.uint8)
        larger[:height, :width] = rgbx
        rgbx = larger
    resized: UInt8Array = _call(_resize_to_crop, rgbx.reshape(-1), room, (height, width), size, offset, crop, cubic)
    return resized


def _most_taps(size: int, resized: int, cubic: bool) -> int:
    """More input positions than these no output position takes."""
    support = (2.0 if cubic else 1.0) * max(size / resized, 1.0)
    return (math.ceil(support) * 2 + 1 + 3) // 4 * 4


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except (EOFError, pickle.UnpicklingError, numba.core.errors.NumbaError):
        _remove_cache()
        return function(*arguments)


def _remove_cache() -> None:
    """Remove numba's cache of these functions: it trusts its files, which a power cut may have emptied."""
    folder = _resize_to_crop.stats.cache_path  # None where there is no place for a cache
    for path in Path(folder).glob("resample.*") if folder else ():
        path.unlink(missing_ok=True)


def compile_now() -> None:
    """Have the functions compiled (or read from numba's cache) before processes fork, once instead of in each."""
    resize_to_crop(np.zeros((8, 8, 4), np.uint8), (8, 8), (0, 0), (8, 8), False)


@jit()
def _resize_to_crop(pixels, room, size, resized, offset, crop, cubic):  # type: ignore[no-untyped-def]
    first_rows, row_weights = _weights(size[0], room[0], resized[0], offset[0], crop[0], cubic)
    first_columns, column_weights = _weights(size[1], room[1], resized[1], offset[1], crop[1], cubic)
    first = first_rows[0]
    rows = first_rows[-1] + row_weights.shape[1] - first
    between = np.empty((rows, first_columns.size * 4), np.uint8)
    _resize_rows(pixels[first * room[1] * 4 :], room[1], first_columns, column_weights, between)
    planes = np.empty((3, crop[0], crop[1]), np.uint8)
    _resize_columns(between, first_rows, row_weights, planes)
    return planes


@jit()
def _weights(size, room, resized, offset, count, cubic):  # type: ignore[no-untyped-def]
    """For each output position: its first input position, and (positions, taps) fixed-point weights from there on.

    Every position has the same number of taps, some of weight zero, none outside ``room``, of which the first ``size``
    positions are the input; positions are filled up to fours with copies of the last.
    """
    scale = size / resized
    stretch = max(scale, 1.0)
    support = (2.0 if cubic else 1.0) * stretch
    window = np.empty(math.ceil(support) * 2 + 1)
    positions = (count + 3) // 4 * 4
    lows, highs = np.empty(positions, np.int64), np.empty(positions, np.int64)
    for i in range(positions):
        centre = (offset + min(i, count - 1) + 0.5) * scale
        lows[i] = max(int(centre - support + 0.5), 0)
        highs[i] = min(int(centre + support + 0.5), size)
    taps = ((highs - lows).max() + 3) // 4 * 4
    firsts = np.empty(positions, np.int64)
    weights = np.zeros((positions, taps), np.int32)
    for i in range(positions):
        centre = (offset + min(i, count - 1) + 0.5) * scale
        total = 0.0
        for k in range(highs[i] - lows[i]):
            window[k] = _filter((k + lows[i] - centre + 0.5) * (1.0 / stretch), cubic)
            total += window[k]
        firsts[i] = min(lows[i], room - taps)
        for k in range(highs[i] - lows[i]):
            weight = window[k] / total * (1 << _BITS)
            weights[i, lows[i] - firsts[i] + k] = int(weight - 0.5) if weight < 0 else int(weight + 0.5)
    return firsts, weights


@jit()
def _filter(x, cubic):  # type: ignore[no-untyped-def]
    x = abs(x)
    if not cubic:
        return 1.0 - x if x < 1.0 else 0.0
    a = -0.5
    if x < 1.0:
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    return (((x - 5) * x + 8) * x - 4) * a if x < 2.0 else 0.0


@jit()
def _resize_rows(pixels, width, firsts, weights, resized):  # type: ignore[no-untyped-def]
    count, taps = weights.shape
    spread = np.repeat(weights.reshape(-1), 4)  # each weight once a byte
    flat = resized.reshape(-1)
    for row in range(resized.shape[0]):
        for x in range(0, count, 4):
            _resize_four(pixels, row * width, firsts, x, spread, taps // 4, flat, (row * count + x) * 4)  # type: ignore[call-arg]


@jit()
def _resize_columns(lines, firsts, weights, planes):  # type: ignore[no-untyped-def]
    taps = weights.shape[1]
    bytes_a_line = lines.shape[1]
    sums = np.empty(bytes_a_line, np.int32)
    line = np.empty(bytes_a_line, np.uint8)
    height, width = planes.shape[1:]
    for y in range(height):
        row = firsts[y] - firsts[0]
        for j in range(bytes_a_line):
            sums[j] = _HALF
        for tap in range(0, taps, 4):
            a, b, c, d = weights[y, tap], weights[y, tap + 1], weights[y, tap + 2], weights[y, tap + 3]
            at = row + tap
            for j in range(bytes_a_line):
                two = np.int32(np.int32(lines[at, j]) * a + np.int32(lines[at + 1, j]) * b)
                more = np.int32(np.int32(lines[at + 2, j]) * c + np.int32(lines[at + 3, j]) * d)
                sums[j] = np.int32(sums[j] + np.int32(two + more))
        for j in range(bytes_a_line):
            line[j] = np.uint8(min(max(sums[j] >> np.int32(_BITS), np.int32(0)), np.int32(255)))
        for channel in range(3):
            for x in range(width):
                planes[channel, y, x] = line[4 * x + channel]


# LLVM makes vectors of loops over neighbours, but not of this: four output pixels, each from its own place in the row.
_INT = ir.IntType(32)
_INTS = ir.VectorType(_INT, 16)
_BYTES = ir.VectorType(ir.IntType(8), 16)


@intrinsic
def _resize_four(context, pixels, row, firsts, x, weights, quads, resized, at):  # type: ignore[no-untyped-def]
    """Write output pixels ``x`` to ``x + 3`` of a row, 16 bytes, to ``resized[at:]``.

    ``row``: the row's first pixel in ``pixels`` (four bytes each). ``firsts``: each output pixel's first pixel in the
    row. ``weights``: int32, for each output pixel ``quads`` times four taps, each four times over (once a byte).
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def address(place: int, index: Any) -> Any:
            array = context.make_array(signature.args[place])(context, builder, arguments[place])
            return builder.gep(array.data, [index])

        def load(pointer: Any, kind: Any) -> Any:
            value = builder.load(builder.bitcast(pointer, kind.as_pointer()))
            value.align = 1
            return value

        def number(value: int) -> Any:
            return ir.Constant(arguments[1].type, value)

        def every(value: int) -> Any:
            return ir.Constant(_INTS, [value] * 16)

        def chosen(one: Any, other: Any, lanes: Sequence[int]) -> Any:
            both = [*lanes, *(16 + lane for lane in lanes)]
            return builder.shuffle_vector(one, other, ir.Constant(_INTS, both))

        row, x, quads, at = (arguments[place] for place in (1, 3, 5, 7))
        sums = [cgutils.alloca_once(builder, _INTS) for _ in range(4)]
        pixels, weights = [], []
        for k in range(4):
            # Rounds the shift that follows; in one of the four taps' lanes, which are added up below.
            builder.store(ir.Constant(_INTS, [_HALF] * 4 + [0] * 12), sums[k])
            column = builder.load(address(2, builder.add(x, number(k))))
            pixels.append(address(0, builder.mul(builder.add(row, column), number(4))))
            weights.append(address(4, builder.mul(builder.mul(builder.add(x, number(k)), quads), number(16))))
        with cgutils.for_range(builder, quads) as loop:
            step = builder.mul(loop.index, number(16))
            for k in range(4):
                values = builder.zext(load(builder.gep(pixels[k], [step]), _BYTES), _INTS)
                products = builder.mul(values, load(builder.gep(weights[k], [step]), _INTS))
                builder.store(builder.add(builder.load(sums[k]), products), sums[k])
        a, b, c, d = (builder.load(value) for value in sums)
        # Four taps of four bytes each: first the taps 0 + 2 and 1 + 3 of two pixels in a vector, then their sums.
        ab, cd = (builder.add(chosen(*two, range(8)), chosen(*two, range(8, 16))) for two in ((a, b), (c, d)))
        one, other = (0, 1, 2, 3, 8, 9, 10, 11), (4, 5, 6, 7, 12, 13, 14, 15)
        four = builder.ashr(builder.add(chosen(ab, cd, one), chosen(ab, cd, other)), every(_BITS))
        four = builder.select(builder.icmp_signed(">", four, every(0)), four, every(0))
        four = builder.select(builder.icmp_signed("<", four, every(255)), four, every(255))
        stored = builder.store(builder.trunc(four, _BYTES), builder.bitcast(address(6, at), _BYTES.as_pointer()))
        stored.align = 1
        return context.get_dummy_value()

    position = numba.types.intp
    return numba.types.void(pixels, position, firsts, position, weights, position, resized, position), generate
