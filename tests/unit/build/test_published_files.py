"""Every shape of build file that the vendor publishes for classifiers, and what is read from it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from mnasbench.build.calibration_images import ImageStream
from mnasbench.build.config import build_file, read_build_config
from mnasbench.errors import SettingsError
from mnasbench.preprocessing import Preprocessing

HEAD = {
    "name": "net_int8",
    "frontend": {
        "shape": {"input": [1, 3, 224, 224]},
        "type": "onnx",
        "checkpoint": "/path/to/net.onnx",
        "dtype": "fp32",
    },
    "backend": {
        "type": "tvm_vacc",
        "dtype": "int8",
        "compile": {"cluster_mode": 0},
        "quantize": {"calibrate_mode": "percentile", "quantize_per_channel": True},
    },
    "graph": {"extra_ops": {"type": "softmax"}},
    "workspace": {"path": "./deploy_weights/"},
}
DECODE, TENSOR = {"type": "DecodeImage"}, {"type": "ToTensor"}
RESIZE, CROP = {"type": "Resize", "size": [256, 256]}, {"type": "CenterCrop", "crop_size": [224, 224]}
NORMALIZE = {"type": "Normalize", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
SQUEEZED = Preprocessing(resize=(256, 256), library="opencv")


def _read(tmp_path: Path, operations: list[dict] | None, **backend: object):
    content = {**HEAD, "backend": {**HEAD["backend"], **backend}}
    if operations is not None:
        sampler = {"suffix": "JPEG", "get_data_num": 50}
        content["dataset"] = {"type": "tvm", "path": "/path/to/calib", "sampler": sampler, "process_ops": operations}
    file = tmp_path / "build.yaml"
    file.write_text(yaml.safe_dump(content))
    return read_build_config(file, 2)


@pytest.mark.parametrize(
    ("operations", "preprocessing"),
    [
        # mnasnet, resnet, mobilenet, ... : nearly all
        ([DECODE, RESIZE, CROP, NORMALIZE, TENSOR], SQUEEZED),
        # swin, vit, mobilevit: no dataset at all
        (None, None),
        # PP-LCNet document orientation: no crop
        (
            [DECODE, {**RESIZE, "size": [224, 224]}, {**NORMALIZE, "div255": True}, TENSOR],
            Preprocessing(resize=(224, 224), library="opencv"),
        ),
        # keras resnet: values of 0 to 255
        (
            [DECODE, RESIZE, CROP, {**NORMALIZE, "div255": False, "mean": [103.939, 116.779, 123.68], "std": [1, 1, 1]}, TENSOR],
            Preprocessing(
                resize=(256, 256), library="opencv", mean=(103.939 / 255, 116.779 / 255, 123.68 / 255), std=(1 / 255,) * 3
            ),
        ),
        # megvii's shufflenet: blue, green, red
        (
            [DECODE, RESIZE, CROP, {"type": "CvtColor", "code": "COLOR_RGB2BGR"}, NORMALIZE, TENSOR],
            replace(SQUEEZED, colours="BGR"),
        ),
        # as they are decoded
        ([DECODE, CROP, NORMALIZE, TENSOR], replace(SQUEEZED, resize="none")),
        ([DECODE, NORMALIZE, TENSOR], replace(SQUEEZED, resize="exact")),
        # ours: where a crop begins
        ([DECODE, RESIZE, {**CROP, "crop_at": [15, 16]}, NORMALIZE, TENSOR], replace(SQUEEZED, crop_at=(15, 16))),
        # the options of the notes
        (
            [DECODE, {**RESIZE, "adaptive_side": "short", "interpolation": "bilinear", "backend": "pillow"}, CROP, NORMALIZE, TENSOR],
            Preprocessing(resize=256),
        ),
    ],
)  # fmt: skip
def test_operations(tmp_path: Path, operations: list[dict] | None, preprocessing: Preprocessing | None) -> None:
    config = _read(tmp_path, operations)
    assert config.preprocessing == preprocessing
    assert (config.precision, config.softmax, config.prefix) == (
        "int8-percentile",
        True,
        Path("deploy_weights/net_int8/mod"),
    )
    if operations is not None:
        assert (config.images, config.suffix) == (50, "JPEG")
    # The embedded compiler's own words for the same read back alike.
    file = tmp_path / "again.yaml"
    file.write_text(yaml.safe_dump(build_file(config)))
    again = read_build_config(file, 2)
    assert again.preprocessing == preprocessing


def test_what_stays_in_float_and_what_is_the_cards(tmp_path: Path) -> None:
    config = _read(
        tmp_path,
        [DECODE, RESIZE, CROP, NORMALIZE, TENSOR],
        compile={"cluster_mode": 0, "data_transport_mode": 1},
        quantize={
            "calibrate_mode": "max",
            "skip_conv_layers": [0, 3],
            "skip_matmul_layers": [0],
            "calibrate_chunk_by": -1,
        },
    )
    assert config.skip_layers == (0, 3) and config.assumed == ()
    assert set(config.ignored) == {
        "backend.compile.cluster_mode",
        "backend.compile.data_transport_mode",
        "backend.quantize.skip_matmul_layers",
        "backend.quantize.calibrate_chunk_by",
    }


@pytest.mark.parametrize(
    ("operations", "backend", "message"),
    [
        # misspelt in two published files
        (None, {"quantize": {"alibrate_mode": "percentile"}}, "'backend.quantize.alibrate_mode'; did you mean 'calibrate_mode'"),
        # published for a net of 256 x 256
        ([DECODE, RESIZE, {**CROP, "crop_size": [192, 192]}, NORMALIZE, TENSOR], {}, "CenterCrop gives 192x192 pixels"),
        ([DECODE, RESIZE, CROP, NORMALIZE, {"type": "CvtColor", "code": "COLOR_RGB2BGR"}, TENSOR], {}, "stands after Normalize"),
        ([DECODE, RESIZE, CROP, {"type": "CvtColor", "code": "COLOR_BGR2GRAY"}, NORMALIZE], {}, "CvtColor.code is 'BGR2GRAY'"),
        ([DECODE, RESIZE, CROP, {"type": "CvtColor"}, NORMALIZE], {}, "CvtColor.code is 'None'"),
        # what would have been filled in without a word
        ([DECODE, RESIZE, NORMALIZE, TENSOR], {}, "Resize.size is .256, 256., but the model's input has 224x224 pixels"),
        ([DECODE, RESIZE, CROP, TENSOR], {}, "no Normalize with a mean and std"),
        ([DECODE, RESIZE, CROP, {"type": "Normalize", "mean": [0.5] * 3}], {}, "they belong together"),
        ([DECODE, RESIZE, CROP, {**NORMALIZE, "div255": "false"}], {}, "div255 is 'false', expected true or false"),
        ([DECODE, RESIZE, CROP, {**NORMALIZE, "div255": None}], {}, "div255 is None, expected true or false"),
        ([DECODE, RESIZE, CROP, {**NORMALIZE, "div255": False}], {}, "of values of 0 to 1; write div255: true"),
        ([DECODE, RESIZE, CROP, {**NORMALIZE, "mean": [123.7] * 3}], {}, "of values of 0 to 255; write div255: false"),
        ([DECODE, {**RESIZE, "adaptive_side": "long"}, CROP, NORMALIZE], {}, "adaptive_side is 'long', expected short"),
        (None, {"type": "tvm_vac"}, "'backend.type' is 'tvm_vac'; did you mean 'tvm_vacc'"),
        (None, {"dtype": None}, "'backend.dtype' is missing"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path: Path, operations: list[dict] | None, backend: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        _read(tmp_path, operations, **backend)


def test_swapped_colours_reach_the_calibration(tmp_path: Path) -> None:
    Image.new("RGB", (40, 32), (200, 100, 0)).save(tmp_path / "a.png")
    p = Preprocessing(resize=32, crop=32, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), colours="BGR")
    with ImageStream([tmp_path / "a.png"], p) as stream:
        (batch,) = stream()
    np.testing.assert_allclose(batch[0, :, 16, 16] * 255, [0, 100, 200], atol=1e-4)
