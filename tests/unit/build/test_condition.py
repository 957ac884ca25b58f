"""The conditioned graph computes the same function, in the operators asked for, and foreign int8 keeps it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from card_step import card_step
from mnasbench.build import condition as conditioning
from mnasbench.build.condition import TARGETS, condition
from mnasbench.build.dead_channels import without_dead_channels
from mnasbench.build.gate import logits_of
from mnasbench.build.graph import constants, prepare, with_constants
from mnasbench.build.opset import in_opset, opset_of
from mnasbench.errors import BuildError, SettingsError
from small_classifier import float_classifier

IMAGES = np.random.default_rng(5).normal(size=(20, 3, 32, 32)).astype(np.float32)


def _stream() -> list[np.ndarray]:
    return [IMAGES[:8], IMAGES[8:]]


def _hard() -> ModelProto:
    """The small classifier with the hidden channels of two layers far apart in scale: the same function."""
    model = prepare(float_classifier())
    values = dict(constants(model))
    scale = 2.0 ** np.random.default_rng(0).uniform(-7, 7, 20)
    for maker, reader in (("conv_03", "conv_04"), ("conv_04", "conv_05")):
        values[f"{maker}.weight"] = values[f"{maker}.weight"] * scale[:, None, None, None]
        values[f"{maker}.bias"] = values[f"{maker}.bias"] * scale
        weight = values[f"{reader}.weight"]
        by_input = scale[:, None, None, None] if weight.shape[1] == 1 else scale[:, None, None]
        values[f"{reader}.weight"] = weight / by_input
    return with_constants(model, values)


def _assert_same(before: ModelProto, after: ModelProto) -> None:
    expected = logits_of(before, IMAGES)
    np.testing.assert_allclose(logits_of(after, IMAGES), expected, atol=2e-5 * np.abs(expected).max())


def test_a_hard_net_is_kept_by_a_foreign_quantizer_only_conditioned() -> None:
    hard = _hard()
    made = condition(hard, lambda: iter(_stream()), "vamc", kinds=["symmetric"])
    _assert_same(hard, made.model)
    assert opset_of(made.model) == 11
    assert made.model.graph.input[0].name == "input" and made.model.graph.output[0].name == "output"
    best = max(made.certificate["foreseen"], key=lambda row: row["conditioned"]["sqnr_db"])
    assert best["conditioned"]["sqnr_db"] > best["raw"]["sqnr_db"] + 6
    assert made.certificate["float32"]["noise"]["of_the_largest"] < 1e-5
    assert made.certificate["images"] == {"conditioned_on": 16, "judged": 4}
    rows = {row["layer"]: row for row in made.certificate["layers"]}
    assert rows["conv_03"]["outputs_before"] > 100 * rows["conv_03"]["outputs_after"]


@pytest.mark.parametrize("best", ["equalized", "as_it_was"])
def test_channels_are_scaled_only_where_that_keeps_more(best: str, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = iter([20.0, 10.0] if best == "equalized" else [10.0, 20.0])
    monkeypatch.setattr(conditioning, "_kept_by", lambda *_: next(figures))
    made = condition(_hard(), lambda: iter(_stream()), "tflite").certificate
    assert bool(made["equalized"]["activations"]) == (best == "equalized")
    assert made["equalized"]["sqnr_db"][best] == 20


def test_a_graph_whose_answers_move_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def spoiled(model: ModelProto, *_: object) -> ModelProto:
        name = next(tensor.name for tensor in model.graph.initializer)
        return with_constants(model, {name: constants(model)[name] * 1.01})

    monkeypatch.setattr(conditioning, "in_opset", spoiled)
    with pytest.raises(BuildError, match="conditioning changed fp32 logits by"):
        condition(float_classifier(), lambda: iter(_stream()), "vamc")


def test_what_cannot_be_conditioned_is_told() -> None:
    with pytest.raises(SettingsError, match=r"unknown compiler 'vamcc'.*vamc"):
        condition(float_classifier(), lambda: iter(_stream()), "vamcc")
    with pytest.raises(SettingsError, match="opset: 9 is not within 11 to 24"):
        condition(float_classifier(), lambda: iter(_stream()), opset=9)


def _classifier_of(node: Callable[[], list[onnx.NodeProto]], held: dict[str, np.ndarray], opset: int) -> ModelProto:
    """Image, the given nodes from `input` to `x`, its mean over all sides as `output`."""
    mean = helper.make_node("GlobalAveragePool", ["x"], ["pooled"])
    flat = helper.make_node("Flatten", ["pooled"], ["output"])
    graph = helper.make_graph(
        [*node(), mean, flat],
        "net",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 32, 32])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", "channels"])],
        [numpy_helper.from_array(value, name) for name, value in held.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model)


_INTEGERS = {
    "axes": np.array([2, 3]),
    "every": np.array([0, 3, 32, -1]),
    "sides": np.array([1, 2, 3, 4]),
    "two": np.array([2], np.int64),
}
_CASES = {
    "HardSwish": lambda: [helper.make_node("HardSwish", ["input"], ["x"], "n")],
    "LayerNormalization": lambda: [
        helper.make_node("LayerNormalization", ["input", "gain", "shift"], ["x"], "n", axis=-1, epsilon=1e-3)
    ],
    "Gelu": lambda: [helper.make_node("Gelu", ["input"], ["x"], "n")],
    "Gelu by tanh": lambda: [helper.make_node("Gelu", ["input"], ["x"], "n", approximate="tanh")],
    "Mish": lambda: [helper.make_node("Mish", ["input"], ["x"], "n")],
    "Softmax over channels": lambda: [helper.make_node("Softmax", ["input"], ["x"], "n", axis=1)],
    "ReduceMean": lambda: [helper.make_node("ReduceMean", ["input", "axes"], ["x"], "n", keepdims=1)],
    "Split in three": lambda: [
        helper.make_node("Split", ["input"], ["a", "b", "c"], "n", axis=1, num_outputs=3),
        helper.make_node("Sub", ["a", "c"], ["x"], "m"),
    ],
    "Pad of two axes": lambda: [
        helper.make_node("Pad", ["input", "sides", "", "axes"], ["padded"], "n"),
        helper.make_node("Mul", ["padded", "padded"], ["x"], "m"),
    ],
    "Squeeze": lambda: [
        helper.make_node("Unsqueeze", ["input", "two"], ["more"], "n"),
        helper.make_node("Squeeze", ["more", "two"], ["x"], "m"),
    ],
    "Reshape": lambda: [helper.make_node("Reshape", ["input", "every"], ["x"], "n", allowzero=0)],
    "Shape of the sides": lambda: [
        helper.make_node("Shape", ["input"], ["some"], "n", start=2, end=3),
        helper.make_node("Cast", ["some"], ["number"], "c", to=TensorProto.FLOAT),
        helper.make_node("Div", ["input", "number"], ["x"], "m"),
    ],
}


@pytest.mark.parametrize("case", _CASES)
def test_an_operator_in_an_older_opset_computes_the_same(case: str) -> None:
    floats = {"gain": np.linspace(1, 2, 32, dtype=np.float32), "shift": np.linspace(-1, 1, 32, dtype=np.float32)}
    model = _classifier_of(_CASES[case], floats | _INTEGERS, 20)
    older = in_opset(model, 11)
    assert opset_of(older) == 11
    np.testing.assert_allclose(logits_of(older, IMAGES), logits_of(model, IMAGES), rtol=2e-5, atol=1e-6)


def test_what_has_no_older_form_is_told() -> None:
    model = _classifier_of(lambda: [helper.make_node("GridSample", ["input", "grid"], ["x"], "n")], {}, 20)
    grid = numpy_helper.from_array(np.zeros((1, 4, 4, 2), np.float32), "grid")
    model.graph.initializer.append(grid)
    with pytest.raises(BuildError, match=r"opset 11: this graph cannot be written in it \(.*GridSample"):
        in_opset(model, 11)


@settings(max_examples=15)
@given(seed=st.integers(0, 1000))
def test_dead_channels_are_silenced_and_no_answer_moves(seed: int) -> None:
    random = np.random.default_rng(seed)
    model = prepare(float_classifier(seed=seed))
    values = {name: value.copy() for name, value in constants(model).items()}
    for layer in ("conv_01", "conv_03", "conv_06"):
        dead = random.random(len(values[f"{layer}.bias"])) < 0.4
        values[f"{layer}.weight"] = np.where(dead[:, None, None, None], 0, values[f"{layer}.weight"])
    # All that reads a ReLU with no positive weight and no positive bias.
    values["conv_02.weight"][:3] = -np.abs(values["conv_02.weight"][:3])
    values["conv_02.bias"][:3] = -np.abs(values["conv_02.bias"][:3])
    spoiled = with_constants(model, values)
    quiet, silent = without_dead_channels(spoiled)
    _assert_same(spoiled, quiet)
    assert silent["conv_02"] >= 3
    after = constants(quiet)
    assert not after["conv_02.weight"][:3].any() and not after["conv_02.bias"][:3].any()


def test_a_live_net_keeps_every_channel() -> None:
    assert without_dead_channels(prepare(float_classifier()))[1] == {}


def test_the_command_writes_the_graph_and_its_certificate(tmp_path: Path) -> None:
    from PIL import Image

    random = np.random.default_rng(2)
    (tmp_path / "images").mkdir()
    for number in range(10):
        Image.fromarray(random.integers(0, 255, (40, 40, 3), np.uint8)).save(tmp_path / f"images/{number}.png")
    onnx.save(_renamed(_hard()), tmp_path / "net.onnx")
    out = tmp_path / "made/net.onnx"
    arguments = (tmp_path / "net.onnx", "--calibration", tmp_path / "images", "-o", out, "--target", "tflite")
    said = card_step("mnasbench.commands.ort_vamc", "condition", *arguments, "--batch", 2)
    written = onnx.load(out)
    assert [value.name for value in (*written.graph.input, *written.graph.output)] == ["photo", "scores"]
    assert written.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 2
    certificate = json.loads(out.with_suffix(".condition.json").read_text())
    assert certificate["opset"] == TARGETS["tflite"].opset == opset_of(written)
    assert {row["kind"] for row in certificate["foreseen"]} == {"asymmetric"}
    assert "float32: largest change" in said


def _renamed(model: ModelProto) -> ModelProto:
    """The model with other names for its input and output."""
    new = {"input": "photo", "output": "scores"}
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [new.get(name, name) for name in names]
    for value in (*model.graph.input, *model.graph.output):
        value.name = new[value.name]
    return model
