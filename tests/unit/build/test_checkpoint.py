"""What is no graph that can be built ends in one line, exit code 2, and no file."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml

from mnasbench.commands import ort_vamc
from readers import tiny_onnx


def _opset(version: int) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        model = tiny_onnx()
        model.opset_import[0].version = version
        path.write_bytes(model.SerializeToString())

    return write


def _changed(change: Callable[[onnx.ModelProto], object]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        model = tiny_onnx()
        change(model)
        path.write_bytes(model.SerializeToString())

    return write


def _another(values: "onnx.ValueInfoProto") -> None:
    value = values.add()
    value.CopyFrom(values[0])
    value.name += "_2"


def _smaller_kernel(model: onnx.ModelProto) -> None:
    """Nine scores a class, at nine places of the image."""
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.ones((2, 3, 6, 6), np.float32), "w"))
    for dim in model.graph.output[0].type.tensor_type.shape.dim[2:]:
        dim.dim_value = 3


def _named_data(model: onnx.ModelProto) -> None:
    model.graph.input[0].name = model.graph.node[0].input[0] = "data"


def _external(location: str) -> Callable[[Path], None]:
    """The weights stand in a file of that name; one stands outside the folder, one is a link that leads out of it."""

    def write(path: Path) -> None:
        weights = tiny_onnx().graph.initializer[0].raw_data
        (path.parent.parent / "secret").write_bytes(weights)
        (path.parent / "link").unlink(missing_ok=True)
        (path.parent / "link").symlink_to(path.parent.parent / "secret")
        model = tiny_onnx()
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        place = str(path.parent.parent / "secret") if location == "absolute" else location
        tensor.external_data.add(key="location", value=place)
        path.write_bytes(model.SerializeToString())

    return write


def _huge(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(1 << 40)  # without taking any room


WHOLE = tiny_onnx().SerializeToString()
CASES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "cannot be read"),
    "a folder": (lambda path: path.mkdir(), "cannot be read (Is a directory)"),
    "a pipe": (os.mkfifo, "cannot be read (Not a regular file)"),
    "empty": (lambda path: path.write_bytes(b""), "holds no graph"),
    "text": (lambda path: path.write_text("hello"), "is not an ONNX file, or is damaged"),
    "huge": (_huge, "cannot be read"),
    **{
        f"cut at {length}": (lambda path, length=length: path.write_bytes(WHOLE[:length]), "")
        for length in range(1, len(WHOLE), len(WHOLE) // 12)
    },
    "opset 6": (_opset(6), "is of opset 6, expected 7 to"),
    "opset 99": (_opset(99), "is of opset 99"),
    "two outputs": (_changed(lambda model: _another(model.graph.output)), "gives 2 outputs (output, output_2)"),
    "no classifier": (_changed(_smaller_kernel), "a detector's or a segmenter's"),
    "other input": (_changed(_named_data), "its input is 'data', the build file says 'input'"),
    "unknown operator": (_changed(lambda model: setattr(model.graph.node[0], "op_type", "Cnov")), "'conv' (Cnov)"),
    "external data missing": (_external("weights.bin"), "weights.bin, but it is not"),
    "external data outside": (_external("../secret"), "points outside the directory"),
    "external data absolute": (_external("absolute"), "absolute path"),
    "external data by a link that leads out": (_external("link"), "symbolic link"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_graph_that_cannot_be_built_is_one_line(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write, message = CASES[case]
    checkpoint = tmp_path / "in" / "model.onnx"
    checkpoint.parent.mkdir()
    write(checkpoint)
    build = {
        "model": {"name": "tiny", "inputs": {"input": [1, 3, 8, 8]}, "checkpoint": str(checkpoint)},
        "workspace": {"work_dir": str(tmp_path / "out")},
        "ort": {"dtype": "fp32"},
    }
    (tmp_path / "build.yaml").write_text(yaml.safe_dump(build))
    assert ort_vamc.main(["build", str(tmp_path / "build.yaml")]) == 2
    error = capsys.readouterr().err
    assert error.count("error: ") == 1 and "model.onnx: " in error and message in error, error
    assert not (tmp_path / "out").exists()
