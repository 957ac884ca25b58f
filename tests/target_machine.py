"""What a machine that only builds and measures is given: a graph, some images, npz inputs and the commands to run."""

import json
from pathlib import Path

import numpy as np
import yaml

from mnasbench.build.vdsp_params import vdsp_params
from mnasbench.data.npz import write_npz
from mnasbench.data.preprocess import Preprocessing
from mnasbench.files import write_json
from unit.data.image_files import write_image

# What is installed for the whole workflow only.
NOT_THERE = ("snakemake", "torch", "torchvision", "timm", "matplotlib", "pandas", "jinja2", "tabulate")


def prepare(folder: Path, graph: Path, size: int) -> list[list[str]]:
    """Fill ``folder``; gives the calls of ort-vamc and ort-vamp that build, measure and score, to be made in it."""
    for seed in range(4):
        write_image(folder / f"calibration/{seed}.jpg", seed, (size + 8, size))
    images = np.random.default_rng(0).integers(0, 256, (3, 3, size, size), dtype=np.uint8)
    names = [f"{index}.npz" for index in range(len(images))]
    for name, pixels in zip(names, images, strict=True):
        write_npz(folder / name, pixels)
    (folder / "list.txt").write_text("".join(f"{folder / name}\n" for name in names))
    write_json(folder / "vdsp_params.json", vdsp_params(Preprocessing(resize=size, crop=size)))
    operations = [
        {"type": "DecodeImage"},
        {"type": "Resize", "size": [size, size]},
        {"type": "Normalize", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
        {"type": "ToTensor"},
    ]
    build = {
        "model": {"name": "net", "inputs": {"input": [1, 3, size, size]}, "checkpoint": str(graph)},
        "engine": {
            "type": "vacc",
            "common": {"do_quantization": True},
            "calibration": {"quant_mode": "percentile", "per_channel": True},
        },
        "dataset": {
            "path": "calibration",
            "sampler": {"suffix": "jpg", "get_data_num": 4},
            "transform_ops": operations,
        },
        "workspace": {"work_dir": "build"},
    }
    (folder / "build.yaml").write_text(yaml.safe_dump(build))
    model = ["-m", f"build/net-int8-percentile-3_{size}_{size}-ort/net", "--vdsp_params", "vdsp_params.json"]
    return [
        ["ort-vamc", "build", "build.yaml"],
        ["ort-vamc", "inspect", model[1]],
        ["ort-vamp", *model, "-b", "2", "--iterations", "20", "--warmup", "0", "--json", "performance.json"],
        ["ort-vamp", *model, "--datalist", "list.txt", "--path_output", "outputs", "--json", "accuracy.json"],
    ]


def check(folder: Path) -> None:
    """Insist that the commands left what they were to make."""
    assert json.loads((folder / "performance.json").read_text())["throughput_qps"] > 0
    assert json.loads((folder / "accuracy.json").read_text())["images"] == 3
    assert len(list((folder / "outputs").glob("*.npz"))) == 3
