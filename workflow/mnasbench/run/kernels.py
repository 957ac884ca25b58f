"""The loops that fill a session's tensor with an image, as machine code.

Ten to twenty times as fast as NumPy's normalise and quantize (``kernels_blocks``, ``kernels_line`` of
benchmarks/shortcuts.py), which are their plain twins: tests/unit/run/test_inputs.py compares every byte.

cv2 and numba take longer to load than a hundred images take; a thread that loads this module while another one makes
a session hides that.
"""

import cv2
import numpy as np
import numpy.typing as npt

from mnasbench.jit import jit

UInt8Array = npt.NDArray[np.uint8]


def load() -> None:
    """Have the functions compiled, or read from numba's cache, which takes a third of a second at the first of them."""
    pixel = np.zeros((3, 1, 1), np.uint8)
    follow_line(pixel, *np.zeros((2, 3), np.float32), pixel.copy())


def interleave(planar: UInt8Array, out: UInt8Array) -> None:
    """(3, height, width) to (height, width, 3)."""
    cv2.merge([planar[0], planar[1], planar[2]], out)


@jit()
def follow_line(
    pixels: UInt8Array, slopes: npt.NDArray[np.float32], offsets: npt.NDArray[np.float32], out: UInt8Array
) -> None:
    channels, height, width = pixels.shape
    low, high = np.float32(0.0), np.float32(255.0)
    for c in range(channels):
        slope, offset = slopes[c], offsets[c]
        for y in range(height):
            for x in range(width):
                value = min(max(np.float32(pixels[c, y, x]) * slope + offset, low), high)
                out[c, y, x] = np.uint8(np.int32(value))


@jit()
def look_up_interleaved(pixels: UInt8Array, table: UInt8Array, out: UInt8Array) -> None:
    channels, height, width = pixels.shape
    for y in range(height):
        for x in range(width):
            for c in range(channels):
                out[y, x, c] = table[c, pixels[c, y, x]]


@jit()
def look_up(pixels: UInt8Array, table: npt.NDArray[np.float32], out: npt.NDArray[np.float32]) -> None:
    channels, height, width = pixels.shape
    for c in range(channels):
        for y in range(height):
            for x in range(width):
                out[c, y, x] = table[c, pixels[c, y, x]]


@jit()
def look_up_blocks(pixels: UInt8Array, table: UInt8Array, out: UInt8Array) -> None:
    """Fill (rows, width / 2, 12 * parts) with blocks of 2 x 2 pixels of the upper and the lower part."""
    rows, columns, channels = out.shape
    total = pixels.shape[1] // 2
    for part in range(channels // 12):
        first = (total - rows) * part
        for row in range(rows):
            for dy in range(2):
                y, at = 2 * (first + row) + dy, 12 * part + 6 * dy
                for column in range(columns):
                    for dx in range(2):
                        x = 2 * column + dx
                        out[row, column, at + 3 * dx] = table[0, pixels[0, y, x]]
                        out[row, column, at + 3 * dx + 1] = table[1, pixels[1, y, x]]
                        out[row, column, at + 3 * dx + 2] = table[2, pixels[2, y, x]]
