"""What cannot be done with the images and files at hand is told before any job starts."""

import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mnasbench.data.available import (
    Extent,
    check_data,
    input_bytes,
    output_bytes,
    whole_input_bytes,
)
from mnasbench.data.demo import CLASSES, make_demo
from mnasbench.data.layouts import Dataset
from mnasbench.data.npz import write_npz
from mnasbench.data.shard import write_scores
from mnasbench.errors import MnasbenchError
from mnasbench.preprocessing import Preprocessing
from mnasbench.settings import DEMO_CLASSES, DEMO_IMAGES, load_settings


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images of three classes (empty files: nothing is opened), a file of weights, another dataset."""
    folder = tmp_path_factory.mktemp("dataset")
    (folder / "other/val").mkdir(parents=True)
    (folder / "val").mkdir()
    for number in range(12):
        (folder / f"val/{number}.JPEG").touch()
    (folder / "val_label.txt").write_text("".join(f"{number}.JPEG {number % 3}\n" for number in range(12)))
    for number in range(4):
        (folder / f"other/val/{number}.JPEG").touch()
    (folder / "other/val_label.txt").write_text("".join(f"{number}.JPEG {number % 3}\n" for number in range(4)))
    (folder / "fewer/val").mkdir(parents=True)
    for number in range(6):
        (folder / f"fewer/val/{number}.JPEG").touch()
    (folder / "fewer/val_label.txt").write_text("".join(f"{number}.JPEG {number % 2}\n" for number in range(6)))
    (folder / "weights.pth").touch()
    return folder


def _config(root: Path, **changes: Any) -> dict[str, Any]:
    config: dict[str, Any] = {
        "dataset": {"name": "small", "root": str(root)},
        "calibration": {"images": 12},
        "models": {"mnasnet0_5": {"weights": str(root / "weights.pth")}},
    }
    return {
        key: config.get(key, {}) | value if isinstance(value, dict) else value for key, value in changes.items()
    } | {key: value for key, value in config.items() if key not in changes}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"calibration": {"images": 3}},
        {"calibration": {"images": 4, "source": "{root}/other"}},
        {"calibration": {"images": 99}, "precisions": ["fp32"]},
        {"dataset": {"limit": 5}, "shards": 2},
    ],
)
def test_what_can_be_done_passes_and_is_counted(root: Path, changes: dict[str, Any]) -> None:
    images = changes.get("dataset", {}).get("limit", 12)
    assert check_data(load_settings(_config(root, **_filled(changes, root)))) == Extent(images, classes=3)


def test_what_files_take_on_a_disk_is_known_before_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    assert whole_input_bytes(Dataset(tmp_path)) == 0
    Image.new("RGB", (300, 200)).save(tmp_path / "val/a.JPEG")
    Image.new("L", (500, 400)).save(tmp_path / "val/b.JPEG")
    (tmp_path / "val/c.JPEG").write_text("no image")
    written = {}
    for name, shape in {"crop": (3, 224, 224), "a": (3, 200, 300), "b": (3, 400, 500)}.items():
        write_npz(tmp_path / f"{name}.npz", np.zeros(shape, np.uint8))
        written[name] = (tmp_path / f"{name}.npz").stat().st_size
    write_scores(tmp_path / "scores.npz", [f"val/{n:060}" for n in range(90)], np.zeros((90, 1000), np.float32))
    assert 0 <= input_bytes(Preprocessing(224, 224)) - written["crop"] <= 4096
    assert 0 <= whole_input_bytes(Dataset(tmp_path)) - (written["a"] + written["b"]) / 2 <= 4096
    assert abs(90 * output_bytes(1000) - (tmp_path / "scores.npz").stat().st_size) <= 8192


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"calibration": {"images": 13}},
            "val: has 12 usable images, fewer than calibration.images .13.; give at most 12",
        ),
        ({"calibration": {"images": 2}}, "calibration.images is 2, fewer than the 3 classes; .* give at least 3"),
        ({"calibration": {"images": 5, "source": "{root}/other"}}, "other/val: has 4 usable images, fewer"),
        (
            {"calibration": {"images": 5, "source": "{root}/nowhere"}},
            "calibration.source: .*nowhere is no folder",
        ),
        ({"dataset": {"root": "{root}/nowhere"}}, "dataset.root: .*nowhere is no folder"),
        ({"dataset": {"root": "{root}/val"}}, "val: no label file, and no class folder for"),
        ({"dataset": {"class_names": "{root}/names.txt"}}, "dataset.class_names: .*names.txt does not exist"),
        ({"dataset": {"labels": "{root}/val"}}, "dataset.labels: .*val is a folder"),
        ({"dataset": {"limit": 5}, "shards": 6}, "shards: 6 parts of 5 images; give at most 5"),
        ({"dataset": {"limit": 5}, "shards": 5}, "shards: no image falls into part 4 of 5; give fewer"),
        ({"dataset": {"root": "results/data/demo/images"}}, "dataset.root: .*images lies in results/, where"),
        (
            {"models": {"m": {"name": "mnasnet0_5", "weights": "./results/model/m/weights.pth"}}},
            "m.weights: .*weights.pth lies in results/",
        ),
        (
            {"engine": "vacc", "vamp": {"instances": 8}, "vacc": {"hwconfig": "gone.bin"}, "precisions": ["fp16"]},
            "vacc.hwconfig: gone.bin does not exist",
        ),
        ({"dataset": {"labels": "x" * 300}}, "dataset.labels: x+ cannot be looked at .File name too long"),
        ({"dataset": {"root": "x" * 5000}}, "dataset.root: x+ cannot be looked at .File name too long"),
        ({"dataset": {"labels": "a\0b"}}, r"dataset.labels: a\\x00b does not exist"),
        ({"dataset": {"labels": "/dev/zero"}}, "dataset.labels: /dev/zero is not a regular file"),
        ({"models": {"mnasnet0_5": {"weights": "https://me:secret@host/w.pth"}}}, "weights: is an address; download"),
        ({"dataset": {"labels": "a\nb"}}, r"dataset.labels: a\\nb has a line break or a word in braces"),
        ({"models": {"mnasnet0_5": {"weights": "{name}.pth"}}}, "weights: .name..pth has a line break or a word in"),
        ({"models": {"mnasnet0_5": {"weights": "gone.pth"}}}, "models.mnasnet0_5.weights: gone.pth does not exist"),
    ],
)
def test_what_cannot_is_told_with_the_key_and_the_remedy(root: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(MnasbenchError, match=message) as error:
        check_data(load_settings(_config(root, **_filled(changes, root))))
    assert "\n" not in str(error.value) and error.value.exit_code == 2


def test_what_is_another_users_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(_config(root))
    for key, path in (("models.mnasnet0_5.weights", root / "weights.pth"), ("dataset.root", root)):
        # Tests may run as root, whom nothing is denied.
        monkeypatch.setattr("mnasbench.data.available.os.access", lambda other, mode, path=path: other != path)
        with pytest.raises(MnasbenchError, match=rf"^{key}: {re.escape(str(path))} cannot be read \(permission denied"):
            check_data(settings)


@pytest.mark.parametrize("character", "'\"$`\\")
def test_a_name_that_snakemake_cannot_hand_to_a_cluster_is_told(root: Path, character: str) -> None:
    odd = root.with_name(f"odd {character} name")
    odd.symlink_to(root)
    settings = load_settings(_config(odd))
    check_data(settings)
    with pytest.raises(MnasbenchError, match=r"^models.* leaves to a shell .*; rename it, or name a link"):
        check_data(settings, on_cluster=True)


def _filled(changes: Any, root: Path) -> Any:
    if isinstance(changes, dict):
        return {key: _filled(value, root) for key, value in changes.items()}
    return changes.replace("{root}", str(root)) if isinstance(changes, str) else changes


@pytest.mark.parametrize(("images", "passes"), [(24, True), (23, False), (2000, True), (2001, False)])
def test_the_demos_images_are_known_before_they_are_drawn(images: int, passes: bool) -> None:
    settings = load_settings({"models": {"mnasnet0_5": {}}, "calibration": {"images": images}})
    if passes:
        check_data(settings)
    else:
        with pytest.raises(MnasbenchError, match=r"calibration\.images"):
            check_data(settings)


def test_what_is_known_of_the_demo_is_what_is_drawn() -> None:
    drawn = inspect.signature(make_demo).parameters
    assert {"train": drawn["training"].default, "val": drawn["validation"].default} == DEMO_IMAGES
    assert len(CLASSES) == DEMO_CLASSES


def test_judged_images_that_are_calibration_images_are_counted_before_anything_runs(root: Path) -> None:
    def message(**calibration: Any) -> str:
        return check_data(load_settings(_config(root, calibration=calibration))).message

    assert "; 4 of the 12 judged images are calibration images, too" in message(images=4)
    assert message(images=4, split=True).endswith("; 4 of the 12 images are calibration images and not judged")
    assert message(images=9, split=True).endswith("not judged")
    assert message(images=11, split=True).endswith("not judged, which leaves 2 classes without one")
    assert "calibration images" not in message(images=4, source=str(root / "other"))
    with pytest.raises(MnasbenchError, match=r"^calibration\.split: leaves no image to judge, because all 12"):
        message(images=12, split=True)
