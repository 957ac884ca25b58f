"""The demo set: ImageNet's layout, varied images, the same ones whatever the number of cores."""

from collections import Counter
from pathlib import Path

import pytest

from mnasbench.data.class_names import read_class_names
from mnasbench.data.demo import CLASSES, make_demo
from mnasbench.data.layouts import Dataset
from mnasbench.data.manifest import index_dataset
from mnasbench.errors import InputError


def content_of(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("demo")
    make_demo(root, validation=72, training=24, workers=1)
    return root


def test_every_class_is_there_and_images_vary(demo: Path, tmp_path: Path) -> None:
    images = index_dataset(Dataset(demo), tmp_path / "manifest.csv")
    assert len(CLASSES) >= 20
    assert read_class_names(demo / "classes.txt") == list(CLASSES)
    assert Counter(image.class_index for image in images) == dict.fromkeys(range(len(CLASSES)), 3)
    assert len({(image.width, image.height) for image in images}) > 60
    assert all(min(image.width, image.height) >= 240 for image in images)
    assert max(max(image.width, image.height) for image in images) <= 500
    assert {image.mode for image in images} == {"RGB", "L"}


def test_any_number_of_workers_draws_the_same(demo: Path, tmp_path: Path) -> None:
    make_demo(tmp_path, validation=72, training=24, workers=3)
    assert content_of(tmp_path) == content_of(demo)


def test_no_validation_image_is_trained_on_and_a_seed_changes_all(demo: Path, tmp_path: Path) -> None:
    make_demo(tmp_path, validation=24, training=24, seed=1, workers=1)
    images = [content for root in (demo, tmp_path) for name, content in content_of(root).items() if "JPEG" in name]
    assert len(set(images)) == len(images) == 72 + 24 + 24 + 24


def test_a_smaller_set_leaves_nothing_of_a_larger_one(tmp_path: Path) -> None:
    make_demo(tmp_path, validation=30, training=24, workers=1)
    make_demo(tmp_path, validation=24, training=24, workers=1)
    assert len(index_dataset(Dataset(tmp_path), tmp_path / "manifest.csv")) == 24


def test_somebody_elses_images_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(InputError, match="is no image of the demo set"):
        make_demo(tmp_path, validation=24, training=24)
    assert (tmp_path / "val" / "holiday.jpg").read_bytes() == b"mine"


def test_a_part_needs_every_class(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected at least 24"):
        make_demo(tmp_path, validation=23)
    assert list(tmp_path.iterdir()) == []
