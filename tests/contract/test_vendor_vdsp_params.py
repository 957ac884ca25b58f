"""The vendor's own vdsp_params files against a second reading of them, written here on its own and to the pixel."""

import json
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from mnasbench.build.vdsp_params import read_vdsp_params
from mnasbench.data.preprocess import normalise, resize_and_crop
from mnasbench.errors import SettingsError

# The two whose sizes the vendor's scripts reckon in their code. What is said of them is in docs/vacc.md.
REFUSED = {"apple-mobilevit_b-vdsp_params.json", "microsoft-swin_b-vdsp_params.json"}
PIXELS = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)


def _tensor(config: dict[str, Any]) -> np.ndarray:
    """What the op makes of PIXELS, (3, height, width): the words of the file, one after the other."""
    wide, high = config["OimageWidth"], config["OimageHeight"]
    to = (config.get("ResizeWidth", wide), config.get("ResizeHeight", high))
    if config["ResizeType"] == "BILINEAR_PILLOW":
        image = np.asarray(Image.fromarray(PIXELS).resize(to, Image.Resampling.BILINEAR))
    else:
        image = cv2.resize(PIXELS, to, interpolation=cv2.INTER_LINEAR)
    left, top = config.get("CropX", 0), config.get("CropY", 0)
    image = image[top : top + high, left : left + wide]
    if config["ColorCvtCode"] != "NO_CHANGE":
        image = image[..., ::-1]
    x = image.transpose(2, 0, 1).astype(np.float64)
    mean, std = (np.array(config.get(key, [0, 0, 0]), np.float64)[:, None, None] for key in ("Mean", "Std"))
    if config["NormaType"] == "DIV255_MINUSMEAN_DIVSTD":
        return (x / 255 - mean) / std
    if config["NormaType"] == "MINUSMEAN_DIVSTD":
        return (x - mean) / std
    return {"EQUAL": x, "DIV255": x / 255, "DIV1275_MINUSONE": x / 127.5 - 1}[config["NormaType"]]


def _our_tensor(file: Path) -> np.ndarray:
    p = read_vdsp_params(file)
    planes = resize_and_crop(PIXELS, p)
    planes = planes[::-1] if p.colours == "BGR" else planes
    return normalise(np.ascontiguousarray(planes)[np.newaxis], p)[0]


def _files(vendor: Path) -> list[Path]:
    return sorted(vendor.glob("*/build_in/vdsp_params/*.json"))


def test_every_file_means_what_it_says(vendor: Path) -> None:
    files = _files(vendor)
    assert len(files) == 398
    refused = set()
    tensors: dict[str, np.ndarray] = {}
    for file in files:
        config = json.loads(file.read_text())["OpConfig"]
        words = json.dumps(config, sort_keys=True)
        try:
            p = read_vdsp_params(file)
        except SettingsError as error:
            refused.add(file.name)
            assert "names no size" in str(error) and "add OimageWidth and OimageHeight" in str(error)
            continue
        assert p.size == (config["OimageHeight"], config["OimageWidth"]), file
        if words not in tensors:
            tensors[words] = _tensor(config)
        ours = _our_tensor(file)
        # Values of 0 to 255 where the net takes such: a millionth of the largest.
        assert np.abs(ours - tensors[words]).max() <= 1e-6 * max(1, np.abs(tensors[words]).max()), file
    assert refused == REFUSED


def _bits(value: float) -> int:
    return struct.unpack("<H", struct.pack("<e", value))[0]


@pytest.mark.parametrize("form", ["sdk1.0", "2023"])
def test_the_older_forms_of_every_file_are_the_same_preprocessing(vendor: Path, tmp_path: Path, form: str) -> None:
    tried: set[str] = set()
    for file in _files(vendor):
        config = json.loads(file.read_text())["OpConfig"]
        words = json.dumps(config, sort_keys=True)
        # The older forms hold a short side and a square crop; sdk1.0's number of BILINEAR_PILLOW is not published.
        square = "Mean" in config and config.get("ResizeWidth") and config["ResizeType"] == "BILINEAR_CV"
        codes = {"MINUSMEAN_DIVSTD": 3, "DIV255_MINUSMEAN_DIVSTD": 4}
        colours = {"NO_CHANGE": 2, "BGR2RGB": 3}
        published = config["NormaType"] in codes and config["ColorCvtCode"] in colours
        if not square or words in tried or (form == "sdk1.0" and not published):
            continue
        tried.add(words)
        content: dict[str, Any] = {
            "short_edge_threshold": config["ResizeWidth"],
            "crop_size": config["OimageWidth"],
            **{f"mean{channel}": _bits(value) for channel, value in zip("rgb", config["Mean"], strict=True)},
            **{f"std{channel}": _bits(value) for channel, value in zip("rgb", config["Std"], strict=True)},
        }
        if form == "sdk1.0":
            content |= {"vdsp_op_type": 300, "iimage_format": 5000, "resize_type": 1}
            content |= {"norma_type": codes[config["NormaType"]], "color_cvt_code": colours[config["ColorCvtCode"]]}
        else:
            content |= {"iimage_format": "RGB_PLANAR", "norma_type": config["NormaType"], "resize_type": "BILINEAR_CV"}
            content |= {"color_cvt_code": f"COLOR_{config['ColorCvtCode']}"}
            listed = [{"Property": key, "DType": "", "ParamType": "", "Value": one} for key, one in content.items()]
            op = "RGB_RESIZE_CVTCOLOR_CROP_NORMALIZATION_TENSORIZATION_U8"
            content = {"vdsp_op_type": op, "config": listed}
        older = tmp_path / file.name
        older.write_text(json.dumps(content))
        ours, theirs = read_vdsp_params(older), read_vdsp_params(file)
        assert (ours.resize, ours.size, ours.colours, ours.library) == (
            config["ResizeWidth"],
            theirs.size,
            theirs.colours,
            theirs.library,
        )
        # Bit patterns of fp16; a few of the vendor's later files hold the decimals.
        np.testing.assert_allclose([ours.mean, ours.std], [theirs.mean, theirs.std], rtol=2**-11, err_msg=file.name)
    assert len(tried) > 15
