"""From a JPEG file to the pixels and the tensor that a classifier sees, as torchvision makes them.

The steps are torchvision's own on a PIL image: ``Resize`` (antialiased), ``CenterCrop``, ``ToTensor``,
``Normalize``. EXIF rotation is not applied, because ``PIL.Image.open`` does not apply it either.
"""

import dataclasses
import io
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from mnasbench.data.jpeg import without_last_rows
from mnasbench.errors import DatasetError, SettingsError, did_you_mean, one_line
from mnasbench.files import read_regular

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# Pillow's own threshold for a decompression bomb: 0.27 GB of RGB. ImageNet's largest image has 62 million.
MAX_PIXELS = 89_478_485
# So many pixels, four bytes each, uncompressed.
_MAX_BYTES = 4 * MAX_PIXELS + (1 << 20)
# Only formats that Pillow decodes by itself (EPS, for one, would start Ghostscript on the file). JPEG covers MPO.
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "PPM")
# Modes whose conversion to RGB keeps 8 bits a channel; 16-bit and float greyscale would be clipped to white.
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
_INTERPOLATIONS = ("bilinear", "bicubic")
# Far beyond what any classifier takes; a resize to more would only fill the memory.
LONGEST_SIDE = 8192

UInt8Array = npt.NDArray[np.uint8]
Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes a tensor.

    ``resize``: the short side in pixels, as torchvision's ``Resize(int)``; or ``(height, width)``, to which
    the image is squeezed. ``crop``: side of the centre crop. ``library``: whose resampling is used,
    ``"pillow"`` (antialiased, torchvision's) or ``"opencv"`` (not antialiased, the vendor's).
    ``mean`` and ``std`` are RGB, on values in 0..1.
    """

    resize: int | tuple[int, int] = 256
    crop: int = 224
    interpolation: str = "bilinear"
    library: str = "pillow"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        """Raise SettingsError where a field is of another kind, or the fields contradict each other."""
        sides = self.resize if isinstance(self.resize, tuple) else (self.resize,)
        for field, lengths in (("resize", sides), ("crop", (self.crop,))):
            if len(lengths) not in (1, 2) or not all(type(one) is int and one <= LONGEST_SIDE for one in lengths):
                raise SettingsError(f"preprocessing.{field} is {one_line(repr(lengths))}, expected pixels")
        for field, values in (("mean", self.mean), ("std", self.std)):
            three = isinstance(values, tuple) and len(values) == 3
            if not three or not all(type(one) in (int, float) and math.isfinite(one) for one in values):
                raise SettingsError(f"preprocessing.{field} is {one_line(repr(values))}, expected three numbers")
        for field, value, known in (
            ("interpolation", self.interpolation, _INTERPOLATIONS),
            ("library", self.library, ("pillow", "opencv")),
        ):
            if value not in known:
                raise SettingsError(
                    f"preprocessing.{field} is {one_line(repr(value))}{did_you_mean(str(value), known)}"
                )
        if self.crop < 1 or min(sides) < self.crop:
            raise SettingsError(f"preprocessing.crop is {self.crop}, but must be in 1..{min(sides)} (the resized side)")
        if min(self.std) <= 0:
            raise SettingsError(f"preprocessing.std is {self.std}, but must be positive")


def preprocessing_from(values: Mapping[str, Any]) -> Preprocessing:
    """The preprocessing whose fields are ``values``, as JSON has them (lists for tuples)."""
    known = [field.name for field in dataclasses.fields(Preprocessing)]
    for key in values:
        if key not in known:
            raise SettingsError(f"preprocessing: unknown key '{one_line(key)}'{did_you_mean(str(key), known)}")
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    return Preprocessing(**fields)


def resized_size(height: int, width: int, resize: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) after torchvision's ``Resize``: its long side is truncated, not rounded."""
    if not isinstance(resize, int):
        return resize
    if width <= height:
        return int(resize * height / width), resize
    return resize, int(resize * width / height)


def crop_offset(size: int, crop: int) -> int:
    """First row or column of torchvision's ``CenterCrop``; Python's ``round`` goes to the even neighbour there."""
    return round((size - crop) / 2.0)


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
            image = Image.open(io.BytesIO(content), formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise DatasetError(f"{one_line(path)}: {one_line(error)}") from error
    except Exception as error:  # Pillow's readers raise whatever their parsing meets: struct.error, ValueError, ...
        raise DatasetError(f"{one_line(path)}: is not an image that can be read ({_reason(error)})") from error
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise DatasetError(f"{one_line(path)}: has {width} x {height} pixels, more than the {MAX_PIXELS} accepted")
    if image.mode not in _MODES:
        raise DatasetError(
            f"{one_line(path)}: has mode {image.mode}, more than 8 bits a channel, which RGB would clip; make it 8 bits"
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
    """Resize and centre-crop uint8 (height, width, 3) to uint8 (3, crop, crop).

    With ``library="pillow"`` equal, bit for bit, to torchvision's ``Resize`` + ``CenterCrop`` on PIL.
    """
    if p.library == "opencv":
        return _resize_with_opencv(pixels, p)
    rgbx = np.empty((*pixels.shape[:2], 4), dtype=np.uint8)
    rgbx[..., :3] = pixels
    return _resize_as_pillow(rgbx, p)


def _resize_first_rows(content: bytes, p: Preprocessing) -> UInt8Array | None:
    """The crop of a common JPEG, decoded no further down than the crop reaches; None where it must be seen whole.

    A fault within these rows is no error: the decoder makes the best of it. Only for what is known to have none.
    """
    from mnasbench.data.resample import resize_to_crop, rows_needed

    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
        resized = resized_size(height, width, p.resize)
        if colours not in ("YCbCr", "Gray") or height * width > MAX_PIXELS or not rows_first(height, width, *resized):
            return None
        offset, cubic = (crop_offset(resized[0], p.crop), crop_offset(resized[1], p.crop)), p.interpolation == "bicubic"
        rows = rows_needed(height, resized[0], offset[0], p.crop, cubic)
        part = without_last_rows(content, rows)
        if part is None:
            return None
        pixels = simplejpeg.decode_jpeg(part, "RGBX", strict=False)
        if pixels.shape[0] < rows or pixels.shape[1] != width:
            return None  # a header that its readers understand differently
        return resize_to_crop(pixels, height, resized, offset, p.crop, cubic)
    except ValueError:
        return None


def _resize_as_pillow(rgbx: UInt8Array, p: Preprocessing) -> UInt8Array:
    # Importing numba takes a quarter of a second, which steps that only read what a preprocessing is do not need.
    from mnasbench.data.resample import resize_to_crop

    height, width = resized_size(rgbx.shape[0], rgbx.shape[1], p.resize)
    top, left = crop_offset(height, p.crop), crop_offset(width, p.crop)
    if rows_first(rgbx.shape[0], rgbx.shape[1], height, width):
        cubic = p.interpolation == "bicubic"
        resized = resize_to_crop(rgbx, rgbx.shape[0], (height, width), (top, left), p.crop, cubic)
        if resized is not None:
            return resized
    method = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[p.interpolation]
    whole = np.asarray(Image.fromarray(rgbx[..., :3]).resize((width, height), method))
    return _planar_crop(whole, top, left, p.crop)


def rows_first(height: int, width: int, resized_height: int, resized_width: int) -> bool:
    """Whether every Pillow resizes within rows first, as ``resample`` does.

    Pillow 13 takes the columns first where the height loses more than twice as many pixels as the width; earlier
    ones never do. The two orders round differently, so these (tall, or squeezed) images are left to Pillow.
    """
    lost_rows, lost_columns = height - resized_height, width - resized_width
    return lost_rows <= max(0, 2 * lost_columns)


def _planar_crop(resized: UInt8Array, top: int, left: int, crop: int) -> UInt8Array:
    return np.ascontiguousarray(resized[top : top + crop, left : left + crop].transpose(2, 0, 1))


def _resize_with_opencv(pixels: UInt8Array, p: Preprocessing) -> UInt8Array:
    try:
        import cv2
    except ImportError as error:
        advice = "install opencv-python-headless"
        raise SettingsError(f"preprocessing.library is 'opencv', but cv2 is missing: {advice}") from error
    height, width = resized_size(pixels.shape[0], pixels.shape[1], p.resize)
    method = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}[p.interpolation]
    resized = np.asarray(cv2.resize(pixels, (width, height), interpolation=method), dtype=np.uint8)
    return _planar_crop(resized, crop_offset(height, p.crop), crop_offset(width, p.crop), p.crop)


def pixels_of(path: Path, p: Preprocessing, *, is_whole: bool = False) -> UInt8Array:
    """Decode, resize and crop one image file to uint8 (3, crop, crop), RGB; see ``pixels_of_bytes``."""
    return pixels_of_bytes(read_image(path), path, p, is_whole=is_whole)


def pixels_of_bytes(content: bytes, path: Path, p: Preprocessing, *, is_whole: bool = False) -> UInt8Array:
    """As ``pixels_of``, of a file's content that was read already; ``path`` is for the message.

    ``is_whole``: this very content was decoded to its end before, and had no fault (as indexing does). Then a JPEG is
    decoded no further down than the crop reaches; a fault in it would go unseen.
    """
    if p.library == "opencv":
        return _resize_with_opencv(decode(content, path), p)
    resized = _resize_first_rows(content, p) if is_whole else None
    return _resize_as_pillow(decode(content, path, "RGBX"), p) if resized is None else resized


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
