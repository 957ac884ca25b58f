"""The calibration set has every class, follows its seed, and does not care what happens to other images."""

import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnasbench.data.calibration import sample_calibration, write_calibration
from mnasbench.data.changes import changed_files
from mnasbench.data.choice import calibration_choice
from mnasbench.data.datalist import read_datalist, write_datalist
from mnasbench.data.layouts import Dataset
from mnasbench.errors import DatasetError, InputError, SettingsError
from unit.data.image_files import flat_dataset, foldered_dataset, write_image

CLASSES = {f"{index}.JPEG": index % 7 for index in range(60)}


@given(images=st.integers(7, 60), seed=st.integers(0, 1000))
def test_classes_are_as_even_as_can_be(images: int, seed: int) -> None:
    chosen = calibration_choice(CLASSES, images, seed)
    counts = Counter(CLASSES[name] for name in chosen)
    assert len(set(chosen)) == images
    assert set(counts) == set(range(7))
    # A class falls behind only when it has no image left; the smallest here has 8.
    assert min(counts.values()) >= min(8, images // 7)


def test_the_seed_decides_and_other_images_do_not() -> None:
    chosen = calibration_choice(CLASSES, 21, 0)
    assert calibration_choice(dict(reversed(CLASSES.items())), 21, 0) == chosen
    assert calibration_choice(CLASSES, 21, 1) != chosen
    without = {name: index for name, index in CLASSES.items() if name != next(n for n in CLASSES if n not in chosen)}
    assert calibration_choice(without, 21, 0) == chosen
    fewer = {name: index for name, index in CLASSES.items() if name != chosen[0]}
    assert set(chosen) - set(calibration_choice(fewer, 21, 0)) == {chosen[0]}


@pytest.mark.parametrize(
    ("images", "wanted", "message"),
    [
        (2, None, "calibration.images is 2, fewer than the 3 classes"),
        (7, None, "has 6 usable images, fewer than calibration.images"),
        (6, range(5), "has no image of 2 classes: 3, 4"),
    ],
)
def test_what_cannot_be_had_is_named(tmp_path: Path, images: int, wanted: range | None, message: str) -> None:
    root = foldered_dataset(tmp_path, {"x": 2, "y": 2, "z": 2})
    with pytest.raises(DatasetError, match=message):
        sample_calibration(Dataset(root), images, 0, expected_classes=wanted)


def test_no_image_at_all_is_a_wrong_setting(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="expected 1 or more"):
        sample_calibration(Dataset(tmp_path), 0, 0)


def test_a_faulty_image_is_named_or_passed_over(tmp_path: Path) -> None:
    root = flat_dataset(tmp_path, {"a.JPEG": 0, "b.JPEG": 0, "c.JPEG": 1})
    (root / "val" / "a.JPEG").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"val/a\.JPEG is an empty file"):
        sample_calibration(Dataset(root), 3, 0)
    assert sample_calibration(Dataset(root), 2, 0, on_fault="exclude") == ["val/b.JPEG", "val/c.JPEG"]
    (root / "val" / "c.JPEG").write_bytes(b"")
    with pytest.raises(DatasetError, match="has no image of 1 classes: 1"):
        sample_calibration(Dataset(root), 2, 0, on_fault="exclude", expected_classes=[0, 1])


@pytest.mark.parametrize("mode", ["link", "copy"])
def test_the_list_and_the_folder_hold_the_same_images(tmp_path: Path, mode: str) -> None:
    root = foldered_dataset(tmp_path / "data", {"x": 2, "y": 2})
    names = sample_calibration(Dataset(root), 4, 0)
    for _ in range(2):  # the second call replaces the first one's folder
        write_calibration(root, names, tmp_path / "list.txt", tmp_path / "set", mode)
    listed = [Path(line) for line in (tmp_path / "list.txt").read_text().splitlines()]
    assert listed == [root / name for name in names]
    placed = sorted((tmp_path / "set").glob("*.JPEG"))
    assert [path.read_bytes() for path in placed] == [path.read_bytes() for path in listed]
    assert all(path.is_symlink() == (mode == "link") for path in placed)


def test_a_results_folder_may_be_a_link_to_another_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    foldered_dataset(tmp_path / "checkout/images", {"x": 2, "y": 2})
    (tmp_path / "scratch/at/another/depth").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "checkout")
    Path("results").symlink_to(tmp_path / "scratch/at/another/depth")
    root, folder, list_file = Path("images"), Path("results/set/images"), Path("results/list.txt")
    names = sample_calibration(Dataset(root), 4, 0)
    write_calibration(root, names, list_file, folder)
    sources = {(root / name).resolve() for name in names}
    assert {path.resolve() for path in folder.glob("*.JPEG")} == sources
    assert {path.resolve() for path in read_datalist(list_file)} == sources
    # What is in the linked folder itself stays in it, wherever that is moved.
    own = Path("results/npz/a.npz")
    own.parent.mkdir()
    own.touch()
    write_datalist(list_file, [own], relative=True)
    assert list_file.read_text() == "npz/a.npz\n"


def test_a_chosen_image_that_was_replaced_or_removed_is_named(tmp_path: Path) -> None:
    root = flat_dataset(tmp_path / "data", {f"{index} ü.JPEG": 0 for index in range(4)})
    names = [f"val/{index} ü.JPEG" for index in range(4)]
    write_calibration(root, names, tmp_path / "set.txt", tmp_path / "set")
    digests = tmp_path / "set.sha256"
    assert changed_files(digests) == []
    # The same size, and the time of the old one: only the inode tells that it is another.
    image = root / names[1]
    times, content = image.stat(), bytearray(image.read_bytes())
    content[-40] ^= 1
    image.write_bytes(content)
    os.utime(image, ns=(times.st_atime_ns, times.st_mtime_ns))
    (root / names[2]).unlink()
    assert changed_files(digests) == ["data/val/1 ü.JPEG: has changed", "data/val/2 ü.JPEG: is gone"]
    (root / names[0]).touch()
    assert len(changed_files(digests)) == 2
    digests.write_text("no list\n")
    with pytest.raises(DatasetError, match=r"set\.sha256 line 1: expected '<SHA-256>  <file>'"):
        changed_files(digests)


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    root = foldered_dataset(tmp_path / "data", {"x": 1})
    mine = write_image(tmp_path / "mine" / "holiday.jpg")
    with pytest.raises(InputError, match="holds other files"):
        write_calibration(root, ["val/x/x_0.JPEG"], tmp_path / "list.txt", tmp_path / "mine")
    assert mine.exists()
    assert not (tmp_path / "list.txt").exists()
