"""Other nets, timm's, another input size and another normalisation: a few lines of configuration each, one report."""

import csv
import struct
from pathlib import Path

import pytest
import torch

from checkout import Workflow
from mnasbench.data.demo import make_demo
from mnasbench.model.architecture import create
from mnasbench.plan.steps import STEPS

MODELS = {
    "mnasnet0_75": {"library": "torchvision", "size": 96},
    # Mean and std of 0.5, another activation layout, and images of 160 pixels.
    "minimal": {"library": "timm", "name": "tf_mobilenetv3_small_minimal_100", "size": 160},
}


def _settle(net: torch.nn.Module, size: int) -> None:
    """Give an untrained net statistics of its own, as training would: with the initial ones its activations vanish."""
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        net.train()(torch.randn(8, 3, size, size))
    net.eval()


def test_any_classifier_is_a_few_lines_of_configuration(workflow: Workflow, tmp_path: Path) -> None:
    make_demo(tmp_path / "images", validation=48, training=24, seed=2, workers=2)
    labels = (tmp_path / "images/val_label.txt").rename(tmp_path / "labels.txt")
    for number, (variant, model) in enumerate(MODELS.items()):
        torch.manual_seed(number)
        net = create(model["library"], model.get("name", variant), 24)
        _settle(net, model.get("size", 224))
        torch.save(net.state_dict(), tmp_path / f"{variant}.pth")
    workflow.configure(
        {
            "dataset": {"name": "small", "root": str(tmp_path / "images"), "labels": str(labels)},
            "calibration": {"images": 24},
            "models": {name: {**model, "weights": str(tmp_path / f"{name}.pth")} for name, model in MODELS.items()},
            "precisions": ["fp32", "int8-max"],
            "vamp": {"instances": 1, "iterations": 3, "retries": 0},
        }
    )
    workflow.run()
    with (workflow.root / "results/summary.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["model"], row["precision"]) for row in rows] == [(m, p) for m in MODELS for p in ("fp32", "int8-max")]
    for row in rows:
        assert int(row["images"]) == 48
        assert float(row["throughput_qps"]) > 0
        if row["precision"] == "int8-max":
            # Untrained nets: their answers are arbitrary and their logits nearly alike, but int8 must follow them.
            assert float(row["sqnr_db"]) > 5, row
    _check_pages(workflow)


def _check_pages(workflow: Workflow) -> None:
    page = (workflow.root / "results/report.html").read_text()
    assert "minimal, int8-max" in page and "24 of 24 classes" in page
    assert workflow.planned() == {}
    style = workflow.root / "workflow/mnasbench/result/templates/page.css"
    style.write_text(style.read_text() + "/* edited */\n")
    assert workflow.planned() == {"make_report": 1}
    workflow.run("--report", "all.zip")
    content = (workflow.root / "all.zip").read_bytes()
    assert struct.unpack("<I", content[:4])[0] == 0x04034B50


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": {"mnasnet0_5": {"wieghts": "demo"}}}, "unknown key 'wieghts'; did you mean 'weights'"),
        ({"models": {"mnasnet0_5": {"weights": "nowhere.pth"}}, "dataset": {"root": "x"}}, "nowhere.pth"),
    ],
)
def test_a_wrong_configuration_is_one_line(workflow: Workflow, change: dict, message: str) -> None:
    workflow.configure(change)
    done = workflow.call("--dry-run")
    assert done.returncode != 0
    assert message in done.stdout
    assert "Traceback" not in done.stdout


def test_every_step_is_in_a_plan(workflow: Workflow) -> None:
    # A rule whose result no other rule asks for would never run, and nothing would say so.
    planned: set[str] = set()
    for setting in ({"npz": "preprocessed"}, {"npz": "original"}, {"condition": True}):
        workflow.configure({"models": {"mnasnet0_5": {}}, **setting})
        planned |= set(workflow.planned())
    assert planned == set(STEPS)
