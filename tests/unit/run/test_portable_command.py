"""`ort-vamc portable` as a user calls it."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from mnasbench.commands import ort_vamc
from unit.build.nets import SIZE, small_mnasnet


@pytest.fixture(scope="module")
def build_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build file of a small net in int8 with weights of 8 bits, and its images."""
    folder = tmp_path_factory.mktemp("portable")
    (folder / "images").mkdir()
    for number, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (12, SIZE, SIZE, 3), dtype=np.uint8)):
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
    (folder / "net.onnx").write_bytes(small_mnasnet().SerializeToString())
    content = {
        "model": {"name": "net", "inputs": {"input": [1, 3, SIZE, SIZE]}, "checkpoint": str(folder / "net.onnx")},
        "engine": {"type": "ort", "common": {"do_quantization": True}, "calibration": {"quant_mode": "max"}},
        "dataset": {
            "path": str(folder / "images"),
            "sampler": {"suffix": "png"},
            "transform_ops": [
                {"type": "DecodeImage"},
                {"type": "Normalize", "mean": [0.5] * 3, "std": [0.25] * 3},
                {"type": "ToTensor"},
            ],
        },
        "workspace": {"work_dir": str(folder / "out")},
        "ort": {"weight_bits": 8, "runtime": "onnxruntime"},
    }
    (folder / "build.yaml").write_text(yaml.safe_dump(content))
    assert ort_vamc.main(["build", str(folder / "build.yaml"), "--json", str(folder / "built.json")]) == 0
    return folder / "build.yaml"


def test_the_build_and_the_command_foretell_a_cpu_without_vnni(
    build_file: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert ort_vamc.main(["portable", str(build_file), "--json", str(tmp_path / "figures.json")]) == 0
    out = capsys.readouterr().out
    figures = json.loads((tmp_path / "figures.json").read_text())
    certificate = json.loads((build_file.parent / "built.json").read_text())["quantization"]["portable"]
    assert figures["images"] == 12 and certificate["images"] == 8
    assert figures["saturating"] and certificate["saturating"]
    exact, there = figures["cpus"]["x86 with VNNI or AMX"], figures["cpus"]["x86 without VNNI"]
    assert there["sqnr_db"] < exact["sqnr_db"] - 1
    assert "x86 without VNNI" in out and "weight_bits: 7" in out
    if not figures["this_cpu_saturates"]:
        assert figures["run_here"]["sqnr_db"] == pytest.approx(exact["sqnr_db"], abs=1e-9)


@pytest.mark.parametrize("bits", [7, 8])
def test_weights_have_as_many_bits_as_are_asked_for(build_file: Path, tmp_path: Path, bits: int) -> None:
    content = yaml.safe_load(build_file.read_text())
    content["ort"]["weight_bits"] = bits
    content["workspace"]["work_dir"] = str(tmp_path / "out")
    (tmp_path / "build.yaml").write_text(yaml.safe_dump(content))
    assert ort_vamc.main(["build", str(tmp_path / "build.yaml"), "--json", str(tmp_path / "built.json")]) == 0
    quantization = json.loads((tmp_path / "built.json").read_text())["quantization"]
    assert quantization["reduce_range"] is (bits == 7)
    assert (quantization["portable"] is None) is (bits == 7)


def test_what_is_missing_or_another_is_said_in_one_line(
    build_file: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    built = json.loads((build_file.parent / "built.json").read_text())
    assert ort_vamc.main(["portable", built["prefix"]]) == 2
    assert "give --images, or the build file" in capsys.readouterr().err
    content = yaml.safe_load(build_file.read_text())
    (tmp_path / "other.onnx").write_bytes(small_mnasnet(1).SerializeToString())
    content["model"]["checkpoint"] = str(tmp_path / "other.onnx")
    (tmp_path / "build.yaml").write_text(yaml.safe_dump(content))
    assert ort_vamc.main(["portable", str(tmp_path / "build.yaml")]) == 2
    assert "is not what" in capsys.readouterr().err
    content["ort"]["weight_bits"] = 6
    (tmp_path / "build.yaml").write_text(yaml.safe_dump(content))
    assert ort_vamc.main(["check", str(tmp_path / "build.yaml")]) == 2
    assert "'ort.weight_bits' is 6, expected auto, 7, 8" in capsys.readouterr().err
