"""The smallest whole case: one variant in fp32 and int8 on a few pictures, and what of its results is not a time."""

import csv
import json
from pathlib import Path
from typing import Any

import torch

from checkout import Workflow
from mnasbench.data.demo import make_demo
from mnasbench.model.architecture import create

VARIANT = "mnasnet0_5"
PICTURES = 48
CLASSES = 24
# Columns of the summary that a measurement of time decides.
TIMED = {"throughput_qps", "verdict"}


def prepare(workflow: Workflow, folder: Path, **settings: Any) -> dict[str, Any]:
    """Make pictures and weights in ``folder`` and configure ``workflow`` to use them; gives the configuration."""
    make_demo(folder / "pictures", validation=PICTURES, training=CLASSES, seed=1, workers=2)
    torch.manual_seed(0)
    torch.save(create("torchvision", VARIANT, CLASSES).state_dict(), folder / "weights.pth")
    configuration = {
        "dataset": {"name": "small", "root": str(folder / "pictures")},
        "calibration": {"images": CLASSES},
        "models": {VARIANT: {"weights": str(folder / "weights.pth"), "size": 64}},
        "precisions": ["fp32", "int8-max"],
        "vamp": {"instances": 1, "iterations": 3, "retries": 0},
        **settings,
    }
    workflow.configure(configuration)
    return configuration


def untimed_results(results: Path) -> dict[str, Any]:
    """Every number of ``results`` that does not measure time: the summary's, the accuracies, the answers, the models."""
    with (results / "summary.csv").open(newline="") as stream:
        rows = [
            {key: value for key, value in row.items() if key not in TIMED and not key.startswith("latency")}
            for row in csv.DictReader(stream)
        ]
    found: dict[str, Any] = {"summary": rows}
    for row in rows:
        name = f"{row['model']}/{row['precision']}"
        found[f"{name} accuracy"] = json.loads((results / "result" / name / "accuracy.json").read_text())
        answers = [path.read_text().splitlines()[1:] for path in (results / "result" / name).glob("answers-*.csv")]
        found[f"{name} answers"] = sorted(line for lines in answers for line in lines)
        certificate = json.loads((results / "result" / row["model"] / "parity.json").read_text())
        found[f"{row['model']} parity"] = {key: certificate[key] for key in ("images", "drawn_from", "ways")}
        (graph,) = (results / "build" / name).glob("*/*.params")
        found[f"{name} weights"] = graph.read_bytes()
    return found
