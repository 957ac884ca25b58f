"""Sums of int8 products on CPUs that saturate, against the definition of pmaddubsw taken literally."""

import itertools

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from mnasbench.build.portable import emulate, foretell
from mnasbench.errors import ModelError
from mnasbench.runtimes.onnxruntime import open_session

SIZE = 6


def layer(weight: np.ndarray, zero_point: int, group: int, stride: int, dilation: int, pad: int) -> ModelProto:
    """Bytes, one convolution in int8 with outputs coarse enough that nothing clips, bytes as floats."""
    steps = 2.0**-7  # a power of two, so that no rounding hides a sum
    held = {
        "one": np.array(1, np.float32),
        "zero": np.array(zero_point, np.uint8),
        "w": weight,
        "ws": np.ones(len(weight), np.float32),
        "wz": np.zeros(len(weight), np.int8),
        "ys": np.array(1 / steps, np.float32),
        "yz": np.array(128, np.uint8),
        "b": np.arange(len(weight), dtype=np.int32),
    }
    attributes = {
        "kernel_shape": weight.shape[2:],
        "strides": [stride] * 2,
        "dilations": [dilation] * 2,
        "group": group,
        "pads": [pad] * 4,
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["input", "one", "zero"], ["x"], "q"),
        helper.make_node(
            "QLinearConv", ["x", "one", "zero", "w", "ws", "wz", "ys", "yz", "b"], ["y"], "conv", **attributes
        ),
        helper.make_node("DequantizeLinear", ["y", "ys", "yz"], ["output"], "dq"),
    ]
    channels = weight.shape[1] * group
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, channels, SIZE, SIZE])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [None] * 4)],
        [numpy_helper.from_array(value, name) for name, value in held.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def literal(
    codes: np.ndarray, weight: np.ndarray, zero_point: int, group: int, stride: int, dilation: int, pad: int
) -> np.ndarray:
    """The sums (outputs, height, width), products added two by two in 16 bits in the order position, channel."""
    outputs, inputs, high, wide = weight.shape
    padded = np.pad(codes.astype(np.int64), ((0, 0), (pad, pad), (pad, pad)), constant_values=zero_point)
    places = (padded.shape[1] - dilation * (high - 1) - 1) // stride + 1
    sums = np.zeros((outputs, places, places), np.int64)
    for output, row, column in itertools.product(range(outputs), range(places), range(places)):
        first = output // (outputs // group) * inputs
        products = [
            padded[first + channel, row * stride + dilation * i, column * stride + dilation * j]
            * int(weight[output, channel, i, j])
            for i, j, channel in itertools.product(range(high), range(wide), range(inputs))
        ]
        products += [0] * (len(products) % 2)
        total = sum(max(-32768, min(32767, a + b)) for a, b in zip(products[::2], products[1::2], strict=True))
        sums[output, row, column] = total - zero_point * weight[output].astype(np.int64).sum()
    return sums


@given(
    inputs=st.integers(2, 5),
    outputs=st.integers(1, 3),
    kernel=st.integers(1, 3),
    group=st.integers(1, 2),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 2),
    pad=st.integers(0, 1),
    zero_point=st.integers(0, 255),
    seed=st.integers(0, 99),
)
@settings(max_examples=25, deadline=None)
def test_sums_are_those_of_pairs_in_16_bits(
    inputs: int, outputs: int, kernel: int, group: int, stride: int, dilation: int, pad: int, zero_point: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    weight = random.integers(-127, 128, (outputs * group, inputs, kernel, kernel)).astype(np.int8)
    codes = random.integers(0, 256, (inputs * group, SIZE, SIZE))
    image = (codes - zero_point).astype(np.float32)[None]
    model = layer(weight, zero_point, group, stride, dilation, pad)
    scores, _ = emulate(model, "onnxruntime", image)
    sums = literal(codes, weight, zero_point, group, stride, dilation, pad) + np.arange(len(weight))[:, None, None]
    bytes_ = np.clip(np.rint(sums.astype(np.float32) * np.float32(2.0**-7)) + 128, 0, 255)
    np.testing.assert_array_equal(scores[0], (bytes_ - 128) * 128)


def test_sums_beyond_what_floats_hold_are_exact() -> None:
    weight = np.full((1, 700, 3, 3), 127, np.int8)
    weight[0, ::2] = -126
    codes = np.full((700, SIZE, SIZE), 255)
    codes[3] = 254
    model = layer(weight, 0, 1, 1, 1, 0)
    scores, rows = emulate(model, "onnxruntime", codes.astype(np.float32)[None], saturates=False)
    expected = literal(codes, weight, 0, 1, 1, 1, 0)  # of opposite signs, so that no pair saturates
    assert not rows and np.abs(weight.astype(np.int64)).sum() * 255 > 1 << 24
    np.testing.assert_array_equal(scores[0], (np.clip(np.rint(expected / 128) + 128, 0, 255) - 128) * 128)


def test_an_exact_cpu_gives_what_this_runtime_computes() -> None:
    """Where this CPU saturates itself, weights of 7 bits do not."""
    random = np.random.default_rng(0)
    weight = random.integers(-64, 65, (8, 5, 3, 3)).astype(np.int8)
    model = layer(weight, 10, 1, 1, 1, 1)
    image = random.normal(0, 60, (1, 5, SIZE, SIZE)).astype(np.float32)
    scores, rows = emulate(model, "onnxruntime", image)
    assert not rows
    np.testing.assert_array_equal(scores, open_session(model).run(None, {"input": image})[0])


def test_what_saturates_is_counted_by_layer() -> None:
    weight = np.full((1, 2, 1, 1), 127, np.int8)
    image = np.zeros((1, 2, SIZE, SIZE), np.float32)
    image[:, :, :2] = 255
    figures = foretell(layer(weight, 0, 1, 1, 1, 0), "onnxruntime", image, None)
    assert figures["saturating"] == [{"layer": "w", "weights": 1.0, "saturated": pytest.approx(2 / SIZE)}]
    assert set(figures["cpus"]) == {"x86 with VNNI or AMX", "x86 without VNNI", "Arm"}
    assert figures["cpus"]["Arm"]["sqnr_db_of_exact"] is None  # no difference


def test_an_operator_that_is_not_followed_is_named() -> None:
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["input", "w"], ["output"], "m")],
        "g",
        [helper.make_tensor_value_info("input", TensorProto.UINT8, [1, 2])],
        [helper.make_tensor_value_info("output", TensorProto.INT32, [1, 2])],
        [numpy_helper.from_array(np.ones((2, 2), np.int8), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    with pytest.raises(ModelError, match="MatMulInteger"):
        emulate(model, "onnxruntime", np.ones((1, 2), np.uint8))
