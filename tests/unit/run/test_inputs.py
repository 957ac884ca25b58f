from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

from mnasbench.data.datalist import read_datalist
from mnasbench.data.preprocess import normalise
from mnasbench.errors import DatasetError, SettingsError
from mnasbench.preprocessing import Preprocessing
from mnasbench.run.inputs import Preprocessor, sample_of_list, synthetic_images
from mnasbench.runtimes.base import InputFormat
from mnasbench.runtimes.onnxruntime_layout import FastInput
from mnasbench.runtimes.openvino_layout import InterleavedInput

FLOAT = InputFormat("input", (32, 32), None)
SMALL = Preprocessing(resize=40, crop=32)


def random_image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (3, height, width), dtype=np.uint8)


def test_cropped_images_are_normalised_and_nothing_else():
    pixels = random_image(32, 32)
    preprocess = Preprocessor(Preprocessing(resize=32, crop=32), FLOAT)
    expected = normalise(pixels[None], preprocess.params)
    assert np.array_equal(preprocess([pixels]), expected)


@pytest.mark.parametrize("parts", [1, 2])
def test_a_quantized_input_equals_quantizing_the_normalised_image(parts):
    blocks = FastInput(scale=0.0187, zero_point=114, size=32, rows=16 if parts == 1 else 10, parts=parts)
    preprocess = Preprocessor(Preprocessing(resize=32, crop=32), InputFormat("input", (32, 32), blocks))
    images = [random_image(32, 32, seed) for seed in range(3)]
    expected = blocks.quantize(normalise(np.stack(images), preprocess.params))
    assert np.array_equal(preprocess(images), expected)


def centre(pixels, size=32):
    top, left = (round((side - size) / 2) for side in pixels.shape[:2])
    return pixels[top : top + size, left : left + size].transpose(2, 0, 1)


def test_bilinear_pillow_is_pillows():
    pixels = random_image(60, 80)
    image = Image.fromarray(pixels.transpose(1, 2, 0)).resize((53, 40), Image.Resampling.BILINEAR)
    assert np.array_equal(Preprocessor(SMALL, FLOAT).geometry(pixels), centre(np.asarray(image)))


def test_bilinear_cv_is_opencvs():
    pixels = random_image(60, 80)
    p = Preprocessing(resize=(40, 48), crop=32, library="opencv")
    resized = cv2.resize(np.ascontiguousarray(pixels.transpose(1, 2, 0)), (48, 40), interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(Preprocessor(p, FLOAT).geometry(pixels), centre(resized))


def test_swapped_colours_meet_the_means_of_their_new_place():
    pixels = random_image(32, 32)
    p = Preprocessing(resize=32, crop=32, mean=(0.1, 0.2, 0.3))
    swapped = Preprocessor(replace(p, colours="BGR"), FLOAT)([pixels])
    assert np.array_equal(swapped, normalise(np.ascontiguousarray(pixels[None, ::-1]), p))


def test_images_of_another_size_than_the_models_are_refused():
    with pytest.raises(SettingsError, match="crop to 32 x 32, but the model takes 64 x 64"):
        Preprocessor(SMALL, InputFormat("input", (64, 64), None))


def test_a_list_is_read_and_its_faults_named(tmp_path):
    file = tmp_path / "list.txt"
    file.write_text("/a/1.npz\r\n\n/a/2.npz\n")
    assert [path.name for path in read_datalist(file)] == ["1.npz", "2.npz"]
    file.write_text("\n")
    with pytest.raises(DatasetError, match="lists no inputs"):
        read_datalist(file)
    file.write_text("a\nb\na\n")
    with pytest.raises(DatasetError, match="lists a more than once"):
        read_datalist(file)


def test_sample_of_list_are_spread_over_the_list(tmp_path):
    from mnasbench.data.npz import write_npz

    paths = [tmp_path / f"{i}.npz" for i in range(9)]
    for i, path in enumerate(paths):
        write_npz(path, np.full((3, 2, 2), i, dtype=np.uint8))
    assert [int(pixels[0, 0, 0]) for pixels in sample_of_list(paths, 3)] == [0, 4, 8]
    assert len(sample_of_list(paths, 64)) == 9


def test_made_up_images_are_different_and_seeded():
    first, second = synthetic_images((3, 4, 4), 2)
    assert not np.array_equal(first, second)
    assert np.array_equal(first, synthetic_images((3, 4, 4), 2)[0])


@pytest.mark.parametrize(("scale", "zero_point"), [(0.0187, 114), (0.0187, 113), (0.04, 60), (0.0101, 7)])
def test_interleaved_bytes_are_the_quantized_pixels(scale, zero_point):
    """Whatever the range: within the bytes, or saturated at their ends."""
    p = Preprocessing(resize=32, crop=32)
    target = InputFormat("input", (32, 32), None, interleaved=InterleavedInput(scale, zero_point))
    images = [np.arange(3 * 32 * 32).reshape(3, 32, 32).astype(np.uint8)]
    tensor = Preprocessor(p, target)(images)
    steps = np.rint(normalise(np.stack(images), p) / np.float32(scale)) + zero_point
    np.testing.assert_array_equal(tensor, np.clip(steps, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1))


def test_interleaved_bytes_without_a_line_come_from_the_table():
    target = InputFormat("input", (32, 32), None, interleaved=InterleavedInput(0.0187, 114))
    images = [np.random.default_rng(0).integers(0, 256, (3, 32, 32), dtype=np.uint8)]
    preprocess = Preprocessor(Preprocessing(resize=32, crop=32), target)
    assert preprocess._line is not None
    expected = preprocess(images)
    preprocess._line = None
    np.testing.assert_array_equal(preprocess(images), expected)
