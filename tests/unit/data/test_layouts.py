"""How a dataset may lie on the disk: each layout gives images and classes, and a new one is a class and a line."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import pytest

from mnasbench.data import layouts
from mnasbench.data.available import check_data
from mnasbench.data.calibration import sample_calibration
from mnasbench.data.changes import dataset_changes
from mnasbench.data.class_order import ClassOrder
from mnasbench.data.layouts import Dataset, labelled, layout_of, scan
from mnasbench.data.listing import Listing, state_in_listing
from mnasbench.data.manifest import index_dataset
from mnasbench.errors import DatasetError
from mnasbench.plan.dataset_look import label_files
from mnasbench.result.pairing import labels_by_key
from mnasbench.settings import load_settings
from unit.data.image_files import flat_dataset, foldered_dataset, write_image


def classes_of(dataset: Dataset) -> dict[str, int]:
    return {name: file.class_index for name, file in scan(dataset).items()}


def csv_file(path: Path, rows: Iterable[tuple[str, object]]) -> Path:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("path", "label"), *rows])
    path.write_text(text.getvalue(), newline="")
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two images below ``images/``, one beside them, and nothing that says their classes."""
    for seed, name in enumerate(("images/a.JPEG", "images/b, c.JPEG", "other.JPEG")):
        write_image(tmp_path / "set" / name, seed)
    return tmp_path / "set"


@pytest.mark.parametrize("place", ["labels.csv", "images/labels.csv", "../labels.csv"])
def test_a_csv_names_images_from_the_root_or_from_its_own_folder(images: Path, place: str) -> None:
    prefix = {"labels.csv": "images/", "images/labels.csv": "", "../labels.csv": "images/"}[place]
    file = csv_file(images / place, [(f"{prefix}a.JPEG", 1), (f"{prefix}b, c.JPEG", 0)])
    dataset = Dataset(images, labels=file)
    assert classes_of(dataset) == {"images/a.JPEG": 1, "images/b, c.JPEG": 0}
    assert "a CSV of paths and labels, 2 classes as" in labelled(dataset).message


def test_absolute_paths_and_roundabout_ones_are_taken(images: Path) -> None:
    rows = [(str(images / "images/a.JPEG"), "cat"), ("images/../other.JPEG", "dog")]
    dataset = Dataset(images, labels=csv_file(images / "labels.csv", rows))
    assert classes_of(dataset) == {"images/a.JPEG": 0, "other.JPEG": 1}
    assert "2 classes in the sorted order of their names" in labelled(dataset).message


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("images/a.JPEG", 0), ("images/gone.JPEG", 0)], r"line 3: .*images/gone\.JPEG is not there"),
        ([("images/a.JPEG", 0), ("images", 0)], "line 3: .*images is a folder"),
        ([("images/a.JPEG", 0), ("./images/a.JPEG", 0)], r"line 3: \./images/a\.JPEG stands twice .first in line 2"),
        ([("images/a.JPEG", 0), ("../outside.JPEG", 0)], "line 3: .*outside.JPEG leads out of"),
        ([("/etc/passwd", 0)], "line 2: /etc/passwd leads out of"),
        ([("images/a.JPEG", 0), ("a\0b", 0)], r"line 3: a\\x00b leads out of"),
        ([("images/a.JPEG", 0), ("a\nb", 0)], "line break"),
    ],
)
def test_what_a_csv_cannot_name_is_told_with_its_line(images: Path, rows: list[tuple[str, int]], message: str) -> None:
    with pytest.raises(DatasetError, match=message) as error:
        index_dataset(Dataset(images, labels=csv_file(images / "labels.csv", rows)), images / "manifest.csv")
    assert str(error.value).isprintable()
    assert not (images / "manifest.csv").exists()


def test_an_edited_csv_is_a_change_of_the_dataset(images: Path, tmp_path: Path) -> None:
    rows = [("images/a.JPEG", 1), ("images/b, c.JPEG", 0)]
    dataset = Dataset(images, labels=csv_file(tmp_path / "labels.csv", rows))
    index_dataset(dataset, tmp_path / "manifest.csv")
    assert dataset_changes(dataset, [tmp_path / "manifest.csv"]) == []
    csv_file(tmp_path / "labels.csv", [*rows[1:], ("images/a.JPEG", 0), ("other.JPEG", 1)])
    changes = [str(change) for change in dataset_changes(dataset, [tmp_path / "manifest.csv"])]
    assert changes == ["images/a.JPEG: class 1 became 0", "other.JPEG: is new"]


def test_a_csv_of_names_gives_the_labels_of_an_evaluation(images: Path) -> None:
    file = csv_file(images / "labels.csv", [("images/a.JPEG", "cat"), ("other.JPEG", "dog")])
    assert labels_by_key(file) == {"a": 0, "other": 1}


def test_numbered_folders_are_classes_by_their_numbers(tmp_path: Path) -> None:
    root = foldered_dataset(tmp_path, {str(number): 1 for number in range(12)})
    assert {Path(name).parts[1]: index for name, index in classes_of(Dataset(root)).items()}["10"] == 10
    assert "class folders, 12 classes by their numbers, 0 to 11; dataset.wnids" in labelled(Dataset(root)).message


@pytest.mark.parametrize("content", [None, ".gitkeep"])
def test_a_folder_without_images_counts_as_a_class(tmp_path: Path, content: str | None) -> None:
    root = foldered_dataset(tmp_path / "set", {"a": 1, "b": 1, "d": 1})
    index_dataset(Dataset(root), tmp_path / "manifest.csv")
    (root / "val/c").mkdir()
    if content:
        (root / "val/c" / content).touch()
    assert list(classes_of(Dataset(root)).values()) == [0, 1, 3]
    assert "4 classes in the sorted order of their names; 1 without an image: c" in labelled(Dataset(root)).message
    changes = [str(change) for change in dataset_changes(Dataset(root), [tmp_path / "manifest.csv"])]
    assert changes == ["val/d/d_0.JPEG: class 2 became 3"]


def test_a_label_file_is_in_force_before_class_folders(tmp_path: Path) -> None:
    root = flat_dataset(tmp_path, {"a.JPEG": 1, "b.JPEG": 0})
    assert labelled(Dataset(root)).message.startswith("a label file, 2 classes as")
    assert type(layout_of(Dataset(root))) is layouts.LAYOUTS[1]


class _PoolWithTable:
    """A layout that the library does not have: images lie in ``pool/``, and ``pool.tsv`` has their classes."""

    name: ClassVar[str] = "a pool and its table"
    has_part: ClassVar[bool] = False

    def __init__(self, dataset: Dataset) -> None:
        self._root = dataset.root

    @staticmethod
    def suits(dataset: Dataset) -> bool:
        return (dataset.root / "pool").is_dir()

    def files(self) -> Listing:
        return {f"pool/{path.name}": state_in_listing(path) for path in (self._root / "pool").iterdir()}

    def classes(self, files: Iterable[str]) -> tuple[dict[str, int], ClassOrder]:
        order = ClassOrder({"x": 0, "y": 1}, "as the table has them", is_guess=False)
        table = dict(line.split("\t") for line in self.label_files()[0].read_text().splitlines())
        return {name: order.indices[table[name]] for name in files}, order

    def label_files(self) -> list[Path]:
        return [self._root / "pool.tsv"]

    def deciding(self) -> list[str]:
        return []


def test_a_new_layout_is_its_class_and_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layouts, "LAYOUTS", [_PoolWithTable, *layouts.LAYOUTS])
    root, manifest = tmp_path / "set", tmp_path / "manifest.csv"
    for seed, name in enumerate(("x1.JPEG", "x2.JPEG", "y1.JPEG")):
        write_image(root / "pool" / name, seed)
    table = root / "pool.tsv"
    table.write_text("".join(f"pool/{name}\t{name[0]}\n" for name in ("x1.JPEG", "x2.JPEG", "y1.JPEG")))
    # planning
    config = {
        "dataset": {"name": "set", "root": str(root)},
        "calibration": {"images": 2},
        "models": {"mnasnet0_5": {"weights": "IMAGENET1K_V1"}},
    }
    extent = check_data(load_settings(config))
    message = "a pool and its table, 2 classes as the table has them"
    assert (extent.images, extent.classes) == (3, 2) and extent.message.startswith(message)
    assert label_files(load_settings(config)) == [str(table)]
    # index, evaluation labels, calibration, look at changes
    dataset = Dataset(root)
    assert {image.name: image.class_index for image in index_dataset(dataset, manifest)} == {
        "pool/x1.JPEG": 0,
        "pool/x2.JPEG": 0,
        "pool/y1.JPEG": 1,
    }
    assert labels_by_key(manifest) == {"x1": 0, "x2": 0, "y1": 1}
    assert "pool/y1.JPEG" in sample_calibration(dataset, 2, seed=0)
    assert dataset_changes(dataset, [manifest]) == []
    # an edit of the layout's own file is seen, although no image changed
    table.write_text(table.read_text().replace("x2.JPEG\tx", "x2.JPEG\ty"))
    assert [str(change) for change in dataset_changes(dataset, [manifest])] == ["pool/x2.JPEG: class 0 became 1"]
    index_dataset(dataset, manifest)
    write_image(root / "pool/y2.JPEG", 9)
    table.write_text(table.read_text() + "pool/y2.JPEG\ty\n")
    assert [str(change) for change in dataset_changes(dataset, [manifest])] == ["pool/y2.JPEG: is new"]
