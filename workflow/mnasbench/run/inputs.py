"""From pixels as they are exchanged (npz, uint8 planar) to the tensor that a session takes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mnasbench.data.listed import listed_images
from mnasbench.data.own_code import input_by
from mnasbench.data.preprocess import normalise, resize_and_crop
from mnasbench.errors import SettingsError
from mnasbench.preprocessing import Preprocessing
from mnasbench.runtimes.base import InputFormat
from mnasbench.runtimes.openvino_layout import InterleavedInput

# uint8; float32 where a user's own code made the net's input.
UInt8Array = npt.NDArray[Any]
# Bytes that stay what they are, for each channel.
_EVERY_BYTE = np.tile(np.arange(256, dtype=np.uint8), (3, 1))
Tensor = npt.NDArray[np.float32] | UInt8Array


class Preprocessor:
    """The preprocessing of vdsp_params, ending in the format of one compiled model.

    A byte has 256 values, so normalising (and quantizing, where the graph begins quantized) is a table for each
    channel: exact, and an order of magnitude cheaper than the arithmetic.
    """

    def __init__(self, params: Preprocessing, target: InputFormat) -> None:
        """SettingsError where vdsp_params crop to another size than the model takes."""
        self.params = params
        self.format = target
        p = params
        if p.size != target.size:
            (height, width), (wanted_height, wanted_width) = p.size, target.size
            raise SettingsError(
                f"vdsp_params crop to {height} x {width}, but the model takes {wanted_height} x {wanted_width}"
            )
        every_byte = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None], (1, 3, 256, 1))
        table = normalise(np.ascontiguousarray(every_byte), p)[0, :, :, 0]
        self._table = table
        to = target.blocks or target.interleaved
        self._quantized = None if to is None else _quantized(table, to.scale, to.zero_point)
        self._line = None
        if self._quantized is not None and target.interleaved is not None:
            self._line = _line_of(self._quantized, p.mean, p.std, target.interleaved)

    def geometry(self, pixels: UInt8Array) -> UInt8Array:
        """uint8 (3, height, width) resized, cropped, its colours ordered: uint8 (3, *size).

        float32 (3, *size) of a user's own code: the net's input, which stays as it is.
        """
        p = self.params
        if p.code is not None and pixels.dtype == np.uint8:
            return input_by(p.code, np.ascontiguousarray(pixels.transpose(1, 2, 0)), p.size)
        if pixels.dtype != np.uint8:
            if pixels.shape != p.shape or not p.gives_input:
                raise SettingsError(
                    f"the inputs are {pixels.dtype} {pixels.shape}, which own code made, but vdsp_params ask for "
                    f"{p.text}; give those of the same run"
                )
            return pixels
        already = p.keeps(pixels.shape[1], pixels.shape[2])
        cropped = pixels if already else resize_and_crop(np.ascontiguousarray(pixels.transpose(1, 2, 0)), p)
        return cropped[::-1] if p.colours == "BGR" else cropped

    def tensor(self, images: Sequence[UInt8Array], out: Tensor | None = None) -> Tensor:
        """Normalise cropped images, uint8 (3, *size) each, into one tensor in the session's format.

        Into ``out`` where it is given, whose pages are in memory already, and which a session knows again.
        """
        tensor: Tensor = np.empty((len(images), *self.format.shape), self.format.dtype) if out is None else out
        for image, place in zip(images, tensor, strict=True):
            self._fill(place, image)
        return tensor

    def _fill(self, place: npt.NDArray[Any], image: UInt8Array) -> None:
        """Normalise a cropped image into its place in a tensor."""
        from mnasbench.run import kernels  # here, because it takes long to load; see there

        to = self.format.blocks or self.format.interleaved
        if image.dtype == np.float32 and to is not None:
            image, table = _quantized(image, to.scale, to.zero_point), _EVERY_BYTE
            if self.format.blocks is not None:
                kernels.look_up_blocks(image, table, place)
            else:
                kernels.look_up_interleaved(image, table, place)
        elif self.format.pixels or image.dtype == np.float32:
            place[...] = image
        elif self._quantized is None:
            kernels.look_up(image, self._table, place)
        elif self.format.blocks is not None:
            kernels.look_up_blocks(image, self._quantized, place)
        elif self._line is None:
            kernels.look_up_interleaved(image, self._quantized, place)
        else:  # arithmetic on many bytes at once is faster than a table, which takes one by one
            planar = np.empty(image.shape, np.uint8)
            kernels.follow_line(image, *self._line, planar)
            kernels.interleave(planar, place)

    def fill(self, place: npt.NDArray[Any], pixels: UInt8Array) -> None:
        """Preprocess one image as it comes, uint8 (3, height, width), into its place in a tensor.

        At once after it was read, its bytes are still in the core's own cache.
        """
        self._fill(place, self.geometry(pixels))

    def __call__(self, images: Sequence[UInt8Array], out: Tensor | None = None) -> Tensor:
        """The tensor of images as they come: uint8 (3, height, width) each, of any sizes."""
        return self.tensor([self.geometry(image) for image in images], out)


def _quantized(table: npt.NDArray[np.float32], scale: float, zero_point: int) -> UInt8Array:
    """QuantizeLinear of each entry: rounded half to even, saturated."""
    steps = np.rint(table / np.float32(scale)) + zero_point
    quantized: UInt8Array = np.clip(steps, 0, 255).astype(np.uint8)
    return quantized


def _line_of(
    table: UInt8Array, mean: Sequence[float], std: Sequence[float], target: InterleavedInput
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None:
    """Slopes and offsets, float32 (3,), of the line whose whole part is ``table`` (3, 256); None without one.

    Tried on all 256 bytes, so what it gives is the table and no approximation of it.
    """
    from mnasbench.run import kernels

    deviation = np.asarray(std, dtype=np.float64) * target.scale
    line = (
        (1 / (255 * deviation)).astype(np.float32),
        (target.zero_point + 0.5 - np.asarray(mean, dtype=np.float64) / deviation).astype(np.float32),
    )
    every_byte = np.broadcast_to(np.arange(256, dtype=np.uint8), (3, 1, 256)).copy()
    made = np.empty_like(every_byte)
    kernels.follow_line(every_byte, *line, made)
    return line if np.array_equal(made[:, 0], table) else None


def load_kernels() -> None:
    """Have in memory what ``Preprocessor`` would load with its first image."""
    from mnasbench.run import kernels

    kernels.load()


def sample_of_list(paths: Sequence[Path], limit: int) -> list[UInt8Array]:
    """Up to ``limit`` images of a list, spread evenly over it, for a performance run that cycles them."""
    images = listed_images(paths)
    chosen = np.linspace(0, len(images) - 1, min(limit, len(images))).round().astype(int)
    return [images[i].pixels() for i in chosen]


def synthetic_images(shape: tuple[int, int, int], count: int, seed: int = 0) -> list[UInt8Array]:
    """``count`` different images of seeded noise, uint8 of ``shape``, for a run that has no real ones."""
    generator = np.random.default_rng(seed)
    return [generator.integers(0, 256, shape, dtype=np.uint8) for _ in range(count)]
