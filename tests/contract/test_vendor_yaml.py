"""The vendor's own build files through ort-vamc: checked, built, inspected, and run."""

from pathlib import Path

import pytest
import yaml

from card_step import card_step
from mnasbench.build.package import read_package
from mnasbench.run.session import ModelSession

OPERATIONS = [
    {"type": "DecodeImage"},
    {"type": "Resize", "size": [73, 73]},
    {"type": "CenterCrop", "crop_size": [64, 64]},
    {"type": "Normalize", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
    {"type": "ToTensor"},
]


def _first(checkpoint: Path, images: Path, out: Path) -> dict:
    return {
        "model": {"name": "net", "inputs": {"input": [1, 3, 64, 64]}, "checkpoint": str(checkpoint)},
        "engine": {
            "type": "vacc",
            "common": {"do_quantization": True, "cluster_mode": 0},
            "add_extra_ops_to_graph": {"type": "softmax"},
            "calibration": {"quant_mode": "percentile", "per_channel": True, "skip_conv_layers": [0, 2]},
        },
        "dataset": {
            "path": str(images),
            "sampler": {"suffix": "JPEG", "get_data_num": 24},
            "transform_ops": OPERATIONS,
        },
        "workspace": {"work_dir": str(out), "enable_ir": False, "save_log": True},
    }


def _second(checkpoint: Path, images: Path, out: Path) -> dict:
    return {
        "name": "net",
        "frontend": {
            "shape": {"input": [1, 3, 64, 64]},
            "type": "onnx",
            "checkpoint": str(checkpoint),
            "dtype": "fp32",
        },
        "backend": {
            "type": "tvm_vacc",
            "dtype": "int8",
            "compile": {"cluster_mode": 0},
            "quantize": {"calibrate_mode": "percentile", "quantize_per_channel": True, "skip_conv_layers": [0, 2]},
        },
        "graph": {"extra_ops": {"type": "softmax"}},
        "dataset": {
            "type": "tvm",
            "path": str(images),
            "sampler": {"suffix": "JPEG", "get_data_num": 24},
            "process_ops": OPERATIONS,
        },
        "workspace": {"path": str(out)},
    }


@pytest.fixture(scope="module")
def checkpoint(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    card_step(
        "export_timm_torchvision_model",
        *("--model_library", "torchvision", "--model_name", "mnasnet0_5", "--save_dir", folder, "--size", "64"),
        *("--pretrained_weights", images.parent / "weights.pth"),
    )
    return folder / "mnasnet0_5_64.onnx"


@pytest.mark.parametrize(
    ("command", "content", "prefix"),
    [("build", _first, "net-int8-percentile-3_64_64-ort/net"), ("compile", _second, "net/mod")],
)
def test_a_file_of_the_vendors_is_built(
    checkpoint: Path, images: Path, tmp_path: Path, command: str, content, prefix: str, capsys
) -> None:
    file = tmp_path / "build.yaml"
    file.write_text(yaml.safe_dump(content(checkpoint, images / "val", tmp_path)))
    assert card_step("mnasbench.commands.ort_vamc", "check", file).endswith(
        f"net int8-percentile -> {tmp_path / prefix}\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["build.yaml"]
    card_step("mnasbench.commands.ort_vamc", command, file)
    assert "cluster_mode' is the card's and has no effect here" in capsys.readouterr().err
    compiled = read_package(tmp_path / prefix)
    # The stem and the first block's projection, by their number among the Convs.
    assert len(compiled.info["quantization"]["float_layers"]) == 2
    assert compiled.info["preprocessing"]["resize"] == [73, 73]
    assert compiled.info["preprocessing"]["library"] == "opencv"
    assert compiled.info["outputs"][0]["softmax"] is True
    description = card_step("mnasbench.commands.ort_vamc", "inspect", tmp_path / prefix)
    assert "net (int8-percentile, engine ort, run by openvino)" in description and "checkpoint sha256" in description
    session = ModelSession(compiled)
    assert session.format.size == (64, 64)
