import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnasbench.build.vdsp_params import VARIANTS, read_vdsp_params, vdsp_params
from mnasbench.errors import SettingsError
from mnasbench.preprocessing import COLOURS, IMAGENET_MEAN, IMAGENET_STD, Preprocessing

BITS = {"meanr": 14275, "meang": 14156, "meanb": 13951, "stdr": 13140, "stdg": 13099, "stdb": 13107}
FLAT = {
    "vdsp_op_type": 300,
    "iimage_format": 5000,
    "short_edge_threshold": 256,
    "crop_size": 224,
    "resize_type": 1,
    "norma_type": 4,
    "color_cvt_code": 2,
    **BITS,
}
LISTED = {
    "vdsp_op_type": "RGB_RESIZE_CVTCOLOR_CROP_NORMALIZATION_TENSORIZATION_U8",
    "config": [
        {"Property": name, "DType": "UINT", "ParamType": "ELEMENT", "Value": value}
        for name, value in {
            "iimage_format": "RGB_PLANAR",
            "iimage_width": 256,
            "iimage_height": 256,
            "short_edge_threshold": 256,
            "crop_size": 224,
            **BITS,
            "norma_type": "DIV255_MINUSMEAN_DIVSTD",
            "resize_type": "BILINEAR_CV",
            "color_cvt_code": "COLOR_NO_CHANGE",
        }.items()
    ],
}
CURRENT = {
    "OpType": "FUSION_OP_RGB_RESIZE_CVTCOLOR_CROP_NORM_TENSOR",
    "OpConfig": {
        "IimageFormat": "RGB_PLANAR",
        "IimageWidth": 256,
        "IimageHeight": 256,
        "ResizeWidth": 256,
        "ResizeHeight": 256,
        "CropX": 16,
        "CropY": 16,
        "OimageWidth": 224,
        "OimageHeight": 224,
        "Mean": [0.485107421875, 0.4560546875, 0.406005859375],
        "Std": [0.22900390625, 0.2239990234375, 0.2249755859375],
        "NormaType": "DIV255_MINUSMEAN_DIVSTD",
        "ColorCvtCode": "NO_CHANGE",
        "ResizeType": "BILINEAR_CV",
    },
}


def read(content, tmp_path):
    path = tmp_path / "vdsp_params.json"
    path.write_text(json.dumps(content))
    return read_vdsp_params(path)


@pytest.mark.parametrize(("content", "resize"), [(FLAT, 256), (LISTED, 256), (CURRENT, (256, 256))])
def test_the_vendors_own_files_are_read(content, resize, tmp_path):
    p = read(content, tmp_path)
    assert (p.resize, p.crop, p.library, p.colours) == (resize, 224, "opencv", "RGB")
    assert p.mean == tuple(float(np.float16(value)) for value in IMAGENET_MEAN)
    assert p.std == tuple(float(np.float16(value)) for value in IMAGENET_STD)


halves = st.floats(0.0625, 1.0, width=16)
preprocessings = st.builds(
    Preprocessing,
    resize=st.integers(230, 400),
    crop=st.integers(32, 230),
    library=st.sampled_from(["pillow", "opencv"]),
    mean=st.tuples(halves, halves, halves),
    std=st.tuples(halves, halves, halves),
    colours=st.sampled_from(COLOURS),
)


@given(p=preprocessings, variant=st.sampled_from(VARIANTS))
def test_what_is_written_is_read_back(p, variant, tmp_path_factory):
    assert read(vdsp_params(p, variant), tmp_path_factory.mktemp("vdsp")) == p


@pytest.mark.parametrize("variant", ["current", "sdk1.0"])
def test_a_size_that_is_not_square_is_written_where_the_form_has_words_for_it(variant, tmp_path):
    p = Preprocessing(resize=(48, 192), crop=(48, 192), library="opencv", mean=(0.5,) * 3, std=(0.5,) * 3)
    assert read(vdsp_params(p, variant), tmp_path) == p


def test_only_the_current_form_keeps_exact_means_and_squeezes(tmp_path):
    for crop in (224, (192, 224)):
        p = Preprocessing(resize=(256, 288), crop=crop, library="opencv")
        assert read(vdsp_params(p), tmp_path) == p
    rounded = read(vdsp_params(p, fp16=True), tmp_path)
    assert rounded.mean[0] == 0.485107421875
    for variant in ("2023", "sdk1.0"):
        with pytest.raises(SettingsError, match="short side"):
            vdsp_params(p, variant)


@pytest.mark.parametrize("variant", VARIANTS)
def test_resized_inputs_leave_only_the_normalisation(variant, tmp_path):
    p = Preprocessing(resize=248, crop=224, interpolation="bicubic")
    with pytest.raises(SettingsError, match="bilinear"):
        vdsp_params(p, variant)
    found = read(vdsp_params(p, variant, resized=True), tmp_path)
    assert (found.resize, found.crop) == (224, 224)


@pytest.mark.parametrize(
    ("norma", "expected"),
    [
        ("EQUAL", lambda x, mean, std: x),
        ("DIV255", lambda x, mean, std: x / 255),
        ("DIV1275_MINUSONE", lambda x, mean, std: x / 127.5 - 1),
        ("MINUSMEAN_DIVSTD", lambda x, mean, std: (x - mean) / std),
        ("DIV255_MINUSMEAN_DIVSTD", lambda x, mean, std: (x / 255 - mean) / std),
    ],
)
def test_every_normalisation_is_its_formula(norma, expected, tmp_path):
    content = json.loads(json.dumps(CURRENT))
    content["OpConfig"] |= {"NormaType": norma, "Mean": [0.5, 0.25, 0.125], "Std": [0.25, 0.5, 2.0]}
    p = read(content, tmp_path)
    for x in (0, 1, 100, 255):
        for channel in range(3):
            mean, std = content["OpConfig"]["Mean"][channel], content["OpConfig"]["Std"][channel]
            assert (x / 255 - p.mean[channel]) / p.std[channel] == pytest.approx(expected(x, mean, std), rel=1e-6)


@pytest.mark.parametrize(
    ("sizes", "place", "kept"),
    [
        ((342, 299), 21, (21, 21)),  # of the vendor's inception files; torchvision goes to the even neighbour of 21.5
        ((342, 299), 22, None),
        ((256, 224), 16, None),
        ((256, 224), 0, (0, 0)),
    ],
)
def test_a_crop_begins_where_the_file_says(sizes, place, kept, tmp_path):
    resized, cropped = sizes
    geometry = {"ResizeWidth": resized, "ResizeHeight": resized, "OimageWidth": cropped, "OimageHeight": cropped}
    content = {**CURRENT, "OpConfig": {**CURRENT["OpConfig"], **geometry, "CropX": place, "CropY": place}}
    p = read(content, tmp_path)
    assert p.crop_at == kept and p.crop_offset((resized, resized)) == (place, place)
    assert read(vdsp_params(p), tmp_path) == p == Preprocessing.from_json(p.to_json())
    assert ("at" in p.label) == (kept is not None)
    assert vdsp_params(p, resized=True)["OpConfig"]["OimageWidth"] == cropped


@pytest.mark.parametrize("code", ["RGB2BGR", "BGR2RGB"])
def test_colours_that_change_places(code, tmp_path):
    assert read({**CURRENT, "OpConfig": {**CURRENT["OpConfig"], "ColorCvtCode": code}}, tmp_path).colours == "BGR"
    assert read({**FLAT, "color_cvt_code": 3}, tmp_path).colours == "BGR"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "not a JSON object"),
        ({"a": 1}, "not a vdsp_params file"),
        ({**FLAT, "norma_typ": 4}, "unknown key 'norma_typ'; did you mean 'norma_type'"),
        ({**FLAT, "meanr": 0.485}, "meanr is 0.485, expected the bits"),
        ({**FLAT, "stdg": 31744}, "whose fp16 number is inf"),
        ({**FLAT, "crop_size": "224"}, "crop_size is '224'"),
        ({**FLAT, "norma_type": 7}, "norma_type is 7"),
        ({**FLAT, "resize_type": True}, "resize_type is True"),
        ({**FLAT, "crop_size": 512}, "smaller than the crop of 512"),
        ({**LISTED, "config": [*LISTED["config"], LISTED["config"][3]]}, "stands twice"),
        ({**LISTED, "config": {"crop_size": 1}}, "config is not a list"),
        ({**LISTED, "config": [{"Property": "crop_size"}]}, "must have 'Property'"),
        ({**CURRENT, "OpType": "FUSION_OP_RGB_LETTERBOX"}, "OpType is 'FUSION_OP_RGB_LETTERBOX'"),
        (
            {**CURRENT, "OpConfig": {**CURRENT["OpConfig"], "CropX": 33}},
            "CropX is 33, expected 0 to 32 (the centre: 16)",
        ),
        ({**CURRENT, "OpConfig": {**CURRENT["OpConfig"], "ResizeWidth": 200}}, "smaller than OimageWidth"),
        ({**CURRENT, "OpConfig": {**CURRENT["OpConfig"], "IimageFormat": "BGR888"}}, "IimageFormat is 'BGR888', but"),
        ({**FLAT, "iimage_format": 5001}, "iimage_format is 5001, but inputs here are RGB_PLANAR"),
        ({**CURRENT, "OpConfig": {**CURRENT["OpConfig"], "ShortEdgeThreshold": 256}}, "ResizeWidth stands with Short"),
        ({"OpType": CURRENT["OpType"], "OpConfig": {"ResizeType": "BILINEAR"}}, "names no size"),
        ({**CURRENT, "OpConfig": {**CURRENT["OpConfig"], "Mean": [123.7, 116.3, 103.5]}}, "write MINUSMEAN_DIVSTD"),
        (
            {**FLAT, "norma_type": 3},
            "of values of 0 to 1, but the normalisation is MINUSMEAN_DIVSTD; write DIV255_MINU",
        ),
        ({**CURRENT, "OpConfig": {**CURRENT["OpConfig"], "Mean": [0.5, 0.5]}}, "expected three numbers"),
        ({**CURRENT, "OpConfig": {**CURRENT["OpConfig"], "Std": [0, 1, 1]}}, "std"),
        ({**CURRENT, "OpConfig": 3}, "OpConfig is not an object"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(content, message, tmp_path):
    with pytest.raises(SettingsError, match=r"vdsp_params\.json: ") as caught:
        read(content, tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_variant_is_named():
    with pytest.raises(SettingsError, match="did you mean 'current'"):
        vdsp_params(Preprocessing(), "curent")
