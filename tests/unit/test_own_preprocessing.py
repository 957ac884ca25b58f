"""What a user may say of a model's preprocessing: it takes the published one's place key by key, or is one line."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnasbench.data.preprocess import normalise
from mnasbench.errors import SettingsError
from mnasbench.preprocessing import INTERPOLATIONS, Fit, Preprocessing
from mnasbench.presets import preset
from mnasbench.settings import ModelSettings, load_settings


def model(**entry: Any) -> ModelSettings:
    entry = {"name": "mnasnet0_5", "weights": "w.pth"} | entry
    return load_settings({"dataset": {"name": "mine", "root": "x"}, "models": {"m": entry}}).models["m"]


def test_nothing_said_is_as_published() -> None:
    plain = model()
    assert plain.preprocessing == preset("torchvision", "mnasnet0_5").preprocessing and plain.own == ()
    assert (
        "IMAGENET1K_V1 (the first published, as neither name nor digest says which): resize short side 256 (bilin"
        in (plain.preprocessing_text)
    )


def test_each_key_changes_itself_alone() -> None:
    published = model().preprocessing
    for key, value, field, expected in (
        ("mean", [0.5, 0.5, 0.25], "mean", (0.5, 0.5, 0.25)),
        ("std", [1, 1, 1], "std", (1.0, 1.0, 1.0)),
        ("interpolation", "lanczos", "interpolation", "lanczos"),
        ("resampling", "opencv", "library", "opencv"),
        ("resize", {"fit": 224, "fill": 114}, "resize", Fit((224, 224), fill=(114, 114, 114))),
        ("resize", [224, 224], "resize", (224, 224)),
        ("resize", "none", "resize", "exact"),
    ):
        changed = model(**{key: value})
        assert changed.own == (key,) and key in changed.preprocessing_text
        assert (
            changed.preprocessing.to_json()
            == published.to_json()
            | Preprocessing.from_json(published.to_json() | {field: getattr(changed.preprocessing, field)}).to_json()
        )
        assert getattr(changed.preprocessing, field) == expected


def test_values_of_0_to_255_are_meant_as_such() -> None:
    p = model(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], scale=[0, 255]).preprocessing
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, 8, 8), dtype=np.uint8)
    mean, std = (np.array(v, np.float32)[:, None, None] for v in ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]))
    assert np.allclose(normalise(pixels, p), (pixels - mean) / std, rtol=1e-6, atol=1e-6)
    raw = model(mean=[0, 0, 0], std=[1, 1, 1], scale=[0, 255]).preprocessing
    assert np.allclose(normalise(pixels, raw), pixels, rtol=1e-6)


def test_each_colour_keeps_its_published_mean_in_another_order() -> None:
    p = model(colours="BGR").preprocessing
    assert (p.colours, p.mean, p.std) == ("BGR", (0.406, 0.456, 0.485), (0.225, 0.224, 0.229))
    assert model(colours="BGR", mean=[0.1, 0.2, 0.3]).preprocessing.mean == (0.1, 0.2, 0.3)
    assert model(colours="RGB").preprocessing.mean == (0.485, 0.456, 0.406)


def test_the_crop_is_the_input() -> None:
    assert model(crop=192).preprocessing.size == (192, 192)
    assert model(crop=192).preprocessing.resize == 219  # in the published proportion, as with size
    assert model(resize="none", crop=192).preprocessing.resize == "none"
    for resize in ([192, 192], {"fit": 192}, {"fit": [192, 192], "pad": "right-bottom"}):
        assert model(resize=resize, crop="none", size=192).preprocessing.fills_input


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"mean": [123.7, 116.3, 103.5]}, r"m\.mean: .* is not within 0 to 1, .*; for values of 0\.\.255 write scale"),
        ({"mean": [-0.1, 0, 0]}, r"m\.mean: \[-0\.1, 0, 0\] is not within 0 to 1"),
        ({"std": [0, 1, 1]}, r"m\.std: \[0, 1, 1\] is not within above 0 to 1"),
        (
            {"mean": [0.485, 0.456, 0.406], "std": [58.4, 57.1, 57.4], "scale": [0, 255]},
            r"m\.mean: .* is of values of 0\.\.1, but scale is \[0, 255\]",
        ),
        (
            {"mean": [0, 0, 0], "std": [0.229, 0.224, 0.225], "scale": [0, 255]},
            r"m\.std: .* is of values of 0\.\.1, but scale is \[0, 255\]",
        ),
        ({"scale": [0, 255]}, r"m\.scale: says what mean and std are on; give both"),
        ({"scale": [0, 2]}, r"m\.scale: \[0, 2\] is not one of the values .*\[0, 255\]"),
        ({"scale": 255}, r"m\.scale: 255 is not one of the values"),
        ({"mean": [0.5, 0.5]}, r"m\.mean: \[0\.5, 0\.5\] is too short"),
        ({"mean": 0.5}, r"m\.mean: 0\.5 is not of type 'array'"),
        ({"mean": ["a", 0, 0]}, r"m\.mean\.0: 'a' is not of type 'number'"),
        ({"colours": "GBR"}, r"m\.colours: 'GBR' is not one .*did you mean"),
        ({"interpolation": "bicubik"}, r"m\.interpolation: 'bicubik' .*did you mean 'bicubic'"),
        ({"resampling": "opencv", "interpolation": "box"}, r"m: .*'box', which is Pillow's alone"),
        ({"crop": "none"}, r"m\.crop: none, but resize \(short side 256\) does not give .*write resize: \[224, 224\]"),
        ({"crop": 192, "size": 224}, r"m\.crop: 192 is not size \(224\)"),
        ({"crop": 5000}, r"m\.crop is 5000, expected 8 to 1024 pixels"),
        ({"crop": "half"}, r"m\.crop is 'half', expected a number"),
        ({"resize": {"fit": 200}}, r"m: .*is smaller than the crop of 224 x 224 pixels"),
        ({"resize": {"fit": 224, "colour": 3}}, r"m\.resize: unknown key 'colour'"),
        ({"resize": 200}, r"m: .*is smaller than the crop of 224 x 224 pixels"),
    ],
)
def test_what_contradicts_itself_is_one_line(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message) as error:
        model(**entry)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("entry", "settings", "message"),
    [
        (
            {"resize": {"fit": 224}},
            {},
            r"m\.resize: vdsp_params have no word for a resize that is fitted into 224 x 224",
        ),
        ({"resize": "none"}, {}, r"no word for a resize that is none"),
        ({"interpolation": "nearest"}, {}, r"no word for nearest resampling; use npz: preprocessed"),
        ({"resize": [256, 256]}, {"vdsp_params": "2023"}, r"\[256, 256\] is a fixed size, .*form '2023'"),
    ],
)
def test_what_whole_images_cannot_be_given_is_told_before_anything_runs(
    entry: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    entry = {"name": "mnasnet0_5", "weights": "w.pth"} | entry
    config = {"dataset": {"name": "mine", "root": "x"}, "models": {"m": entry}, **settings}
    load_settings(config)
    with pytest.raises(SettingsError, match=message):
        load_settings(config | {"npz": "original"})


@given(
    colours=st.sampled_from(["RGB", "BGR"]),
    interpolation=st.sampled_from(INTERPOLATIONS),
    mean=st.lists(st.floats(0, 1), min_size=3, max_size=3),
    std=st.lists(st.floats(0.01, 1), min_size=3, max_size=3),
)
def test_what_is_said_is_what_is_computed_with(
    colours: str, interpolation: str, mean: list[float], std: list[float]
) -> None:
    p = model(colours=colours, interpolation=interpolation, mean=mean, std=std).preprocessing
    assert (p.colours, p.interpolation, list(p.mean), list(p.std)) == (colours, interpolation, mean, std)
    assert Preprocessing.from_json(json.loads(json.dumps(p.to_json()))) == p
