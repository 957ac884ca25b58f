"""Preprocessing by code of a user's own: its output is checked, and what is wrong with it is one line with its place."""

import math
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from mnasbench.build.calibration_images import ImageStream
from mnasbench.data.own_code import function_of, input_by
from mnasbench.data.preprocess import normalise, pixels_of
from mnasbench.errors import DatasetError, SettingsError
from mnasbench.preprocessing import Preprocessing
from mnasbench.settings import load_settings

# What the settings of a usual net say, by a user's hand.
AS_USUAL = """
import numpy as np
from PIL import Image

MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


def prepare(image):
    small = np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR))
    return ((small.astype(np.float32) / np.float32(255) - MEAN) / STD).transpose(2, 0, 1)
"""
NOISE = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(AS_USUAL)
    return path


def test_it_makes_what_the_settings_would(own: Path, tmp_path: Path) -> None:
    file = tmp_path / "one.png"
    Image.fromarray(NOISE).save(file)
    usual = Preprocessing(resize=(32, 32), crop=32)
    expected = normalise(pixels_of(file, usual)[None], usual)[0]
    p = Preprocessing("exact", 32, code=f"{own}:prepare")
    made = pixels_of(file, p)
    assert made.dtype == np.float32 == np.dtype(p.dtype) and np.array_equal(made, expected)
    assert p.input_bytes == made.nbytes
    with ImageStream([file] * 3, p) as stream:
        assert np.array_equal(np.concatenate(list(stream())), np.stack([expected] * 3))


def test_its_name_is_kept_and_tells_it_apart(own: Path) -> None:
    p = Preprocessing("exact", (32, 48), code=f"{own}:prepare")
    assert Preprocessing.from_json(p.to_json()) == p and Preprocessing.from_json(p.geometry_json()).label == p.label
    others = [Preprocessing("exact", (32, 48), code=code) for code in (f"{own}:other", "own.py:prepare")]
    assert len({one.label for one in (p, *others)}) == 3 and p.label.startswith("own-prepare-")
    left = p.without_resize()
    assert left.gives_input and left.keeps(32, 48) and left.code is None and not p.keeps(32, 48)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import numpy as np\ndef prepare(image)\n", r"own\.py: line 2: SyntaxError"),
        (
            "import numpy as np\n\nprint(nump)\ndef prepare(i): pass\n",
            r"own\.py: line 3 \(print\(nump\)\): NameError: name 'n",
        ),
        ("raise SystemExit(0)\n", r"own\.py: line 1 .*SystemExit"),
        ("def prepared(image): pass\n", r"own\.py: has no function 'prepare', but prepared"),
        ("prepare = 3\n", r"own\.py: has no function 'prepare', but none"),
    ],
)
def test_a_file_that_does_not_run_is_one_line(own: Path, text: str, message: str) -> None:
    own.write_text(text)
    with pytest.raises(SettingsError, match=message) as error:
        function_of(f"{own}:prepare")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return image.cut(3)", r"own\.py: line 5 \(return image\.cut\(3\)\): AttributeError: 'numpy.ndarray' object"),
        ("return below(image)", r"own\.py: line 8 \(return image\[99\]\): IndexError"),
        (
            "return image",
            r"own\.py:prepare: gave uint8 \(40, 50, 3\), expected float32 \(3, 32, 32\), the net's input$",
        ),
        ("return np.zeros((3, 32, 32))", r"gave float64 \(3, 32, 32\), .*; end it with \.astype\(np\.float32\)"),
        ("return np.zeros((32, 32, 3), np.float32)", r"gave float32 \(32, 32, 3\), expected float32 \(3, 32, 32\)"),
        ("return None", r"gave NoneType, expected"),
        ("return np.full((3, 32, 32), np.nan, np.float32)", r"gave values that are not finite"),
        ("raise ValueError('two\\nlines')", r"line 5 .*ValueError: two\\nlines"),
        ("exit()", r"line 5 \(exit\(\)\): SystemExit"),
    ],
)
def test_what_it_makes_is_checked(own: Path, tmp_path: Path, body: str, message: str) -> None:
    own.write_text(
        f"import numpy as np\n\n\ndef prepare(image):\n    {body}\n\ndef below(image):\n    return image[99]\n"
    )
    with pytest.raises(DatasetError, match=message) as error:
        input_by(f"{own}:prepare", NOISE, (32, 32))
    assert "\n" not in str(error.value)
    file = tmp_path / "an image.png"
    Image.fromarray(NOISE).save(file)
    with pytest.raises(DatasetError, match=rf"an image\.png: .*{message}"):
        pixels_of(file, Preprocessing("exact", 32, code=f"{own}:prepare"))


def test_what_it_does_to_the_array_is_its_own_affair(own: Path) -> None:
    own.write_text(
        "import numpy as np\ndef prepare(image):\n    image[...] = 0\n    return np.zeros((3, 32, 32), np.float32)\n"
    )
    before = NOISE.copy()
    input_by(f"{own}:prepare", NOISE, (32, 32))
    assert np.array_equal(before, NOISE)


@pytest.mark.parametrize(
    ("entry", "settings", "message"),
    [
        (
            {"preprocess": "own.py"},
            {},
            r"models\.m\.preprocess: 'own\.py' names no function; expected path/to/file\.py:f",
        ),
        ({"preprocess": "own.txt:prepare"}, {}, r"m\.preprocess: 'own\.txt:prepare' names no function"),
        (
            {"preprocess": "own.py:prepare", "mean": [0, 0, 0]},
            {},
            r"m\.mean: preprocess makes the net's input; leave mean",
        ),
        ({"preprocess": "own.py:prepare"}, {"npz": "original"}, r"no word for code of your own; use npz: preprocessed"),
        (
            {"preprocess": "own.py:prepare"},
            {"engine": "vacc", "vamp": {"instances": 8}},
            r"m\.preprocess: gives float32 inputs, and the card takes uint8",
        ),
    ],
)
def test_what_cannot_be_is_told_before_anything_runs(
    entry: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    entry = {"name": "mnasnet0_5", "weights": "w.pth"} | entry
    with pytest.raises(SettingsError, match=message):
        load_settings({"dataset": {"name": "mine", "root": "x"}, "models": {"m": entry}, **settings})


def as_paddleocr(image: np.ndarray) -> np.ndarray:
    """resize_norm_img of its direction classifier, of a BGR image."""
    height, width = image.shape[:2]
    ratio = width / float(height)
    resized_width = 192 if math.ceil(48 * ratio) > 192 else math.ceil(48 * ratio)
    resized = cv2.resize(image, (resized_width, 48)).astype("float32").transpose((2, 0, 1)) / 255
    resized -= 0.5
    resized /= 0.5
    padded = np.zeros((3, 48, 192), dtype=np.float32)
    padded[:, :, 0:resized_width] = resized
    return padded


@pytest.mark.parametrize("size", [(48, 100), (30, 200), (64, 17), (1, 500), (500, 1)])
def test_the_example_of_the_documents_is_paddleocrs(repository: Path, tmp_path: Path, size: tuple[int, int]) -> None:
    document = (repository / "docs" / "new-model.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", document, re.DOTALL)
    (tmp_path / "text_line.py").write_text(example)
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    made = input_by(f"{tmp_path / 'text_line.py'}:prepare", image, (48, 192))
    assert np.array_equal(made, as_paddleocr(np.ascontiguousarray(image[..., ::-1])))
