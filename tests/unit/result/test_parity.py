"""The parity certificate, against pixels and answers that are computed here another way."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import binomtest

from mnasbench.build.config import BuildConfig
from mnasbench.build.package import CompiledModel
from mnasbench.build.vamc import build
from mnasbench.data.choice import sample_of
from mnasbench.data.demo import make_demo
from mnasbench.data.image_keys import image_key
from mnasbench.data.listed import listed_images
from mnasbench.data.npz import write_npz
from mnasbench.data.preprocess import pixels_of
from mnasbench.data.shard import new_shard
from mnasbench.errors import DatasetError, ModelError, SettingsError
from mnasbench.model.export import export_onnx
from mnasbench.preprocessing import Preprocessing
from mnasbench.result.parity import Way, certificate, decoded, from_npz, usual_ways

SIZE = 32
REFERENCE = Preprocessing(resize=40, crop=SIZE)
Images = list[tuple[Path, int]]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    root = tmp_path_factory.mktemp("parity")
    make_demo(root, validation=24, training=24, seed=3, workers=1)
    return [(path, number % 5) for number, path in enumerate(sorted((root / "val").iterdir()))]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> CompiledModel:
    """A net whose five scores are five pixels, so that its answers show what it was given."""
    folder = tmp_path_factory.mktemp("model")
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 5, 9, 7, bias=False), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    )
    torch.manual_seed(0)
    torch.nn.init.normal_(net[0].weight)
    export_onnx(net.eval(), SIZE, folder / "net.onnx")
    config = BuildConfig(
        1, "net", folder / "net.onnx", "input", (1, 3, SIZE, SIZE), "fp32", REFERENCE, None, "JPEG", None, folder
    )
    return build(config)[0]


def test_the_usual_ways_differ_as_they_must(compiled: CompiledModel, images: Images) -> None:
    found = certificate(compiled, REFERENCE, usual_ways(REFERENCE), images, workers=2)
    own, opencv, squeezed, both, rounded = found["ways"]
    assert found["images"] == 24
    for same in (own, rounded):
        assert (same["different_pixels"], same["max_difference"], same["different_answers"]) == (0, 0, 0)
        assert same["top1"] == found["torchvision"]["top1"] and same["top1_drop"] == 0
    assert own["max_input_difference"] < 1e-3
    # 0.485 is 0.485107 in fp16: a fortieth of a level; no standard deviation is off by more than a ten-thousandth.
    assert 0.02 < rounded["max_input_difference"] < 0.2
    for other in (opencv, squeezed, both):
        assert other["different_images"] > 20 and other["max_input_difference"] >= other["max_difference"] - 1e-2


def test_pixels_are_counted_as_numpy_counts_them(compiled: CompiledModel, images: Images) -> None:
    found = certificate(compiled, REFERENCE, usual_ways(REFERENCE), images)
    differences = []
    for path, _ in images:
        image = np.asarray(Image.open(path).convert("RGB"))
        # Squeezed by OpenCV, cropped four pixels from each side.
        theirs = cv2.resize(image, (40, 40), interpolation=cv2.INTER_LINEAR)[4:36, 4:36].astype(int)
        differences.append(np.abs(theirs - pixels_of(path, REFERENCE).transpose(1, 2, 0)))
    expected = np.stack(differences)
    way = found["ways"][3]
    assert way["different_pixels"] == pytest.approx(100 * expected.any(axis=3).mean())
    assert way["mean_difference"] == pytest.approx(expected.mean())
    assert way["max_difference"] == expected.max()


def test_the_inputs_of_a_run_are_judged_as_they_are(compiled: CompiledModel, images: Images, tmp_path: Path) -> None:
    pixels = np.stack([pixels_of(path, REFERENCE) for path, _ in images])
    pixels[7, 1, 3, 4] ^= 1
    # Some in a shard, some in files of their own.
    names = [f"val/{path.name}" for path, _ in images[:20]]
    with new_shard(tmp_path / "0.npz", names, "input_0", pixels.shape[1:], np.uint8) as shard:
        shard.add_crc(shard.rows.write(0, pixels[:20]), 20)
    single = [tmp_path / f"{path.stem}.npz" for path, _ in images[20:]]
    for file, one in zip(single, pixels[20:], strict=True):
        write_npz(file, one)
    inputs = {image_key(image.name): image for image in listed_images([tmp_path / "0.npz", *single])}
    cropped = Preprocessing(resize=SIZE, crop=SIZE)
    (way,) = certificate(compiled, REFERENCE, [Way("run", from_npz(inputs), cropped)], images)["ways"]
    assert (way["different_images"], way["max_difference"]) == (1, 1)
    assert way["different_pixels"] == pytest.approx(100 / (24 * SIZE**2))

    del inputs[images[0][0].stem]
    with pytest.raises(DatasetError, match="has no npz among the listed inputs"):
        certificate(compiled, REFERENCE, [Way("run", from_npz(inputs), cropped)], images)


def test_a_sample_has_an_interval_of_what_it_says_of_all(compiled: CompiledModel, images: Images) -> None:
    squeezed = usual_ways(REFERENCE)[2:3]
    whole = certificate(compiled, REFERENCE, squeezed, images)
    assert (whole["images"], whole["drawn_from"]) == (24, 24)
    (way,) = whole["ways"]
    share = 100 * way["different_answers"] / 24
    assert 0 < share < 100
    assert [way[f"different_answers_{part}"] for part in ("share", "low", "high")] == pytest.approx([share] * 3)
    sampled = certificate(compiled, REFERENCE, squeezed, images, drawn_from=1000)
    assert (sampled["images"], sampled["drawn_from"]) == (24, 1000)
    (way,) = sampled["ways"]
    count = way["different_answers"]
    # scipy's own score interval, without continuity correction, is Wilson's.
    wilson = binomtest(count, 24).proportion_ci(0.95, "wilson")
    expected = (share, 100 * wilson.low, 100 * wilson.high)
    assert [way[f"different_answers_{part}"] for part in ("share", "low", "high")] == pytest.approx(expected)
    unlike = {key for key in way if way[key] != whole["ways"][0][key]}
    assert unlike <= {f"different_{what}_{part}" for what in ("images", "answers") for part in ("low", "high")}


def test_a_sample_is_the_same_however_the_names_are_ordered() -> None:
    names = [f"val/{number}.JPEG" for number in range(200)]
    chosen = sample_of(names, 20)
    assert chosen == sample_of(names[::-1], 20) == sorted(set(chosen)) and len(chosen) == 20
    assert sample_of(names, 200) == sample_of(names, 1000) == sorted(names)
    # A name that goes is replaced by one other; one that was not chosen moves nothing.
    without = [name for name in names if name != chosen[3]]
    assert len(set(sample_of(without, 20)) - set(chosen)) == 1
    other = next(name for name in names if name not in chosen)
    assert sample_of([name for name in names if name != other], 20) == chosen
    # Both halves of the order of names have their share (four standard deviations).
    half = sample_of([f"val/{number:05d}.JPEG" for number in range(2000)], 1000)
    assert 440 < sum(name < "val/01000" for name in half) < 560


def test_a_publisher_who_squeezes_is_torchvisions_resize_to_a_size(compiled: CompiledModel, images: Images) -> None:
    squeezed = Preprocessing(resize=(40, 36), crop=SIZE)
    ways = [Way("squeezed", decoded, squeezed), Way("short side", decoded, REFERENCE)]
    own, other = certificate(compiled, squeezed, ways, images)["ways"]
    assert (own["different_pixels"], own["max_difference"]) == (0, 0) and other["different_images"] > 20


def test_what_is_the_users_own_is_held_against_the_publishers(
    compiled: CompiledModel, images: Images, tmp_path: Path
) -> None:
    code = tmp_path / "own.py"
    code.write_text(
        "import numpy as np\nfrom PIL import Image\ndef prepare(image):\n    image = Image.fromarray(image)\n"
        "    left, top = (round((side - 32) / 2) for side in image.size)\n"
        "    values = np.asarray(image.crop((left, top, left + 32, top + 32)), np.float32) / np.float32(255)\n"
        f"    return ((values - np.float32({REFERENCE.mean})) / np.float32({REFERENCE.std})).transpose(2, 0, 1)\n"
    )
    cropped = Preprocessing(resize="none", crop=SIZE)
    ways = [
        Way("another mean", decoded, replace(REFERENCE, mean=(0.5, 0.5, 0.5))),
        Way("another order", decoded, replace(REFERENCE, colours="BGR")),
        Way("only cropped", decoded, cropped),
        Way("the same by code", decoded, Preprocessing("exact", SIZE, code=f"{code}:prepare")),
    ]
    mean, order, none, own = certificate(compiled, REFERENCE, ways, images)["ways"]
    assert (mean["different_pixels"], mean["max_difference"]) == (0, 0)
    assert mean["max_input_difference"] == pytest.approx(255 * (0.5 - 0.406), rel=1e-3)
    assert order["different_images"] >= 23  # a grey image has one order
    same = ("different_images", "different_pixels", "mean_difference", "max_difference", "different_answers", "top1")
    assert {key: own[key] for key in same} == {key: none[key] for key in same} and own["different_images"] == 24


def test_what_cannot_be_compared_is_refused(compiled: CompiledModel, images: Images) -> None:
    squeezed = Preprocessing(resize=(40, 40), crop=SIZE)
    with pytest.raises(SettingsError, match="name a short side with --resize"):
        usual_ways(squeezed)
    with pytest.raises(SettingsError, match="name torchvision's short side with --resize"):
        certificate(compiled, replace(squeezed, library="opencv"), [], images)
    half = CompiledModel(compiled.prefix, {**compiled.info, "precision": "fp16"})
    with pytest.raises(ModelError, match="is fp16; answers are compared on fp32"):
        certificate(half, REFERENCE, usual_ways(REFERENCE), images)
