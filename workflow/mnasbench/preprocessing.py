"""How an image becomes a tensor, as one value: its fields, its JSON, its name in a path, and its size arithmetic.

Light on purpose (no numpy, no Pillow): planning uses it. The pixels themselves are made in ``data/preprocess.py``.

Another meaning of ``resize`` is added in two places: here (``Resize`` and the functions below it that read one) and
where pixels are resized. Everything else passes the value on.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from mnasbench.errors import SettingsError, did_you_mean, one_line

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
INTERPOLATIONS = ("bilinear", "bicubic")
LIBRARIES = ("pillow", "opencv")
COLOURS = ("RGB", "BGR")
# Far beyond what any classifier takes; a resize to more would only fill the memory.
LONGEST_SIDE = 8192

# The short side in pixels, as torchvision's Resize(int); or (height, width), to which the image is squeezed.
Resize = int | tuple[int, int]
Size = tuple[int, int]


def resize_from_json(value: Any, where: str) -> Resize:
    """What settings and build files say of a resize; SettingsError, beginning with ``where``, for anything else."""
    return sides_from_json(value, where)


def sides_from_json(value: Any, where: str) -> int | Size:
    """A number of pixels, or ``[height, width]``; SettingsError, beginning with ``where``, for anything else."""
    sides = list(value) if isinstance(value, list | tuple) else [value]
    if len(sides) not in (1, 2) or not all(type(side) is int and 1 <= side <= LONGEST_SIDE for side in sides):
        raise SettingsError(f"{where} is {one_line(repr(value))}, expected a number of pixels or [height, width]")
    return int(sides[0]) if len(sides) == 1 else (sides[0], sides[1])


def resize_to_json(resize: Resize) -> int | list[int]:
    """What ``resize_from_json`` reads."""
    return resize if isinstance(resize, int) else list(resize)


def _resize_label(resize: Resize) -> str:
    return str(resize) if isinstance(resize, int) else "x".join(map(str, resize))


def _least_size(resize: Resize) -> Size:
    """The height and the width that any image has at least after the resize."""
    return (resize, resize) if isinstance(resize, int) else resize


def scaled(resize: Resize, ratio: Fraction) -> Resize:
    """The same resize for a crop that is ``ratio`` times as large."""

    def side(pixels: int) -> int:
        return round(pixels * ratio)

    return side(resize) if isinstance(resize, int) else (side(resize[0]), side(resize[1]))


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes a tensor.

    ``resize``: see ``Resize``. ``crop``: the centre crop, its side or ``(height, width)``; a pair of equal sides is
    kept as one number. ``library``: whose resampling is used, ``"pillow"`` (antialiased, torchvision's) or
    ``"opencv"`` (not antialiased, the vendor's). ``mean`` and ``std`` are on values in 0..1 and belong to the
    channels in the order of ``colours``, ``"RGB"`` or ``"BGR"``. ``crop_at``: first row and column of the crop in an
    image of a fixed size; None for torchvision's centre.
    """

    resize: Resize = 256
    crop: int | Size = 224
    interpolation: str = "bilinear"
    library: str = "pillow"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    colours: str = "RGB"
    crop_at: Size | None = None

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
        if not self.crop_fits:
            height, width = self.size
            raise SettingsError(
                f"preprocessing.resize ({self.resize}) is smaller than the crop of {height} x {width} pixels that "
                "follows it; give a larger resize, or a smaller crop"
            )
        if min(self.std) <= 0:
            raise SettingsError(f"preprocessing.std is {self.std}, but must be positive")
        if self.crop_at is not None:
            self._check_crop_at(self.crop_at)

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
        }

    @property
    def label(self) -> str:
        """Names in a path what decides the bytes of a preprocessed image; models that share it share their inputs."""
        library = "" if self.library == "pillow" else f"-{self.library}"
        place = "" if self.crop_at is None else f"at{self.crop_at[0]}x{self.crop_at[1]}"
        return f"resize{_resize_label(self.resize)}-crop{_resize_label(self.crop)}{place}-{self.interpolation}{library}"

    # ------------------------------------------------------------------------------------------------ size arithmetic
    @property
    def size(self) -> Size:
        """Height and width of what comes out."""
        return _least_size(self.crop)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of what comes out."""
        return (3, *self.size)

    @property
    def input_bytes(self) -> int:
        """Bytes of one preprocessed image, uint8."""
        return math.prod(self.shape)

    @property
    def crop_fits(self) -> bool:
        """Whether every resized image is as large as the crop, or larger."""
        return all(crop <= side for crop, side in zip(self.size, _least_size(self.resize), strict=True))

    @property
    def short_side(self) -> int | None:
        """The short side that images are scaled to, their proportions kept; None where they are squeezed."""
        return self.resize if isinstance(self.resize, int) else None

    @property
    def fixed_size(self) -> Size | None:
        """Height and width that every image has after the resize; None where they depend on the image."""
        return None if isinstance(self.resize, int) else self.resize

    def squeezed(self) -> "Preprocessing":
        """The same with a fixed size: a short side becomes that of a square."""
        return dataclasses.replace(self, resize=_least_size(self.resize))

    def without_resize(self) -> "Preprocessing":
        """What is left to do with images that this resized and cropped; which library resizes then means nothing."""
        return dataclasses.replace(self, resize=self.crop, interpolation="bilinear", library="opencv", crop_at=None)

    def resized_size(self, height: int, width: int) -> Size:
        """(height, width) after torchvision's ``Resize``: its long side is truncated, not rounded."""
        if not isinstance(self.resize, int):
            return self.resize
        if width <= height:
            return int(self.resize * height / width), self.resize
        return self.resize, int(self.resize * width / height)

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
        return (height, width) == self.size == self.resized_size(height, width)
