"""How an image becomes a tensor, as one value: its fields, its JSON, its name in a path, and its size arithmetic.

Light on purpose (no numpy, no Pillow): planning uses it. The pixels themselves are made in ``data/preprocess.py``.

Another meaning of ``resize`` is added in two places: here (``Resize`` and the functions below it that read one) and
where pixels are resized. Everything else passes the value on.
"""

import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from mnasbench.errors import SettingsError, did_you_mean, one_line

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# Pillow's names; torchvision's and timm's of images are these.
INTERPOLATIONS = ("bilinear", "bicubic", "nearest", "lanczos", "box", "hamming")
# OpenCV's filters of these names are the others' in kind, not in pixels; the rest has none.
OPENCV_INTERPOLATIONS = ("bilinear", "bicubic", "nearest")
LIBRARIES = ("pillow", "opencv")
COLOURS = ("RGB", "BGR")
PADS = ("centre", "right-bottom")
# Far beyond what any classifier takes; a resize to more would only fill the memory.
LONGEST_SIDE = 8192
# No resize: what is larger than the crop is cropped, or every image must have the crop's size already.
UNRESIZED, EXACT = "none", "exact"

Size = tuple[int, int]


@dataclass(frozen=True)
class Fit:
    """A resize that keeps proportions and loses nothing: as large as fits into ``size``, the rest filled.

    ``size``: (height, width). ``pad``: ``"centre"``, the image in the middle (an odd pixel more below and at the
    right), or ``"right-bottom"``, all of the filling there. ``fill``: red, green, blue, 0 to 255. Sides are rounded to
    the nearest, halves to even, as by timm's ``ResizeKeepRatio(longest=1)`` and ``CenterCropOrPad``.
    """

    size: Size
    pad: str = "centre"
    fill: tuple[int, int, int] = (0, 0, 0)

    def resized_size(self, height: int, width: int) -> Size:
        """(height, width) of the image within ``size``."""
        ratio = max(height / self.size[0], width / self.size[1])
        return max(1, round(height / ratio)), max(1, round(width / ratio))

    def offset(self, resized: Size) -> Size:
        """First row and column of the image within ``size``."""
        if self.pad == "right-bottom":
            return 0, 0
        return (self.size[0] - resized[0]) // 2, (self.size[1] - resized[1]) // 2

    def to_json(self) -> dict[str, Any]:
        """What ``resize_from_json`` reads."""
        return {"fit": list(self.size), "pad": self.pad, "fill": list(self.fill)}


# The short side in pixels, as torchvision's Resize(int); (height, width), to which the image is squeezed; a Fit; none.
Resize = int | Size | Fit | str


def resize_from_json(value: Any, where: str) -> Resize:
    """What settings and build files say of a resize; SettingsError, beginning with ``where``, for anything else."""
    if isinstance(value, Fit) or value in (UNRESIZED, EXACT):
        return value  # type: ignore[no-any-return]
    if isinstance(value, Mapping):
        return _fit(value, where)
    sides = _sides(value)
    if sides is None:
        expected = "a number of pixels, [height, width], {fit: ...} or none"
        raise SettingsError(f"{where} is {one_line(repr(value))}, expected {expected}")
    return sides


def _fit(value: Mapping[str, Any], where: str) -> Fit:
    keys = [field.name for field in dataclasses.fields(Fit)]
    keys[0] = "fit"
    for key in value:
        if key not in keys:
            raise SettingsError(f"{where}: unknown key '{one_line(key)}'{did_you_mean(str(key), keys)}")
    size = sides_from_json(value.get("fit"), f"{where}.fit")
    pad, fill = value.get("pad", "centre"), value.get("fill", 0)
    if pad not in PADS:
        raise SettingsError(f"{where}.pad is {one_line(repr(pad))}{did_you_mean(str(pad), PADS)}")
    colours = [fill] * 3 if type(fill) is int else list(fill) if isinstance(fill, list | tuple) else []
    if len(colours) != 3 or not all(type(level) is int and 0 <= level <= 255 for level in colours):
        raise SettingsError(
            f"{where}.fill is {one_line(repr(fill))}, expected a level of 0 to 255, or three of them (red, green, blue)"
        )
    return Fit(as_pair(size), pad, (colours[0], colours[1], colours[2]))


def sides_from_json(value: Any, where: str) -> int | Size:
    """A number of pixels, or ``[height, width]``; SettingsError, beginning with ``where``, for anything else."""
    sides = _sides(value)
    if sides is None:
        raise SettingsError(f"{where} is {one_line(repr(value))}, expected a number of pixels or [height, width]")
    return sides


def _sides(value: Any) -> int | Size | None:
    sides = list(value) if isinstance(value, list | tuple) else [value]
    if len(sides) not in (1, 2) or not all(type(side) is int and 1 <= side <= LONGEST_SIDE for side in sides):
        return None
    return int(sides[0]) if len(sides) == 1 else (sides[0], sides[1])


def split_code(code: str) -> tuple[str, str]:
    """The file and the function of ``file.py:function``; SettingsError for anything else."""
    file, colon, function = code.rpartition(":")
    if not colon or not file.endswith(".py") or not function.isidentifier():
        raise SettingsError(f"{one_line(repr(code))} names no function; expected path/to/file.py:function")
    return file, function


def as_pair(sides: int | Size) -> Size:
    """(height, width) of what one number says of a square."""
    return (sides, sides) if isinstance(sides, int) else sides


def resize_to_json(resize: Resize) -> int | list[int] | str | dict[str, Any]:
    """What ``resize_from_json`` reads."""
    if isinstance(resize, Fit):
        return resize.to_json()
    return resize if isinstance(resize, int | str) else list(resize)


def _resize_label(resize: Resize) -> str:
    if isinstance(resize, Fit):
        fill = "_".join(map(str, resize.fill))
        return f"fit{sides_label(resize.size)}-{resize.pad}-{fill}"
    return f"resize{resize if isinstance(resize, str) else sides_label(resize)}"


def sides_label(sides: int | Size) -> str:
    """Names sides in a path: ``224``, ``48x192``."""
    return str(sides) if isinstance(sides, int) else "x".join(map(str, sides))


def on_another_scale(mean: Sequence[float], std: Sequence[float], *, divided: bool) -> bool:
    """Whether mean and std are plainly not on the values that they are taken from: those divided by 255, or bytes.

    No published file has a mean above 1 on values in 0..1, or both below 1 on bytes.
    """
    if divided:
        return max(mean) > 1
    return 0 < max(mean) < 1 and max(std) < 1


def scaled(resize: Resize, ratio: Fraction) -> Resize:
    """The same resize for a crop that is ``ratio`` times as large."""

    def side(pixels: int) -> int:
        return round(pixels * ratio)

    if isinstance(resize, int):
        return side(resize)
    if isinstance(resize, Fit):
        return dataclasses.replace(resize, size=(side(resize.size[0]), side(resize.size[1])))
    return resize if isinstance(resize, str) else (side(resize[0]), side(resize[1]))


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes a tensor.

    ``resize``: see ``Resize``. ``crop``: the centre crop, its side or ``(height, width)``; a pair of equal sides is
    kept as one number. ``library``: whose resampling is used, ``"pillow"`` (antialiased, torchvision's) or
    ``"opencv"`` (not antialiased, the vendor's). ``mean`` and ``std`` are on values in 0..1 and belong to the
    channels in the order of ``colours``, ``"RGB"`` or ``"BGR"``. ``crop_at``: first row and column of the crop in an
    image of a fixed size; None for torchvision's centre. ``code``: a user's own function (``file.py:function``, see
    ``data/own_code.py``), which makes the net's input of ``crop``'s size in place of all else.
    """

    resize: Resize = 256
    crop: int | Size = 224
    interpolation: str = "bilinear"
    library: str = "pillow"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    colours: str = "RGB"
    crop_at: Size | None = None
    code: str | None = None

    def __post_init__(self) -> None:
        """Raise SettingsError where a field is of another kind, or the fields contradict each other."""
        object.__setattr__(self, "resize", resize_from_json(self.resize, "preprocessing.resize"))
        crop = sides_from_json(self.crop, "preprocessing.crop")
        object.__setattr__(self, "crop", crop[0] if isinstance(crop, tuple) and crop[0] == crop[1] else crop)
        for field, values in (("mean", self.mean), ("std", self.std)):
            three = isinstance(values, tuple) and len(values) == 3
            if not three or not all(type(one) in (int, float) and math.isfinite(one) for one in values):
                raise SettingsError(f"preprocessing.{field} is {one_line(repr(values))}, expected three numbers")
        for field, value, words in (
            ("interpolation", self.interpolation, INTERPOLATIONS),
            ("library", self.library, LIBRARIES),
            ("colours", self.colours, COLOURS),
        ):
            if value not in words:
                near = did_you_mean(str(value), words)
                raise SettingsError(f"preprocessing.{field} is {one_line(repr(value))}{near}")
        if self.library == "opencv" and self.interpolation not in OPENCV_INTERPOLATIONS:
            raise SettingsError(
                f"preprocessing.interpolation is {self.interpolation!r}, which is Pillow's alone; OpenCV has "
                f"{', '.join(OPENCV_INTERPOLATIONS)} here"
            )
        if not self.crop_fits:
            height, width = self.size
            raise SettingsError(
                f"preprocessing.resize ({self.resize_text}) is smaller than the crop of {height} x {width} pixels that "
                "follows it; give a larger resize, or a smaller crop"
            )
        if min(self.std) <= 0:
            raise SettingsError(f"preprocessing.std is {self.std}, but must be positive")
        if self.crop_at is not None:
            self._check_crop_at(self.crop_at)
        if self.code is not None:
            split_code(self.code)

    def _check_crop_at(self, place: Any) -> None:
        resized = self.fixed_size
        if resized is None:
            raise SettingsError(f"preprocessing.crop_at belongs to a resize to [height, width], not to {self.resize}")
        most = tuple(side - crop for side, crop in zip(resized, self.size, strict=True))
        pair = isinstance(place, tuple) and len(place) == 2 and all(type(one) is int for one in place)
        if not pair or not all(0 <= first <= last for first, last in zip(place, most, strict=True)):
            raise SettingsError(
                f"preprocessing.crop_at is {one_line(repr(place))}, expected a first row of 0 to {most[0]} and a first "
                f"column of 0 to {most[1]}"
            )

    # ------------------------------------------------------------------------------------------------------- its JSON
    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Preprocessing":
        """The preprocessing whose fields are ``values``, as JSON has them; those that are left out are the defaults."""
        fields = [field.name for field in dataclasses.fields(cls)]
        for key in values:
            if key not in fields:
                raise SettingsError(f"preprocessing: unknown key '{one_line(key)}'{did_you_mean(str(key), fields)}")
        given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**given)

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON values."""
        return {
            **self.geometry_json(),
            "mean": list(self.mean),
            "std": list(self.std),
            "colours": self.colours,
        }

    def geometry_json(self) -> dict[str, Any]:
        """The fields that decide the bytes of a preprocessed image, as JSON values."""
        return {
            "resize": resize_to_json(self.resize),
            "crop": resize_to_json(self.crop),
            "interpolation": self.interpolation,
            "library": self.library,
            **({} if self.crop_at is None else {"crop_at": list(self.crop_at)}),
            **({} if self.code is None else {"code": self.code}),
        }

    @property
    def label(self) -> str:
        """Names in a path what decides the bytes of a preprocessed image; models that share it share their inputs."""
        if self.code is not None:
            digest = hashlib.sha256(self.code.encode()).hexdigest()[:8]
            return f"own-{split_code(self.code)[1]}-{digest}-crop{sides_label(self.crop)}"
        library = "" if self.library == "pillow" else f"-{self.library}"
        place = "" if self.crop_at is None else f"at{self.crop_at[0]}x{self.crop_at[1]}"
        return f"{_resize_label(self.resize)}-crop{sides_label(self.crop)}{place}-{self.interpolation}{library}"

    @property
    def resize_text(self) -> str:
        """The resize in words."""
        if isinstance(self.resize, Fit):
            height, width = self.resize.size
            fill = ", ".join(map(str, self.resize.fill))
            return f"fitted into {height} x {width}, {self.resize.pad}, filled with {fill}"
        if isinstance(self.resize, str):
            return "none" if self.resize == UNRESIZED else "none, images have the input's size"
        return f"short side {self.resize}" if isinstance(self.resize, int) else f"to {_by(self.resize)}"

    @property
    def text(self) -> str:
        """All of it in words."""
        if self.code is not None:
            return f"made by {self.code}, {_by(self.size)}"
        how = "" if isinstance(self.resize, str) else f" ({self.interpolation}, {self.library})"
        place = "" if self.crop_at is None else f" at {self.crop_at}"
        mean, std = (", ".join(f"{value:.6g}" for value in values) for values in (self.mean, self.std))
        return f"resize {self.resize_text}{how}, crop {_by(self.size)}{place}, {self.colours}, mean {mean}, std {std}"

    # ------------------------------------------------------------------------------------------------ size arithmetic
    @property
    def size(self) -> Size:
        """Height and width of what comes out."""
        return as_pair(self.crop)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of what comes out."""
        return (3, *self.size)

    @property
    def input_bytes(self) -> int:
        """Bytes of one preprocessed image."""
        return math.prod(self.shape) * (1 if self.code is None else 4)

    @property
    def dtype(self) -> str:
        """Of a preprocessed image: ``uint8`` pixels, or the net's input that a user's own code makes."""
        return "uint8" if self.code is None else "float32"

    @property
    def gives_input(self) -> bool:
        """Whether there is nothing to compute with an image's values any more; within what fp16 rounds."""
        as_they_are = all(math.isclose(value, 1 / 255, rel_tol=1e-3) for value in self.std) and not any(self.mean)
        return self.code is not None or (as_they_are and self.colours == "RGB")

    @property
    def crop_fits(self) -> bool:
        """Whether every resized image is as large as the crop, or larger."""
        if isinstance(self.resize, str):
            return True  # which the images must say
        least = self.resize.size if isinstance(self.resize, Fit) else as_pair(self.resize)
        return all(crop <= side for crop, side in zip(self.size, least, strict=True))

    @property
    def fills_input(self) -> bool:
        """Whether the resize gives what comes out, and nothing is cropped."""
        if isinstance(self.resize, Fit):
            return self.resize.size == self.size
        return self.resize in (self.size, EXACT)

    @property
    def short_side(self) -> int | None:
        """The short side that images are scaled to, their proportions kept; None where they are squeezed."""
        return self.resize if isinstance(self.resize, int) else None

    @property
    def fixed_size(self) -> Size | None:
        """Height and width to which every image is squeezed; None where its proportions are kept."""
        return self.resize if isinstance(self.resize, tuple) else None

    def squeezed(self) -> "Preprocessing":
        """The same with a fixed size: a short side becomes that of a square, any other resize what comes of it."""
        if isinstance(self.resize, int | tuple):
            return dataclasses.replace(self, resize=as_pair(self.resize))
        return dataclasses.replace(self, resize=self.size)

    def without_resize(self) -> "Preprocessing":
        """What is left to do with images that this resized and cropped; which library resizes then means nothing."""
        if self.code is not None:
            return Preprocessing(self.crop, self.crop, library="opencv", mean=(0.0,) * 3, std=(1 / 255,) * 3)
        return dataclasses.replace(self, resize=self.crop, interpolation="bilinear", library="opencv", crop_at=None)

    def resized_size(self, height: int, width: int) -> Size:
        """(height, width) after torchvision's ``Resize``, whose long side is truncated; of a Fit, what it fills."""
        if isinstance(self.resize, str):
            return height, width
        if isinstance(self.resize, Fit):
            return self.resize.size
        if not isinstance(self.resize, int):
            return self.resize
        if width <= height:
            return int(self.resize * height / width), self.resize
        return self.resize, int(self.resize * width / height)

    def refuses(self, height: int, width: int) -> str | None:
        """Why an image of this size cannot be prepared; None where it can."""
        least_height, least_width = self.size
        is_exact = self.resize == EXACT
        fits = height >= least_height and width >= least_width
        if self.code is not None or not isinstance(self.resize, str) or (height, width) == self.size:
            return None
        if fits and not is_exact:
            return None
        return (
            f"is {height} x {width} pixels (height x width), but the model takes {'' if is_exact else 'at least '}"
            f"{least_height} x {least_width} and resize is none; resize it beforehand, or set models.<variant>.resize"
        )

    def crop_offset(self, resized: Size) -> Size:
        """First row and column of the crop in an image of this size: ``crop_at``, or torchvision's ``CenterCrop``.

        Python's ``round`` goes to the even neighbour there.
        """
        if self.crop_at is not None:
            return self.crop_at
        (height, width), (crop_height, crop_width) = resized, self.size
        return round((height - crop_height) / 2.0), round((width - crop_width) / 2.0)

    def keeps(self, height: int, width: int) -> bool:
        """Whether an image of this size comes out as it is."""
        return self.code is None and (height, width) == self.size == self.resized_size(height, width)

    @property
    def word_for_vdsp(self) -> str | None:
        """What vdsp_params have no word for; None where the device itself can do all of it."""
        if self.code is not None:
            return "code of your own"
        if not isinstance(self.resize, int | tuple):
            return f"a resize that is {self.resize_text}"
        return None if self.interpolation == "bilinear" else f"{self.interpolation} resampling"


def _by(size: Size) -> str:
    return f"{size[0]} x {size[1]}"
