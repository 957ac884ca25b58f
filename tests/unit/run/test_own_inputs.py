"""Inputs that a user's own code made go through every kind of session as pixels do, to the same scores."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnasbench.build.vdsp_params import VARIANTS, read_vdsp_params, vdsp_params
from mnasbench.data.npz import read_npz, read_output, write_npz
from mnasbench.data.preprocess import pixels_of
from mnasbench.data.shard import InputShard, new_shard, read_scores
from mnasbench.errors import DatasetError, SettingsError
from mnasbench.files import write_json
from mnasbench.preprocessing import Preprocessing
from mnasbench.run.accuracy import run_accuracy
from mnasbench.run.classify import classify
from mnasbench.run.inputs import Preprocessor, sample_of_list
from mnasbench.runtimes.base import InputFormat

OWN = """
import numpy as np


def prepare(image):
    small = image[:32, :32].astype(np.float32) / np.float32(255)
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    return ((small - mean) / std).transpose(2, 0, 1)
"""


@pytest.fixture
def own(tmp_path: Path) -> Preprocessing:
    (tmp_path / "own.py").write_text(OWN)
    return Preprocessing("exact", 32, code=f"{tmp_path / 'own.py'}:prepare")


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"p{i}.png" for i in range(5)]
    for i, path in enumerate(paths):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
    return paths


@pytest.mark.parametrize("kind", ["compiled", "compiled_for_openvino", "compiled_float"])
def test_scores_are_those_of_the_same_pixels(
    kind: str, own: Preprocessing, files: list[Path], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    compiled, usual = request.getfixturevalue(kind), Preprocessing(resize=32, crop=32)
    names = [path.stem for path in files]
    for name, p in (("own", own), ("usual", usual)):
        pixels = np.stack([pixels_of(path, p) for path in files])
        with new_shard(tmp_path / f"{name}.npz", names, "input_0", p.shape, p.dtype) as shard:
            shard.add_crc(shard.rows.write(0, pixels), len(files))
        run_accuracy(compiled, p.without_resize(), [tmp_path / f"{name}.npz"], tmp_path / f"{name}_out.npz", batch=2)
    (named, made), (_, expected) = (read_scores(tmp_path / f"{name}_out.npz") for name in ("own", "usual"))
    assert named == names and np.array_equal(made, expected)
    # From the images themselves, as sample_cls.py goes.
    best = [prediction.classes for prediction in classify(compiled, own, files, batch=2, k=3)]
    assert best == [prediction.classes for prediction in classify(compiled, usual, files, batch=2, k=3)]


def test_one_npz_an_image_and_a_sample_of_a_list(
    compiled, own: Preprocessing, files: list[Path], tmp_path: Path
) -> None:
    inputs = [tmp_path / "npz" / f"{path.stem}.npz" for path in files]
    for path, target in zip(files, inputs, strict=True):
        write_npz(target, pixels_of(path, own))
    assert read_npz(inputs[0]).dtype == np.float32
    run_accuracy(compiled, own.without_resize(), inputs, tmp_path / "out", batch=2)
    assert read_output(tmp_path / "out" / "p0.npz").shape == (10,)
    assert [image.dtype for image in sample_of_list(inputs, 3)] == [np.float32] * 3


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_form_of_vdsp_params_leaves_them_as_they_are(variant: str, own: Preprocessing, tmp_path: Path) -> None:
    write_json(tmp_path / "v.json", vdsp_params(own, variant, resized=True))
    read = read_vdsp_params(tmp_path / "v.json")
    assert read.gives_input and read.size == (32, 32)
    made = np.random.default_rng(0).normal(size=(3, 32, 32)).astype(np.float32)
    assert np.array_equal(Preprocessor(read, InputFormat("input", (32, 32), None))([made])[0], made)


def test_they_are_not_normalised_once_more(own: Preprocessing) -> None:
    made = np.zeros((3, 32, 32), np.float32)
    target = InputFormat("input", (32, 32), None)
    with pytest.raises(SettingsError, match=r"inputs are float32 \(3, 32, 32\), which own code made, but vdsp_params"):
        Preprocessor(Preprocessing(resize=32, crop=32), target)([made])
    with pytest.raises(SettingsError, match=r"inputs are float32 \(3, 16, 16\)"):
        Preprocessor(own.without_resize(), target)([made[:, :16, :16]])


def test_a_shard_of_another_type_is_refused(tmp_path: Path) -> None:
    with new_shard(tmp_path / "0.npz", ["a"], "input_0", (3, 2, 2), np.int16) as shard:
        shard.add_crc(shard.rows.write(0, np.zeros((1, 3, 2, 2), np.int16)), 1)
    with pytest.raises(DatasetError, match="int16"):
        InputShard(tmp_path / "0.npz")


def test_an_image_that_it_fails_on_is_named(compiled, own: Preprocessing, files: list[Path], tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text(OWN.replace("image[:32, :32]", "image[:31, :32]"))
    other = replace(own, code=f"{tmp_path / 'other.py'}:prepare")
    with pytest.raises(DatasetError, match=r"p0\.png: .*gave float32 \(3, 31, 32\), expected float32 \(3, 32, 32\)"):
        list(classify(compiled, other, files))
