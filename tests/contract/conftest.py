"""The vendor's two tools, stood in for, on the PATH of a checkout."""

import sys
from pathlib import Path

import pytest
import torch

from checkout import Workflow, make_workflow
from mnasbench.data.demo import make_demo
from mnasbench.model.architecture import create

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo set of 48 images, and weights of an untrained net beside it."""
    root = tmp_path_factory.mktemp("contract") / "images"
    make_demo(root, validation=48, training=24, seed=1, workers=2)
    torch.manual_seed(0)
    weights = create("torchvision", "mnasnet0_5", 24).state_dict()
    for name in weights:
        # Else an untrained net's scores lie below the smallest number of fp16, in which the card gives them.
        if name.endswith("running_var"):
            weights[name] /= 5
    torch.save(weights, root.parent / "weights.pth")
    return root


def _card(repository: Path, folder: Path) -> Workflow:
    """A checkout below ``folder`` that finds `vamc` and `vamp` on PATH; ``test.yaml`` is to be written."""
    workflow = make_workflow(repository, folder / "checkout")
    (folder / "bin").mkdir()
    for tool in ("vamc", "vamp"):
        script = folder / "bin" / tool
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{HERE / f"stand_in_{tool}.py"}" "$@"\n')
        script.chmod(0o755)
    workflow.environment["PATH"] = f"{folder / 'bin'}:{workflow.environment['PATH']}"
    return workflow


@pytest.fixture(scope="session")
def settings(images: Path) -> dict:
    """A configuration of one small variant on the card."""
    return {
        "engine": "vacc",
        "dataset": {"name": "small", "root": str(images)},
        "calibration": {"images": 24},
        "models": {"mnasnet0_5": {"weights": str(images.parent / "weights.pth"), "size": 64}},
        "precisions": ["fp32", "fp16", "int8-percentile"],
        "vamp": {"instances": 1, "batch_size": 4, "iterations": 3, "retries": 0},
    }


@pytest.fixture
def card(repository: Path, tmp_path: Path) -> Workflow:
    """A fresh checkout for one test."""
    return _card(repository, tmp_path)


@pytest.fixture(scope="session")
def built(repository: Path, settings: dict, tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """A checkout in which the stand-in compiler has built fp16, and the inputs are there."""
    workflow = _card(repository, tmp_path_factory.mktemp("built"))
    workflow.configure({**settings, "precisions": ["fp16"]})
    workflow.run(
        "results/build/mnasnet0_5/fp16/compile.receipt.json",
        "results/data/small/image_lists/resize73-crop64-bilinear-0.txt",
    )
    return workflow
