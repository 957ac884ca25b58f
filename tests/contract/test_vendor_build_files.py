"""The vendor's own build files of generation 2: each is read as it stands, or refused with what to write instead."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from mnasbench.build.config import read_build_config
from mnasbench.card_options import COMPILE, QUANTIZE
from mnasbench.commands import ort_vamc
from mnasbench.errors import SettingsError

# Why a file is refused, by its name, and how the line ends that says what to write.
FRONTEND = r"'frontend.type' is '{}', which only the card's .* export the net to ONNX .* write type: onnx"
REFUSED = {
    "keras_densenet": FRONTEND.format("keras"),
    "keras_mobilenetv1": FRONTEND.format("keras"),
    "keras_resnet": FRONTEND.format("keras"),
    "keras_xception": FRONTEND.format("keras"),
    "timm_ghostnet": FRONTEND.format("pytorch"),
    "timm_vovnet": FRONTEND.format("pytorch"),
    "timm_mobilenetv3": FRONTEND.format("pytorch"),
    # Misspelt by the vendor: its compiler may have taken any mode.
    "ppcls_mobilenetv3": r"unknown key 'backend.quantize.alibrate_mode'; did you mean 'calibrate_mode'",
    "sqlai_mobilenetv3": r"unknown key 'backend.quantize.alibrate_mode'; did you mean 'calibrate_mode'",
}


def _expected(content: dict[str, Any]) -> dict[str, Any]:
    """What a file says, read here on its own."""
    backend, quantize = content["backend"], content["backend"].get("quantize", {})
    ((name, shape),) = content["frontend"]["shape"].items()
    sampler = content.get("dataset", {}).get("sampler", {})
    int8 = f"int8-{quantize.get('calibrate_mode')}"
    return {
        "name": content["name"],
        "input": (name, tuple(shape)),
        "precision": int8 if backend["dtype"] == "int8" else backend["dtype"],
        "per_channel": quantize.get("quantize_per_channel", True),
        "softmax": content.get("graph", {}).get("extra_ops", {}).get("type") == "softmax",
        "images": (sampler.get("get_data_num"), sampler.get("suffix")),
        "prefix": Path(content["workspace"]["path"]) / content["name"] / "mod",
        "cards": {f"backend.compile.{key}" for key in backend.get("compile", {})}
        | {f"backend.quantize.{key}" for key in quantize if key in QUANTIZE}
        | {f"workspace.{key}" for key in content["workspace"] if key != "path"},
    }


def _check_operations(operations: list[dict[str, Any]], p: Any) -> None:
    """That a preprocessing is what the operations say one after the other."""
    said = {operation["type"]: operation for operation in operations}
    assert p.resize == tuple(said["Resize"]["size"]) and p.library == "opencv" and p.interpolation == "bilinear"
    assert p.size == tuple(said.get("CenterCrop", {}).get("crop_size", said["Resize"]["size"]))
    assert p.colours == ("BGR" if "CvtColor" in said else "RGB")
    scale = 1 if said["Normalize"].get("div255", True) else 255
    assert [one * scale for one in p.mean] == pytest.approx(said["Normalize"]["mean"])
    assert [one * scale for one in p.std] == pytest.approx(said["Normalize"]["std"])


def test_every_file_is_read_or_refused_with_what_to_write(vendor: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = sorted(vendor.glob("*/build_in/build/*.yaml"))
    assert len(files) == 76
    refused = {}
    for file in files:
        content = yaml.safe_load(file.read_text())
        try:
            config = read_build_config(file, 2)
        except SettingsError as error:
            refused[file.stem] = str(error)
            assert read_build_config(file, 2, card=True).name == content["name"]  # vamc may read what we do not
            continue
        assert {
            "name": config.name,
            "input": (config.input_name, config.shape),
            "precision": config.precision,
            "per_channel": config.per_channel,
            "softmax": config.softmax,
            "images": (config.images, config.suffix),
            "prefix": config.prefix,
            "cards": set(config.ignored),
        } == _expected(content), file
        operations = content.get("dataset", {}).get("process_ops")
        if operations is None:
            assert config.preprocessing is None and "process_ops' is left out; images are" in config.assumed[0]
        else:
            _check_operations(operations, config.preprocessing)
            assert config.assumed == ()
    assert set(refused) == set(REFUSED)
    for name, line in refused.items():
        assert re.search(REFUSED[name], line) and "\n" not in line, name
    assert ort_vamc.main(["check", str(vendor / "vgg/build_in/build/torchvision_vgg.yaml")]) == 0
    said = capsys.readouterr().err.splitlines()
    assert "ort-vamc: option 'backend.quantize.dense_special_config' is the card's and has no effect here" in said


@pytest.mark.parametrize(
    ("section", "name", "near"),
    [("quantize", "calibrate_rang", "calibrate_range"), ("compile", "cluster_mod", "cluster_mode")],
)
def test_an_unknown_option_is_named(tmp_path: Path, section: str, name: str, near: str) -> None:
    content = {
        "name": "net",
        "frontend": {"shape": {"input": [1, 3, 224, 224]}, "type": "onnx", "checkpoint": "net.onnx"},
        "backend": {"type": "tvm_vacc", "dtype": "int8", section: {name: 1}},
        "workspace": {"path": "out"},
    }
    file = tmp_path / "build.yaml"
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(SettingsError, match=f"unknown key 'backend.{section}.{name}'; did you mean '{near}'"):
        read_build_config(file)
    assert read_build_config(file, card=True).ignored == (f"backend.{section}.{name}",)


def test_the_cards_options_are_known_in_both_generations(tmp_path: Path) -> None:
    first = {
        "model": {"name": "net", "inputs": {"input": [1, 3, 224, 224]}, "checkpoint": "net.onnx"},
        "engine": {"common": dict.fromkeys(COMPILE, 1), "calibration": dict.fromkeys(QUANTIZE, 1)},
        "workspace": {"work_dir": "out"},
    }
    second = {
        "name": "net",
        "frontend": {"shape": {"input": [1, 3, 224, 224]}, "type": "onnx", "checkpoint": "net.onnx"},
        "backend": {"dtype": "int8", "compile": dict.fromkeys(COMPILE, 1), "quantize": dict.fromkeys(QUANTIZE, 1)},
        "workspace": {"path": "out"},
    }
    for content in (first, second):
        file = tmp_path / "build.yaml"
        file.write_text(yaml.safe_dump(content))
        config = read_build_config(file)
        assert {name.rpartition(".")[2] for name in config.ignored} == COMPILE | QUANTIZE
    second["backend"]["quantize"]["exclude_layers"] = [15, "conv_03"]
    file.write_text(yaml.safe_dump(second))
    config = read_build_config(file)
    assert config.skip_layers == (15, "conv_03") and "exclude_layers' has numbers; taken as those" in config.assumed[1]
    # Which mode it is decides the numbers, so that one is taken is said.
    assert config.precision == "int8-percentile" and "calibrate_mode' is left out; taken as perc" in config.assumed[0]
