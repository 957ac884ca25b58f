"""The exported graph against torch: on noise while exporting, on the real photographs here."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from mnasbench.data.preprocess import normalise, pixels_of
from mnasbench.errors import BuildError
from mnasbench.model import architecture, complexity
from mnasbench.model.export import _compare_with_torch, export_torchscript
from mnasbench.preprocessing import Preprocessing


@pytest.fixture(scope="module")
def exported(real: Path, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real weights, exported by the model card's own command."""
    folder = tmp_path_factory.mktemp("onnx")
    script = repository / "workflow/scripts/export_timm_torchvision_model.py"
    flags = ["--model_library", "torchvision", "--model_name", "mnasnet0_5", "--save_dir", str(folder), "--size", "224"]
    weights = ["--pretrained_weights", str(real / "mnasnet0_5_memorised.pth")]
    said = subprocess.run([sys.executable, str(script), *flags, *weights], check=True, capture_output=True, text=True)
    assert "2.219 M parameters" in said.stdout and "0.104 G multiply-adds" in said.stdout
    return folder / "mnasnet0_5_224.onnx"


def test_logits_equal_torchs_on_every_photograph(exported: Path, real: Path) -> None:
    model, _ = architecture.load("torchvision", "mnasnet0_5", real / "mnasnet0_5_memorised.pth")
    session = onnxruntime.InferenceSession(str(exported), providers=["CPUExecutionProvider"])
    how = Preprocessing(resize=384)
    paths = sorted((real / "val").iterdir())
    for start in range(0, len(paths), 20):
        images = normalise(np.stack([pixels_of(path, how) for path in paths[start : start + 20]]), how)
        with torch.no_grad():
            expected = model(torch.from_numpy(images)).numpy()
        found = session.run(None, {"input": images})[0]
        np.testing.assert_allclose(found, expected, atol=1e-4)
        np.testing.assert_array_equal(found.argmax(1), expected.argmax(1))


def test_the_description_reproduces_the_model_card(exported: Path) -> None:
    message = json.loads(exported.with_suffix(".json").read_text())
    assert (round(message["params"] / 1e6, 3), round(message["macs"] / 1e9, 3)) == (2.219, 0.104)
    assert round(message["card_flops"] / 1e9, 3) == 0.259
    assert message["classes"] == 1000


def test_the_model_card_of_mnasnet1_0() -> None:
    model = architecture.create("torchvision", "mnasnet1_0")
    assert round(complexity.parameter_count(model) / 1e6, 3) == 4.383
    assert round(complexity.multiply_adds(model, 224) / 1e9, 3) == 0.314
    assert round(complexity.card_flops(model, 224) / 1e9, 3) == 0.747


def test_the_graph_says_nothing_of_the_machine(exported: Path, repository: Path) -> None:
    graph = onnx.load(exported)
    assert not graph.metadata_props and not any(node.metadata_props or node.doc_string for node in graph.graph.node)
    content = exported.read_bytes()
    assert str(repository).encode() not in content and sys.prefix.encode() not in content


def test_a_graph_that_differs_from_torch_is_refused(exported: Path, real: Path) -> None:
    model, _ = architecture.load("torchvision", "mnasnet0_5", real / "mnasnet0_5_memorised.pth")
    graph = onnx.load(exported)
    bias = next(tensor for tensor in graph.graph.initializer if tensor.name == "classifier.1.bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + 0.01, bias.name))
    with pytest.raises(BuildError, match="differ from torch's"):
        _compare_with_torch(model, graph, 224)


def test_torchscript_gives_the_same_logits(tmp_path: Path) -> None:
    model = architecture.create("timm", "mnasnet_small", 5)
    export_torchscript(model, 96, tmp_path / "net.pt")
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.load(tmp_path / "net.pt")(images), model(images))
