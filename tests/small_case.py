"""The smallest whole case: one variant in fp32 and int8 on a few images, and what of its results is not a time.

Its paths and images are named as nobody should name them, and one image is faulty: no name of the user's may be
taken for a command, a pattern or a list, and what is excluded must be missed by no stage.
"""

import csv
import json
from pathlib import Path
from typing import Any

import torch

from checkout import Workflow
from mnasbench.data.demo import make_demo
from mnasbench.model.architecture import create

VARIANT = "mnasnet0_5"
IMAGES = 48
CLASSES = 24
ODD = "odd: 'a' \"b\" ü $(touch ran) `touch ran` {} {a b} *?; & | #%20~! \\n"
# What Snakemake can hand on to a cluster's jobs.
ODD_ON_CLUSTER = "odd: ü {} {a b} *?; & | #%20~!"
FOLDER = f"images {ODD}"
# Of some of the images.
NAMES = (
    *("-rf.JPEG", "{variant}.JPEG", "{{shard}}.JPEG", "$(touch ran).JPEG", "a b.JPEG", "ü 中.JPEG", "'\".JPEG"),
    *("back\\slash.JPEG", "c:x.JPEG", "<script>.JPEG", "#1%20.JPEG", "*?.JPEG", ";ls.JPEG", "~.JPEG", "`ls`.JPEG"),
    *("5 x.y.JPEG", "trailing .JPEG", "a,b.JPEG", '"quoted".JPEG', "=1+1.JPEG", "x" * 240 + ".JPEG"),
)
FAULTY = "val/demo_val_00000049.JPEG"
# Columns of the summary that a measurement of time decides.
TIMED = {"throughput_qps", "verdict"}


def prepare(workflow: Workflow, folder: Path, odd: str = ODD, **settings: Any) -> dict[str, Any]:
    """Make images and weights in ``folder`` and configure ``workflow`` to use them; gives the configuration."""
    root, weights, class_names = (folder / name for name in (f"images {odd}", f"weights {odd}.pth", f"classes {odd}"))
    make_demo(root, validation=IMAGES + 1, training=CLASSES, seed=1, workers=2)
    lines = (root / "val_label.txt").read_text().splitlines()
    for number, name in enumerate(NAMES):
        former, label = lines[number].split()
        (root / "val" / former).rename(root / "val" / name)
        lines[number] = f"{name} {label}"
    (root / "val_label.txt").write_text("".join(f"{line}\n" for line in lines))
    (root / FAULTY).write_bytes((root / FAULTY).read_bytes()[:2000])
    class_names.write_text("".join(f"<script>{index}</script>\n" for index in range(CLASSES)))
    torch.manual_seed(0)
    torch.save(create("torchvision", VARIANT, CLASSES).state_dict(), weights)
    configuration = {
        "dataset": {"name": "small", "root": str(root), "on_fault": "exclude", "class_names": str(class_names)},
        "calibration": {"images": CLASSES},
        "models": {VARIANT: {"weights": str(weights), "size": 64}},
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
        found[f"{name} answers"] = (results / "result" / name / "answers.csv").read_text().splitlines()[1:]
        certificate = json.loads((results / "result" / row["model"] / "parity.json").read_text())
        found[f"{row['model']} parity"] = {key: certificate[key] for key in ("images", "drawn_from", "ways")}
        (graph,) = (results / "build" / name).glob("*/*.params")
        found[f"{name} weights"] = graph.read_bytes()
    return found
