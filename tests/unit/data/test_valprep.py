"""Class folders from a flat validation set, and everything back as it was."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from mnasbench.data.layouts import Dataset, scan
from mnasbench.data.valprep import make_class_folders, undo, write_labels_of_devkit
from mnasbench.errors import DatasetError, InputError
from unit.data.image_files import flat_dataset

LABELS = {"a.JPEG": 1, "b.JPEG": 999, "c.JPEG": 1}


def content_of(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("mode", ["link", "copy", "move"])
def test_folders_have_the_labels_classes_and_can_be_undone(tmp_path: Path, mode: str) -> None:
    root = flat_dataset(tmp_path / "data", LABELS)
    before = content_of(root)
    assert make_class_folders(Dataset(root), tmp_path / "out", mode) == 3
    found = {Path(name).name: file.class_index for name, file in scan(Dataset(tmp_path / "out")).items()}
    assert found == LABELS
    assert (content_of(root) == before) == (mode != "move")
    assert (tmp_path / "out" / "val" / "n15075141" / "b.JPEG").is_symlink() == (mode == "link")
    assert undo(tmp_path / "out") == 3
    assert content_of(root) == before
    assert list((tmp_path / "out").iterdir()) == []


def test_moving_within_the_dataset_itself_needs_another_target(tmp_path: Path) -> None:
    root = flat_dataset(tmp_path, LABELS)
    with pytest.raises(InputError, match="val: exists already"):
        make_class_folders(Dataset(root), root, "move")


def test_undo_leaves_what_others_put_there(tmp_path: Path) -> None:
    root = flat_dataset(tmp_path / "data", LABELS)
    make_class_folders(Dataset(root), tmp_path / "out")
    mine = tmp_path / "out" / "val" / "n01443537" / "mine.JPEG"
    mine.write_bytes(b"mine")
    undo(tmp_path / "out")
    assert mine.read_bytes() == b"mine"


@pytest.mark.parametrize(
    "journal",
    [
        {"mode": "link", "files": [["/x", "../../etc/passwd"]]},
        {"mode": "link", "files": [["/x", "/etc/passwd"]]},
        {"mode": "burn", "files": []},
        {"files": []},
        [],
    ],
)
def test_a_journal_that_is_not_ours_does_nothing(tmp_path: Path, journal: object) -> None:
    (tmp_path / "valprep.json").write_text(json.dumps(journal))
    with pytest.raises(InputError, match="not a journal of valprep"):
        undo(tmp_path)


def test_a_class_without_an_id_is_named(tmp_path: Path) -> None:
    root = flat_dataset(tmp_path / "data", {"a.JPEG": 1000})
    with pytest.raises(DatasetError, match="class 1000 has no WordNet id"):
        make_class_folders(Dataset(root), tmp_path / "out")


def devkit(folder: Path, ids: list[int]) -> Path:
    kinds = [("ILSVRC2012_ID", "i4"), ("WNID", "O"), ("num_children", "i4")]
    synsets = np.array([(1, "n15075141", 0), (2, "n01443537", 0), (1001, "n00001740", 2)], dtype=kinds)
    (folder / "data").mkdir(parents=True)
    savemat(folder / "data" / "meta.mat", {"synsets": synsets})
    (folder / "data" / "ILSVRC2012_validation_ground_truth.txt").write_text("".join(f"{number}\n" for number in ids))
    return folder


def test_the_devkits_ids_become_the_right_classes(tmp_path: Path) -> None:
    root = flat_dataset(tmp_path / "data", LABELS)
    write_labels_of_devkit(devkit(tmp_path / "kit", [2, 1, 2]), root, "val", tmp_path / "labels.txt")
    found = scan(Dataset(root, labels=tmp_path / "labels.txt"))
    assert [file.class_index for file in found.values()] == [1, 999, 1]


def test_a_devkit_of_another_set_is_named(tmp_path: Path) -> None:
    root = flat_dataset(tmp_path / "data", LABELS)
    with pytest.raises(DatasetError, match=r"has 2 lines, but .*val 3 images"):
        write_labels_of_devkit(devkit(tmp_path / "kit", [2, 1]), root, "val", tmp_path / "labels.txt")
    with pytest.raises(InputError, match="is not the ILSVRC2012 devkit"):
        write_labels_of_devkit(devkit(tmp_path / "other", [7]), root, "val", tmp_path / "labels.txt")


@pytest.mark.parametrize("same", [True, False])
def test_undo_never_writes_over_an_image(tmp_path: Path, same: bool) -> None:
    # As after a call that was killed between copying to another file system and removing the original.
    root = flat_dataset(tmp_path / "data", LABELS)
    make_class_folders(Dataset(root), tmp_path / "out", "move")
    moved = tmp_path / "out" / "val" / "n15075141" / "b.JPEG"
    content = moved.read_bytes()
    (root / "val" / "b.JPEG").write_bytes(content if same else content + b"mine")
    if same:
        assert undo(tmp_path / "out") == 3
        assert (root / "val" / "b.JPEG").read_bytes() == content and not moved.exists()
    else:
        with pytest.raises(InputError, match=r"b\.JPEG: is another file than .*b\.JPEG, which belongs there"):
            undo(tmp_path / "out")
        assert (root / "val" / "b.JPEG").read_bytes() == content + b"mine" and moved.read_bytes() == content
