"""vdsp_params: the vendor's description of the preprocessing, in the three forms that its tools have used.

``sdk1.0``: a flat object of integers; means and standard deviations are fp16 bit patterns (14275 is 0.485).
``2023``: ``vdsp_op_type`` by name, and ``config``, a list of ``{Property, DType, ParamType, Value}``.
``current``: ``{OpType, OpConfig}``; means and standard deviations are floats.

All three are read; the one that the configuration asks for is written. A conversion of colours swaps red and blue, and
the means then belong to the channels in their new order (inferred). Codes are those of the vendor's public headers
(``COLOR_NO_CHANGE = 2``, ``COLOR_BGR2RGB = 3``) and published files; what only a card can confirm is marked (inferred).
Keys that say nothing about pixels in host memory (pitches) are accepted.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mnasbench.errors import SettingsError, did_you_mean, one_line
from mnasbench.files import read_json
from mnasbench.preprocessing import Preprocessing, Resize, Size, on_another_scale

VARIANTS = ("current", "2023", "sdk1.0")

_Triple = tuple[float, float, float]
_Value = TypeVar("_Value", int, str)

_FLAT_RESIZE_CROP, _FLAT_RESIZE = 300, 301
_OP_2023 = "RGB_RESIZE_CVTCOLOR_CROP_NORMALIZATION_TENSORIZATION_U8"
_OP_CONVERT = "FUSION_OP_RGB_CVTCOLOR_NORM_TENSOR"
_OP_RESIZE = "FUSION_OP_RGB_RESIZE_CVTCOLOR_NORM_TENSOR"
_OP_RESIZE_CROP = "FUSION_OP_RGB_RESIZE_CVTCOLOR_CROP_NORM_TENSOR"

_NORMA_NAMES = ("EQUAL", "DIV255", "MINUSMEAN_DIVSTD", "DIV255_MINUSMEAN_DIVSTD", "DIV1275_MINUSONE")
_NORMA_CODES = {3: "MINUSMEAN_DIVSTD", 4: "DIV255_MINUSMEAN_DIVSTD"}
_COLOUR_CODES = {2: "NO_CHANGE", 3: "BGR2RGB"}
_RESIZE_CODES = {1: "BILINEAR_CV", 2: "BILINEAR_PILLOW"}  # 2 is inferred; published files hold 1
_LIBRARIES = {"BILINEAR_CV": "opencv", "BILINEAR_PILLOW": "pillow", "BILINEAR": "opencv"}

# Inputs are RGB planes, in npz files and everywhere here; the number is that of the vendor's public samples.
_IMAGE_FORMATS = ("RGB_PLANAR", 5000)
_SIZES_CURRENT = ("OimageWidth", "OimageHeight", "ResizeWidth", "ResizeHeight", "CropX", "CropY")

_GEOMETRY_FLAT = {
    "iimage_format", "iimage_width", "iimage_height", "iimage_width_pitch", "iimage_height_pitch", "oimage_width",
    "oimage_height", "oimage_width_pitch", "oimage_height_pitch", "short_edge_threshold", "crop_size", "color_space",
}  # fmt: skip
_VALUES_FLAT = {"meanr", "meang", "meanb", "stdr", "stdg", "stdb", "norma_type", "resize_type", "color_cvt_code"}
_KEYS_CURRENT = {
    "IimageFormat", "ImageFormat", "IimageWidth", "IimageHeight", "IimageWidthPitch", "IimageHeightPitch",
    "OimageFormat", "OimageWidth", "OimageHeight", "OimageWidthPitch", "OimageHeightPitch", "ResizeWidth",
    "ResizeHeight", "ShortEdgeThreshold", "CropX", "CropY", "Mean", "Std", "NormaType", "ColorCvtCode",
    "ColorSpace", "ResizeType",
}  # fmt: skip


# ---------------------------------------------------------------------------------------------------------- writing
def vdsp_params(
    p: Preprocessing, variant: str = "current", *, resized: bool = False, fp16: bool = False
) -> dict[str, Any]:
    """The content of a vdsp_params file that asks for ``p``, in one of the three forms.

    ``resized``: the inputs were resized and cropped beforehand, so only the normalisation is left. ``2023`` and
    ``sdk1.0`` hold fp16 bit patterns, so they round means and standard deviations; ``current`` holds exact ones,
    or with ``fp16`` the rounded ones of the vendor's own files. SettingsError where a form cannot say what ``p``
    asks for.
    """
    if variant not in VARIANTS:
        raise SettingsError(f"vdsp_params variant is {variant!r}{did_you_mean(variant, VARIANTS)}")
    if resized:
        # Every published file names OpenCV's bilinear resampling.
        p = p.without_resize()
    if p.interpolation != "bilinear":
        raise SettingsError(
            f"vdsp_params know bilinear resampling only, not {p.interpolation}; use npz: preprocessed, "
            "which resizes beforehand"
        )
    if variant == "current":
        return _current(p, fp16, resized)
    return _listed(p) if variant == "2023" else _flat(p)


def _flat_fields(p: Preprocessing) -> dict[str, int]:
    height, width = p.size
    if p.short_side is None or height != width:
        raise SettingsError(
            f"vdsp_params of this form hold a short side and a square crop, not {one_line(p.resize)} and "
            f"{one_line(p.crop)}; use the form 'current'"
        )
    return {"short_edge_threshold": p.short_side, "crop_size": height, **_value_bits(p)}


def _value_bits(p: Preprocessing) -> dict[str, int]:
    names = ("meanr", "meang", "meanb", "stdr", "stdg", "stdb")
    bits = np.array((*p.mean, *p.std), dtype=np.float16).view(np.uint16)
    return dict(zip(names, bits.tolist(), strict=True))


def _flat(p: Preprocessing) -> dict[str, Any]:
    resize = next(code for code, name in _RESIZE_CODES.items() if _LIBRARIES[name] == p.library)
    colour = 2 if p.colours == "RGB" else 3
    codes = {"resize_type": resize, "norma_type": 4, "color_cvt_code": colour}
    if p.fixed_size == p.size:
        size = {"oimage_width": p.size[1], "oimage_height": p.size[0]}
        return {"vdsp_op_type": _FLAT_RESIZE, "iimage_format": 5000, **size, **_value_bits(p), **codes}
    return {"vdsp_op_type": _FLAT_RESIZE_CROP, "iimage_format": 5000, **_flat_fields(p), **codes}


def _listed(p: Preprocessing) -> dict[str, Any]:
    def entry(name: str, value: int | str, kind: str) -> dict[str, Any]:
        return {"Property": name, "DType": kind, "ParamType": "ELEMENT", "Value": value}

    fields = _flat_fields(p)
    config = [entry("iimage_format", "RGB_PLANAR", "ENUM")]
    config += [entry(f"iimage_{side}", fields["short_edge_threshold"], "UINT") for side in ("width", "height")]
    config += [entry(name, value, "UINT") for name, value in fields.items()]
    config += [
        entry("norma_type", "DIV255_MINUSMEAN_DIVSTD", "ENUM"),
        entry("resize_type", _resize_type(p), "ENUM"),
        entry("color_cvt_code", f"COLOR_{_conversion(p)}", "ENUM"),
    ]
    return {"vdsp_op_type": _OP_2023, "config": config}


def _resize_type(p: Preprocessing) -> str:
    return {"opencv": "BILINEAR_CV", "pillow": "BILINEAR_PILLOW"}[p.library]


def _conversion(p: Preprocessing) -> str:
    """The conversion of images that come as RGB."""
    return "NO_CHANGE" if p.colours == "RGB" else "RGB2BGR"


def _current(p: Preprocessing, fp16: bool, resized: bool) -> dict[str, Any]:
    mean, std = (rounded_to_fp16(p.mean), rounded_to_fp16(p.std)) if fp16 else (p.mean, p.std)
    values = {
        "Mean": list(mean),
        "Std": list(std),
        "NormaType": "DIV255_MINUSMEAN_DIVSTD",
        "ColorCvtCode": _conversion(p),
    }
    crop_height, crop_width = p.size
    out = {"OimageWidth": crop_width, "OimageHeight": crop_height}
    if resized:
        side = {"IimageWidth": crop_width, "IimageHeight": crop_height}
        return {"OpType": _OP_CONVERT, "OpConfig": {"IimageFormat": "RGB_PLANAR", **side, **out, **values}}
    if p.fixed_size == p.size:
        config = {"IimageFormat": "RGB_PLANAR", **out, **values, "ResizeType": _resize_type(p)}
        return {"OpType": _OP_RESIZE, "OpConfig": config}
    if p.short_side is not None:
        # The published op knows two fixed sides only; the short side is an extension of the embedded engine.
        geometry = {"ShortEdgeThreshold": p.short_side}
    elif p.fixed_size is not None:
        height, width = p.fixed_size
        top, left = p.crop_offset(p.fixed_size)
        geometry = {"ResizeWidth": width, "ResizeHeight": height, "CropX": left, "CropY": top}
    else:
        raise SettingsError(f"vdsp_params have no word for a resize to {one_line(p.resize)}; use npz: preprocessed")
    config = {"IimageFormat": "RGB_PLANAR", **geometry, **out, **values, "ResizeType": _resize_type(p)}
    return {"OpType": _OP_RESIZE_CROP, "OpConfig": config}


def rounded_to_fp16(values: _Triple) -> _Triple:
    """The nearest numbers that fp16 has."""
    red, green, blue = (float(np.float16(value)) for value in values)
    return red, green, blue


# ---------------------------------------------------------------------------------------------------------- reading
def read_vdsp_params(path: Path) -> Preprocessing:
    """Read any of the three forms; SettingsError names the key or value that is wrong and what is known."""
    content = read_json(path)
    try:
        if not isinstance(content, Mapping):
            raise SettingsError("is not a JSON object")
        if "OpConfig" in content:
            return _read_current(content)
        if "config" in content:
            return _read_listed(content)
        if "vdsp_op_type" in content:
            return _read_flat(content)
        raise SettingsError("has neither 'OpType' nor 'vdsp_op_type', so it is not a vdsp_params file")
    except SettingsError as error:
        raise SettingsError(f"{one_line(path)}: {error}") from error


def _read_flat(content: Mapping[str, Any]) -> Preprocessing:
    _refuse_unknown(content, _GEOMETRY_FLAT | _VALUES_FLAT | {"vdsp_op_type"})
    _check_format(content, "iimage_format")
    op = _choice(content, "vdsp_op_type", (_FLAT_RESIZE_CROP, _FLAT_RESIZE))
    # EQUAL, DIV255 and DIV1275_MINUSONE have no published number.
    norma = _NORMA_CODES[_choice(content, "norma_type", tuple(_NORMA_CODES))]
    colour = _COLOUR_CODES[_choice(content, "color_cvt_code", tuple(_COLOUR_CODES))]
    library = _LIBRARIES[_RESIZE_CODES[_choice(content, "resize_type", tuple(_RESIZE_CODES))]]
    return _from_flat_fields(content, op == _FLAT_RESIZE, norma, colour, library)


def _read_listed(content: Mapping[str, Any]) -> Preprocessing:
    _refuse_unknown(content, {"vdsp_op_type", "config"})
    _choice(content, "vdsp_op_type", (_OP_2023,))
    fields: dict[str, Any] = {}
    if not isinstance(content["config"], list):
        raise SettingsError("config is not a list")
    for entry in content["config"]:
        if not isinstance(entry, Mapping) or not isinstance(entry.get("Property"), str) or "Value" not in entry:
            raise SettingsError("config: every entry must have 'Property', a name, and 'Value'")
        if entry["Property"] in fields:
            raise SettingsError(f"config: property {entry['Property']!r} stands twice")
        fields[str(entry["Property"])] = entry["Value"]
    _refuse_unknown(fields, _GEOMETRY_FLAT | _VALUES_FLAT)
    _check_format(fields, "iimage_format")
    norma = _choice(fields, "norma_type", _NORMA_NAMES)
    codes = ("COLOR_NO_CHANGE", "COLOR_BGR2RGB", "COLOR_RGB2BGR")
    colour = _choice(fields, "color_cvt_code", codes).removeprefix("COLOR_")
    library = _LIBRARIES[_choice(fields, "resize_type", tuple(_LIBRARIES))]
    return _from_flat_fields(fields, False, norma, colour, library)


def _from_flat_fields(
    fields: Mapping[str, Any], squeezed: bool, norma: str, colour: str, library: str
) -> Preprocessing:
    if squeezed:
        crop: int | Size = (_side(fields, "oimage_height"), _side(fields, "oimage_width"))
        resize: Resize = crop
    else:
        crop, resize = _side(fields, "crop_size"), _side(fields, "short_edge_threshold")
    mean, std = (
        tuple(_from_bits(fields, name + channel) for channel in "rgb") if "MEAN" in norma else (0.0, 0.0, 0.0)
        for name in ("mean", "std")
    )
    return _params(resize, crop, library, norma, colour, mean, std)


def _read_current(content: Mapping[str, Any]) -> Preprocessing:
    _refuse_unknown(content, {"OpType", "OpConfig"})
    config = content["OpConfig"]
    if not isinstance(config, Mapping):
        raise SettingsError("OpConfig is not an object")
    _refuse_unknown(config, _KEYS_CURRENT)
    for key in ("IimageFormat", "ImageFormat", "OimageFormat"):
        _check_format(config, key)
    op = _choice(content, "OpType", (_OP_CONVERT, _OP_RESIZE, _OP_RESIZE_CROP))
    if not any(key in config for key in _SIZES_CURRENT):
        raise SettingsError(
            "names no size (the vendor's own script for it reckons them for each image in its code); add OimageWidth "
            "and OimageHeight, the model's input, and ShortEdgeThreshold, the side that the short one is scaled to"
        )
    crop = (_side(config, "OimageHeight"), _side(config, "OimageWidth"))
    resize, library, place = _current_geometry(op, config, crop)
    norma = _choice(config, "NormaType", _NORMA_NAMES)
    colour = _choice(config, "ColorCvtCode", ("NO_CHANGE", "RGB2BGR", "BGR2RGB"))
    mean, std = (_triple(config, name) if "MEAN" in norma else (0.0, 0.0, 0.0) for name in ("Mean", "Std"))
    return _params(resize, crop, library, norma, colour, mean, std, place)


def _current_geometry(op: str, config: Mapping[str, Any], crop: Size) -> tuple[Resize, str, Size | None]:
    """The resize, whose it is, and where the crop begins if that is not torchvision's centre."""
    if op == _OP_CONVERT:
        return crop[0] if crop[0] == crop[1] else crop, "pillow", None
    library = _LIBRARIES[_choice(config, "ResizeType", tuple(_LIBRARIES))]
    if op == _OP_RESIZE:
        _refuse_together(config, "an op without a crop", ("ResizeWidth", "ResizeHeight", "CropX", "CropY"))
        return crop, library, None
    if "ShortEdgeThreshold" in config:
        _refuse_together(config, "ShortEdgeThreshold", ("ResizeWidth", "ResizeHeight", "CropX", "CropY"))
        return _side(config, "ShortEdgeThreshold"), library, None
    resized = (_side(config, "ResizeHeight"), _side(config, "ResizeWidth"))
    place = (_first(config, "CropY", resized[0] - crop[0]), _first(config, "CropX", resized[1] - crop[1]))
    # Published files begin at 21 where torchvision, which goes to the even neighbour of 21.5, begins at 22.
    centred = place == Preprocessing(resized, crop).crop_offset(resized)
    return resized, library, None if centred else place


def _first(config: Mapping[str, Any], key: str, most: int) -> int:
    """The row or column that a crop begins at."""
    if most < 0:
        raise SettingsError("ResizeWidth and ResizeHeight are smaller than OimageWidth and OimageHeight, the crop's")
    value = config.get(key)
    if type(value) is not int or not 0 <= value <= most:
        raise SettingsError(f"{key} is {value!r}, expected 0 to {most} (the centre: {most // 2})")
    return value


def _refuse_together(config: Mapping[str, Any], what: str, keys: tuple[str, ...]) -> None:
    for key in keys:
        if key in config:
            raise SettingsError(f"{key} stands with {what}, which leaves it without a meaning; remove one of them")


def _check_format(fields: Mapping[str, Any], key: str) -> None:
    if key in fields and fields[key] not in _IMAGE_FORMATS:
        raise SettingsError(
            f"{key} is {fields[key]!r}, but inputs here are RGB_PLANAR; write that, and the conversion from it to what "
            "the model takes"
        )


def _params(
    resize: Resize,
    crop: int | Size,
    library: str,
    norma: str,
    colour: str,
    mean: Any,
    std: Any,
    place: Size | None = None,
) -> Preprocessing:
    divided = norma == "DIV255_MINUSMEAN_DIVSTD"
    if "MEAN" in norma and on_another_scale(mean, std, divided=divided):
        values, right = ("0 to 255", "MINUSMEAN_DIVSTD") if divided else ("0 to 1", "DIV255_MINUSMEAN_DIVSTD")
        raise SettingsError(
            f"the mean is {list(mean)}, of values of {values}, but the normalisation is {norma}; write {right} "
            f"(norma_type {next(code for code, name in _NORMA_CODES.items() if name == right)} in sdk1.0)"
        )
    if norma == "EQUAL":  # x
        mean, std = (0.0,) * 3, (1 / 255,) * 3
    elif norma == "DIV255":  # x / 255
        mean, std = (0.0,) * 3, (1.0,) * 3
    elif norma == "DIV1275_MINUSONE":  # x / 127.5 - 1
        mean, std = (0.5,) * 3, (0.5,) * 3
    elif norma == "MINUSMEAN_DIVSTD":  # (x - mean) / std
        mean, std = tuple(value / 255 for value in mean), tuple(value / 255 for value in std)
    colours = "RGB" if colour == "NO_CHANGE" else "BGR"
    return Preprocessing(resize=resize, crop=crop, library=library, mean=mean, std=std, colours=colours, crop_at=place)


def _refuse_unknown(fields: Mapping[str, Any], allowed: set[str]) -> None:
    for key in fields:
        if key not in allowed:
            raise SettingsError(f"unknown key {key!r}{did_you_mean(str(key), allowed)}")


def _choice(fields: Mapping[str, Any], key: str, choices: tuple[_Value, ...]) -> _Value:
    value = fields.get(key)
    if isinstance(value, bool) or value not in choices:
        given = "is missing" if key not in fields else f"is {value!r}"
        raise SettingsError(f"{key} {given}{did_you_mean(str(value), map(str, choices))}")
    return choices[choices.index(value)]


def _side(fields: Mapping[str, Any], key: str) -> int:
    value = fields.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise SettingsError(f"{key} is {value!r}, expected a number of pixels")
    return value


def _from_bits(fields: Mapping[str, Any], key: str) -> float:
    value = fields.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 0xFFFF:
        raise SettingsError(f"{key} is {value!r}, expected the bits of an fp16 number as an integer (14275 is 0.485)")
    number = float(np.array(value, dtype=np.uint16).view(np.float16))
    if not math.isfinite(number):
        raise SettingsError(f"{key} is {value}, whose fp16 number is {number}")
    return number


def _triple(fields: Mapping[str, Any], key: str) -> _Triple:
    value = fields.get(key)
    numbers = value if isinstance(value, list) else []
    if len(numbers) != 3 or not all(type(item) in (int, float) and math.isfinite(item) for item in numbers):
        raise SettingsError(f"{key} is {value!r}, expected three numbers")
    return float(numbers[0]), float(numbers[1]), float(numbers[2])
