"""From a JPEG file to the pixels and the tensor that a classifier sees, as torchvision makes them.

The steps are torchvision's own on a PIL image: ``Resize`` (antialiased), ``CenterCrop``, ``ToTensor``,
``Normalize``. EXIF rotation is not applied, because ``PIL.Image.open`` does not apply it either.
"""

import io
import warnings
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from mnasbench.data.image_files import FORMATS
from mnasbench.data.own_code import input_by
from mnasbench.errors import DatasetError, SettingsError, one_line
from mnasbench.files import read_regular
from mnasbench.preprocessing import Fit, Preprocessing, Size

# Pillow's own threshold for a decompression bomb: 0.27 GB of RGB. ImageNet's largest image has 62 million.
MAX_PIXELS = 89_478_485
# So many pixels, four bytes each, uncompressed.
_MAX_BYTES = 4 * MAX_PIXELS + (1 << 20)
# Modes whose conversion to RGB keeps 8 bits a channel; 16-bit and float greyscale would be clipped to white.
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")

UInt8Array = npt.NDArray[np.uint8]
Float32Array = npt.NDArray[np.float32]


def read_image(path: Path) -> bytes:
    """The bytes of an image file; DatasetError where it is empty or cannot be read."""
    try:
        content = read_regular(path, _MAX_BYTES)
    except OSError as error:
        raise DatasetError(f"{one_line(path)}: cannot be read ({error.strerror or error})") from error
    if not content:
        raise DatasetError(f"{one_line(path)}: is an empty file, expected an image")
    return content


def open_image(content: bytes, path: Path) -> Image.Image:
    """The PIL image of ``content`` (header read, pixels not yet); ``path`` is for the message.

    Raises DatasetError for what is no image, has more than MAX_PIXELS pixels, or a mode that RGB would clip.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is odd in a header; what matters is judged below
            image = Image.open(io.BytesIO(content), formats=tuple(FORMATS))
    except Image.DecompressionBombError as error:
        raise DatasetError(f"{one_line(path)}: {one_line(error)}") from error
    except Exception as error:  # Pillow's readers raise whatever their parsing meets: struct.error, ValueError, ...
        raise DatasetError(f"{one_line(path)}: is not an image that can be read ({_reason(error)})") from error
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise DatasetError(f"{one_line(path)}: has {width} x {height} pixels, more than the {MAX_PIXELS} accepted")
    if image.mode not in _MODES:
        raise DatasetError(
            f"{one_line(path)}: has mode {image.mode}, which RGB would clip or change; save it with 8 bits a channel"
        )
    return image


def _reason(error: Exception) -> str:
    # Pillow's message for unknown data is the repr of our in-memory stream, which tells nobody anything.
    return "unknown format" if "BytesIO" in str(error) else one_line(error) or type(error).__name__


def decode_rgb(path: Path) -> UInt8Array:
    """RGB pixels of an image file, uint8 (height, width, 3), equal to ``PIL.Image.open(path).convert("RGB")``.

    Raises DatasetError for a file that cannot be read or is not a whole image.
    """
    return decode(read_image(path), path)


def decode(content: bytes, path: Path, layout: Literal["RGB", "RGBX"] = "RGB") -> UInt8Array:
    """As ``decode_rgb``, of a file's content that was read already; ``path`` is for the message.

    ``layout="RGBX"`` gives (height, width, 4), the fourth byte without meaning. Common JPEGs go through simplejpeg,
    which is faster and gives the same pixels; Pillow decodes, and judges, everything else.
    """
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
        if colours in ("YCbCr", "Gray") and height * width <= MAX_PIXELS:
            return np.asarray(simplejpeg.decode_jpeg(content, layout))
    except ValueError:
        pass  # no JPEG, or one with a fault: Pillow says which
    image = open_image(content, path)
    try:
        return np.array(image.convert("RGB").convert(layout))
    except Exception as error:  # see open_image
        raise DatasetError(f"{one_line(path)}: is cut short or damaged ({_reason(error)})") from error


def resize_and_crop(pixels: UInt8Array, p: Preprocessing) -> UInt8Array:
    """Resize and centre-crop uint8 (height, width, 3) to uint8 (3, *p.size).

    With ``library="pillow"`` equal, bit for bit, to torchvision's ``Resize`` + ``CenterCrop`` on PIL, or to Pillow's
    ``resize`` and ``paste`` for a ``Fit``. Raises DatasetError for an image that it cannot be done to.
    """
    if p.library == "opencv":
        return _geometry(pixels, p)
    rgbx = np.empty((*pixels.shape[:2], 4), dtype=np.uint8)
    rgbx[..., :3] = pixels
    return _geometry(rgbx, p)


def _geometry(pixels: UInt8Array, p: Preprocessing) -> UInt8Array:
    """As ``resize_and_crop``; of RGBX where Pillow's resampling is asked for."""
    rows, columns = pixels.shape[:2]
    if isinstance(p.resize, str):
        refusal = p.refuses(rows, columns)
        if refusal is not None:
            raise DatasetError(refusal)
        return _planar_crop(pixels[..., :3], p)
    if isinstance(p.resize, Fit):
        resized = p.resize.resized_size(rows, columns)
        (top, left), (height, width) = p.resize.offset(resized), resized
        whole = np.empty((*p.resize.size, 3), np.uint8)
        whole[...] = p.resize.fill
        whole[top : top + height, left : left + width] = _resized(pixels, resized, p)
        return _planar_crop(whole, p)
    resized = p.resized_size(rows, columns)
    if p.library == "pillow" and p.interpolation in ("bilinear", "bicubic") and rows_first(rows, columns, *resized):
        # Importing numba takes a quarter of a second, which steps that only read what a preprocessing is do not need.
        from mnasbench.data.resample import resize_to_crop

        return resize_to_crop(pixels, resized, p.crop_offset(resized), p.size, p.interpolation == "bicubic")
    return _planar_crop(_resized(pixels, resized, p), p)


def _resized(pixels: UInt8Array, size: Size, p: Preprocessing) -> UInt8Array:
    """All of an image in another size, uint8 (*size, 3)."""
    if size == pixels.shape[:2]:
        return pixels[..., :3]
    if size[0] * size[1] > MAX_PIXELS:
        raise DatasetError(
            f"is {pixels.shape[0]} x {pixels.shape[1]} pixels (height x width), so thin that {p.interpolation} "
            f"resampling to {size[0]} x {size[1]} takes more memory than there may be; leave it out of the dataset, or "
            "use bilinear or bicubic resampling by Pillow"
        )
    if p.library == "opencv":
        return _resized_by_opencv(pixels, size, p.interpolation)
    image = Image.fromarray(np.ascontiguousarray(pixels[..., :3]))
    return np.asarray(image.resize(size[::-1], Image.Resampling[p.interpolation.upper()]))


def rows_first(height: int, width: int, resized_height: int, resized_width: int) -> bool:
    """Whether every Pillow resizes within rows first, as ``resample`` does.

    Pillow 13 takes the columns first where the height loses more than twice as many pixels as the width; earlier
    ones never do. The two orders round differently, so these (tall, or squeezed) images are left to Pillow.
    """
    lost_rows, lost_columns = height - resized_height, width - resized_width
    return lost_rows <= max(0, 2 * lost_columns)


def _planar_crop(resized: UInt8Array, p: Preprocessing) -> UInt8Array:
    (top, left), (height, width) = p.crop_offset((resized.shape[0], resized.shape[1])), p.size
    return np.ascontiguousarray(resized[top : top + height, left : left + width].transpose(2, 0, 1))


def _resized_by_opencv(pixels: UInt8Array, size: Size, interpolation: str) -> UInt8Array:
    try:
        import cv2
    except ImportError as error:
        advice = "install opencv-python-headless"
        raise SettingsError(f"preprocessing.library is 'opencv', but cv2 is missing: {advice}") from error
    method = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC, "nearest": cv2.INTER_NEAREST}[interpolation]
    return np.asarray(cv2.resize(pixels, size[::-1], interpolation=method), dtype=np.uint8)


def pixels_of(path: Path, p: Preprocessing) -> UInt8Array | Float32Array:
    """Decode, resize and crop one image file to uint8 (3, *p.size), RGB; float32 where ``p.code`` makes it."""
    return pixels_of_bytes(read_image(path), path, p)


def pixels_of_bytes(content: bytes, path: Path, p: Preprocessing) -> UInt8Array | Float32Array:
    """As ``pixels_of``, of a file's content that was read already; ``path`` is for the message."""
    pixels = decode(content, path, "RGB" if p.code or p.library == "opencv" else "RGBX")
    try:
        if p.code is not None:
            return input_by(p.code, pixels, p.size)
        return _geometry(pixels, p)
    except DatasetError as error:
        raise DatasetError(f"{one_line(path)}: {error}") from error


def normalise(pixels: UInt8Array, p: Preprocessing) -> Float32Array:
    """``(pixels / 255 - mean) / std`` of uint8 (n, 3, height, width), as float32 of the same shape.

    In float32 and in torchvision's order (``ToTensor``, then ``Normalize``), so equal to it bit for bit.
    """
    mean, std = (np.array(values, dtype=np.float32)[:, None] for values in (p.mean, p.std))
    # (3, 256): a byte has only 256 values.
    table = (np.arange(256, dtype=np.float32) / np.float32(255) - mean) / std
    normalised = np.empty(pixels.shape, dtype=np.float32)
    for channel in range(3):
        np.take(table[channel], pixels[:, channel], out=normalised[:, channel], mode="clip")
    return normalised
