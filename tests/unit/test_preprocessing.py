"""The value that says how an image becomes a tensor: its JSON, its name, its sizes, and what it refuses."""

import json
import subprocess
import sys
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnasbench.errors import SettingsError
from mnasbench.preprocessing import (
    COLOURS,
    INTERPOLATIONS,
    OPENCV_INTERPOLATIONS,
    PADS,
    Fit,
    Preprocessing,
    resize_from_json,
    scaled,
)

sides = st.integers(1, 300)
values = st.floats(0.01, 1)
levels = st.integers(0, 255)
ways = [{"interpolation": name} for name in INTERPOLATIONS]
ways += [{"interpolation": name, "library": "opencv"} for name in OPENCV_INTERPOLATIONS]
preprocessings = st.sampled_from(ways).flatmap(
    lambda way: st.builds(
        Preprocessing,
        resize=st.integers(300, 600)
        | st.tuples(st.integers(300, 600), st.integers(300, 600))
        | st.builds(
            Fit,
            st.tuples(st.integers(300, 600), st.integers(300, 600)),
            st.sampled_from(PADS),
            st.tuples(*[levels] * 3),
        )
        | st.sampled_from(["none", "exact"]),
        crop=sides | st.tuples(sides, sides),
        mean=st.tuples(values, values, values),
        std=st.tuples(values, values, values),
        colours=st.sampled_from(COLOURS),
        **{key: st.just(value) for key, value in way.items()},
    )
)


@given(p=preprocessings)
def test_its_json_is_read_back(p: Preprocessing) -> None:
    assert Preprocessing.from_json(json.loads(json.dumps(p.to_json()))) == p


@given(p=preprocessings)
def test_what_decides_the_bytes_of_an_image_decides_its_label(p: Preprocessing) -> None:
    alike = Preprocessing.from_json(p.geometry_json())
    assert alike.label == p.label and "/" not in p.label
    assert (alike.shape, alike.input_bytes) == (p.shape, 3 * p.size[0] * p.size[1])


def test_labels_tell_preprocessings_apart() -> None:
    ways = [
        {},
        {"resize": 232},
        {"resize": (256, 256)},
        {"resize": "none"},
        {"resize": "exact"},
        {"resize": Fit((256, 256))},
        {"resize": Fit((256, 256), fill=(0, 0, 1))},
        {"resize": Fit((256, 256), pad="right-bottom")},
        {"crop": 192},
        {"crop": (192, 224)},
        {"interpolation": "bicubic"},
        {"library": "opencv"},
    ]
    assert Preprocessing().label == "resize256-crop224-bilinear"
    assert len({Preprocessing(**way).label for way in ways}) == len(ways)


@given(p=preprocessings, height=st.integers(1, 4000), width=st.integers(1, 4000))
def test_the_crop_lies_within_the_resized_image(p: Preprocessing, height: int, width: int) -> None:
    if isinstance(p.resize, str):  # what is too small is refused where the pixels are
        height, width = height + p.size[0], width + p.size[1]
    resized = p.resized_size(height, width)
    for size, offset, crop in zip(resized, p.crop_offset(resized), p.size, strict=True):
        assert 0 <= offset <= size - crop


@given(
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    height=st.integers(1, 3000),
    width=st.integers(1, 3000),
    pad=st.sampled_from(PADS),
)
def test_a_fitted_image_lies_within_and_touches_two_sides(
    size: tuple[int, int], height: int, width: int, pad: str
) -> None:
    fit = Fit(size, pad)
    resized = fit.resized_size(height, width)
    assert all(1 <= side <= most for side, most in zip(resized, size, strict=True)) and (
        resized[0] == size[0] or resized[1] == size[1]
    )
    # By whole numbers alone: the nearest to the image's own proportion.
    long = 0 if height * size[1] >= width * size[0] else 1
    exact = Fraction((height, width)[1 - long] * size[long], (height, width)[long])
    assert resized[1 - long] == max(1, round(exact)) or abs(exact - round(exact)) == Fraction(1, 2)
    before = fit.offset(resized)
    after = [side - first - taken for side, first, taken in zip(size, before, resized, strict=True)]
    if pad == "centre":
        assert all(0 <= last - first <= 1 for first, last in zip(before, after, strict=True))
    else:
        assert before == (0, 0)


def test_a_fit_is_scaled_with_its_crop() -> None:
    assert scaled(Fit((224, 224), fill=(1, 2, 3)), Fraction(2)) == Fit((448, 448), fill=(1, 2, 3))
    assert scaled("none", Fraction(2)) == "none"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"fitt": 224}, r"resize: unknown key 'fitt'; did you mean 'fit'"),
        ({"pad": "centre"}, r"resize\.fit is None, expected a number of pixels"),
        ({"fit": 224, "pad": "left"}, r"resize\.pad is 'left'; known: centre, right-bottom"),
        ({"fit": 224, "fill": 256}, r"resize\.fill is 256, expected a level of 0 to 255"),
        ({"fit": 224, "fill": [1, 2]}, r"resize\.fill is \[1, 2\]"),
        ({"fit": 224, "fill": 127.5}, r"resize\.fill is 127\.5"),
        ("whole", r"resize is 'whole', expected"),
    ],
)
def test_what_is_no_fit_is_named(value: object, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        resize_from_json(value, "resize")


def test_an_image_of_the_final_size_is_kept() -> None:
    p = Preprocessing(resize=256, crop=224)
    assert not p.keeps(224, 224)
    for done in (p.without_resize(), Preprocessing(resize=300, crop=(192, 224)).without_resize()):
        assert done.keeps(*done.size)


def test_equal_sides_are_one_number() -> None:
    assert Preprocessing(crop=(224, 224)) == Preprocessing(crop=224)
    assert resize_from_json([256], "resize") == 256


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("interpolation", "bilinaer", "did you mean 'bilinear'"),
        ("library", "pil", "pillow"),
        ("crop", 257, "smaller than the crop of 257 x 257"),
        ("crop", 0, "crop is 0, expected a number of pixels"),
        ("std", (0.2, 0.0, 0.2), "must be positive"),
    ],
)
def test_impossible_settings_are_named(field: str, value: object, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Preprocessing(**{field: value})


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "256", [], [1, 2, 3], [256, None], 10**6, None, "None"])
def test_what_is_no_resize_is_named(value: object) -> None:
    with pytest.raises(
        SettingsError, match=r"resize is .*, expected a number of pixels, \[height, width\], \{fit: \.\.\.\} or none"
    ):
        resize_from_json(value, "resize")


def test_an_unknown_key_is_named() -> None:
    with pytest.raises(SettingsError, match="unknown key 'croop'; did you mean 'crop'"):
        Preprocessing.from_json({"croop": 224})


def test_planning_is_spared_the_libraries_of_pixels() -> None:
    code = "import sys, mnasbench.preprocessing; print([name for name in ('numpy', 'PIL') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
