"""config/imagenet.yaml on a small tree in exactly ImageNet's layouts: flat with a label file, and a folder a class."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from checkout import Workflow, make_workflow
from mnasbench.data.class_order import imagenet_wnids
from mnasbench.data.demo import draw_image
from mnasbench.data.layouts import Dataset, scan
from mnasbench.model.architecture import create
from mnasbench.settings import load_settings

VARIANTS = {"mnasnet0_5": 67.734, "mnasnet0_75": 71.18, "mnasnet1_0": 73.456, "mnasnet1_3": 76.506}
# Two of the classes are called crane, and two maillot: 134 and 517, 638 and 639.
CLASSES = (0, 134, 517, 638, 639, 999)
IMAGES = 12


def _images() -> list[tuple[str, int, Image.Image]]:
    generator = np.random.default_rng(0)
    return [
        (f"ILSVRC2012_val_{number + 1:08d}.JPEG", CLASSES[number % len(CLASSES)], draw_image(generator, number % 24))
        for number in range(IMAGES)
    ]


def _flat(root: Path) -> None:
    (root / "val").mkdir(parents=True)
    for name, _, image in _images():
        image.save(root / "val" / name, "JPEG")
    (root / "val_label.txt").write_text("".join(f"{name} {label}\n" for name, label, _ in _images()))


def _class_folders(root: Path) -> None:
    wnids = imagenet_wnids()
    for name, label, image in _images():
        folder = root / "val" / wnids[label]
        folder.mkdir(parents=True, exist_ok=True)
        image.save(folder / name, "JPEG")


def _configuration(repository: Path) -> dict:
    return yaml.safe_load((repository / "config/imagenet.yaml").read_text())


def test_it_asks_for_what_the_issue_says(repository: Path) -> None:
    settings = load_settings(_configuration(repository))
    assert {name: model.preset.top1 for name, model in settings.models.items()} == VARIANTS
    assert {name: model.preprocessing.short_side for name, model in settings.models.items()} == {
        "mnasnet0_5": 256,
        "mnasnet0_75": 232,
        "mnasnet1_0": 256,
        "mnasnet1_3": 232,
    }
    assert settings["precisions"] == ["fp32", "fp16", "int8-percentile", "int8-max", "int8-kl_divergence", "int8-mse"]
    assert (settings["calibration"]["images"], settings.dataset_is_imagenet) == (1000, True)


def _small(workflow: Workflow, repository: Path, root: Path, labels: Path | None = None, **changes: object) -> None:
    """The file itself, with the dataset's place and nothing else but ``changes``."""
    content = _configuration(repository)
    content["dataset"]["root"] = str(root)
    if labels is not None:
        content["dataset"]["labels"] = str(labels)
    workflow.configure({**content, "calibration": {"images": 6}, **changes})


@pytest.mark.parametrize("lay_out", [_flat, _class_folders])
def test_it_plans_every_row_of_both_layouts(repository: Path, tmp_path: Path, lay_out) -> None:
    lay_out(tmp_path / "ImageNet")
    workflow = make_workflow(repository, tmp_path / "checkout")
    _small(workflow, repository, tmp_path / "ImageNet", shards=3)
    planned = workflow.planned()
    assert (planned["export_model"], planned["compile_model"], planned["run_accuracy"]) == (4, 24, 24 * 3)
    # Two geometries (short sides of 256 and 232) in three shards.
    assert planned["write_npz"] == 6


def test_both_layouts_give_the_same_classes(tmp_path: Path) -> None:
    _flat(tmp_path / "flat")
    _class_folders(tmp_path / "folders")
    flat, folders = (
        {Path(name).name: file.class_index for name, file in scan(Dataset(tmp_path / root)).items()}
        for root in ("flat", "folders")
    )
    assert flat == folders == {name: label for name, label, _ in _images()}


def _csv(root: Path) -> Path:
    """The images flat in a folder of another name, and their WordNet ids in a CSV."""
    wnids = imagenet_wnids()
    _flat(root)
    (root / "val").rename(root / "validation")
    (root / "val_label.txt").unlink()
    rows = [f"{label},validation/{name},{wnids[label]}\r\n" for name, label, _ in _images()]
    (root / "labels.csv").write_text("".join(["index,path,label\r\n", *rows]), newline="")
    return root / "labels.csv"


def test_it_scores_by_index_and_sets_the_published_beside(repository: Path, tmp_path: Path) -> None:
    root = tmp_path / "ImageNet"
    labels = _csv(root)
    before = sorted((path, path.stat().st_mtime_ns) for path in root.rglob("*"))
    torch.manual_seed(0)
    state = create("torchvision", "mnasnet0_5").state_dict()
    # Always the machine called crane, 517; the bird, 134, comes second.
    state["classifier.1.weight"] *= 0
    state["classifier.1.bias"][[517, 134, 638, 639, 0]] += torch.tensor([9.0, 8, 7, 6, 5])
    torch.save(state, tmp_path / "weights.pth")
    workflow = make_workflow(repository, tmp_path / "checkout")
    models = {"mnasnet0_5": {"weights": str(tmp_path / "weights.pth")}}
    vamp = {"iterations": 2, "retries": 0}
    _small(workflow, repository, root, labels, models=models, precisions=["fp32"], shards=2, vamp=vamp)
    message = "The dataset: a CSV of paths and labels, 6 classes with ImageNet's own indices"
    assert message in workflow.run()
    with (workflow.root / "results/summary.csv").open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert (row["images"], row["top1"], row["top5"]) == ("12", "16.667", "83.333")
    assert (row["reference_top1"], row["reference_source"]) == ("67.734", "torchvision IMAGENET1K_V1")
    # A part of the set is not held to the published accuracy.
    assert "off the published" not in (workflow.root / "results/summary.md").read_text()
    assert workflow.planned() == {}
    assert sorted((path, path.stat().st_mtime_ns) for path in root.rglob("*")) == before
    # Calibration chooses from the CSV's images, and an edited label is seen.
    _small(workflow, repository, root, labels, models=models, precisions=["int8-max"], shards=2, vamp=vamp)
    workflow.run("results/data/imagenet/calibration.txt")
    listed = (workflow.root / "results/data/imagenet/calibration.txt").read_text().split()
    assert len(listed) == 6 and all(Path(line).parent == root / "validation" for line in listed)
    text = labels.read_text()
    labels.write_text(text.replace(imagenet_wnids()[517], imagenet_wnids()[638], 1))
    assert workflow.planned()["index_shard"] >= 1


def test_classes_that_calibration_lacks_are_named(repository: Path, tmp_path: Path) -> None:
    _flat(tmp_path / "ImageNet")
    _flat(tmp_path / "other")
    names = [name for name, label, _ in _images() if label == 517]
    for name in names:
        (tmp_path / "other/val" / name).unlink()
    labels = (tmp_path / "other/val_label.txt").read_text().splitlines(keepends=True)
    (tmp_path / "other/val_label.txt").write_text("".join(line for line in labels if line.split()[0] not in names))
    workflow = make_workflow(repository, tmp_path / "checkout")
    _small(workflow, repository, tmp_path / "ImageNet", calibration={"images": 6, "source": str(tmp_path / "other")})
    done = workflow.call("results/data/imagenet/calibration.txt")
    assert done.returncode != 0
    assert "has no image of 1 classes: 517" in done.stdout
    _small(workflow, repository, tmp_path / "ImageNet", calibration={"images": 5})
    done = workflow.call("results/data/imagenet/calibration.txt")
    assert "calibration.images is 5, fewer than the 6 classes; each must be present" in done.stdout
