"""Shapes that inference leaves open, layers in one form, and what of a graph is quantized."""

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper

from mnasbench.build.compiler import Recipe, compile_model
from mnasbench.build.equalize import equalize
from mnasbench.build.gate import logits_of, sqnr_db
from mnasbench.build.graph import constants, prepare, tensor_shapes
from mnasbench.build.observer import Moments
from mnasbench.build.plain_layers import with_plain_layers
from mnasbench.build.quantize import int8_nodes, quantized_tensors
from unit.build.nets import SIZE, Net, random_images, small_mnasnet

IMAGES = random_images(16)


def finished(net: Net, output: str, shape: list[str | int]) -> ModelProto:
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])
    graph = helper.make_graph(
        [*net.nodes, helper.make_node("Identity", [output], ["output"])],
        "net",
        [image],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, shape)],
        net.weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def tokens(softmax: bool = False) -> ModelProto:
    """A patch embedding, a class token for each image, two products with constant matrices; shapes by arithmetic."""
    net = Net(0)
    x = net.conv("input", 3, 8, 3, stride=4)
    batch = net.add("Gather", net.add("Shape", x), net.constant(np.array([0])))
    rest = net.constant(np.array([8, 16]))
    x = net.add("Reshape", x, net.add("Concat", batch, rest, axis=0))
    x = net.add("Transpose", x, perm=[0, 2, 1])
    size = net.add("Concat", batch, net.constant(np.array([1, 8])), axis=0)
    token = net.add("Expand", net.constant(np.ones((1, 1, 8), np.float32)), size)
    x = net.add("Concat", token, x, axis=1)
    for ins, outs in ((8, 12), (12, 5)):
        matrix = net.constant(net.random.normal(0, 0.4, (ins, outs)).astype(np.float32))
        bias = net.constant(net.random.normal(0, 0.1, outs).astype(np.float32))
        x = net.add("Add", net.add("MatMul", x, matrix), bias)
    x = net.add("ReduceMean", x, net.constant(np.array([1])), keepdims=0)
    return finished(net, net.add("Softmax", x, axis=-1) if softmax else x, ["batch", 5])


def last_conv() -> ModelProto:
    net = Net(1)
    x = net.add("GlobalAveragePool", net.add("Relu", net.conv("input", 3, 16, 3, stride=2)))
    return finished(net, net.add("Flatten", net.conv(x, 16, 6, 1)), ["batch", 6])


def automatic_padding() -> ModelProto:
    net = Net(2)
    x = net.conv("input", 3, 16, 3, stride=2)
    del net.nodes[-1].attribute[:]  # type: ignore[attr-defined]
    automatic = {"auto_pad": "SAME_UPPER", "strides": [2, 2]}
    net.nodes[-1].attribute.extend(  # type: ignore[attr-defined]
        helper.make_attribute(name, value) for name, value in automatic.items()
    )
    return net.model(net.add("Relu", x), 16)


def shuffle() -> ModelProto:
    net = Net(3)
    x = net.add("Relu", net.conv("input", 3, 16, 3, stride=2))
    for shape in ([0, 2, 8, 8, 8], None, [0, 16, 8, 8]):
        x = (
            net.add("Transpose", x, perm=[0, 2, 1, 3, 4])
            if shape is None
            else net.add("Reshape", x, net.constant(np.array(shape)))
        )
    return net.model(net.add("Relu", net.conv(x, 16, 16, 1)), 16)


@pytest.mark.parametrize("net", [tokens, last_conv, automatic_padding, shuffle])
def test_the_function_stays_and_int8_is_near_it(net) -> None:  # type: ignore[no-untyped-def]
    model = net()
    reference = logits_of(model, IMAGES)
    plain = with_plain_layers(prepare(model))
    np.testing.assert_allclose(logits_of(plain, IMAGES), reference, atol=1e-5)
    made = compile_model(model, "int8-max", lambda: iter([IMAGES]), Recipe())
    assert sqnr_db(reference, logits_of(made.model, IMAGES)) > 25
    assert made.quantization is not None and made.quantization["operators"].get("Conv", 0) == 0


def test_shapes_are_settled_and_products_with_constant_matrices_are_int8() -> None:
    plain = with_plain_layers(prepare(tokens()))
    kinds = [node.op_type for node in plain.graph.node]
    assert kinds.count("Gemm") == 2 and "MatMul" not in kinds
    assert kinds.count("Shape") == 1  # of the class token, which has to know how many images there are
    shapes = tensor_shapes(plain)
    assert all(name in shapes for name in quantized_tensors(plain))


def test_a_softmax_at_the_end_stays_there_and_errors_are_judged_before_it() -> None:
    model = tokens(softmax=True)
    made = compile_model(model, "int8-max", lambda: iter([IMAGES]), Recipe())
    np.testing.assert_allclose(logits_of(made.model, IMAGES).sum(axis=1), 1, atol=1e-5)
    assert made.quantization is not None and made.quantization["kept"]["sqnr_db"] > 25


def test_nothing_is_quantized_within_a_shuffle_or_between_a_conv_and_its_gate() -> None:
    plain = with_plain_layers(prepare(shuffle()))
    assert not {"Reshape", "Transpose"} & {node.op_type for node in int8_nodes(plain)}
    made = {name: node.op_type for node in plain.graph.node for name in node.output}
    assert [made.get(name) for name in quantized_tensors(plain)].count("Transpose") == 0
    for activation in ("HardSwish", "SiLU"):
        gated = prepare(small_mnasnet(activation=activation))
        assert ("HardSwish" in {node.op_type for node in gated.graph.node}) == (activation == "HardSwish")
        apart, fused = (quantized_tensors(gated, gates_are_fused=fused) for fused in (False, True))
        assert "conv_01" in apart and "conv_01" not in fused and set(fused) < set(apart)


def test_equalization_leaves_integers_alone() -> None:
    model = prepare(small_mnasnet())
    largest = helper.make_tensor("largest", TensorProto.INT64, [1], [np.iinfo(np.int64).max])
    model.graph.initializer.append(largest)
    shapes = tensor_shapes(model)
    moments = {name: Moments(shapes[name][1]) for name in quantized_tensors(model)}
    for moment in moments.values():
        moment.add(np.ones((1, len(moment.low), 1), np.float32))
    assert constants(equalize(model, moments).model)["largest"] == np.iinfo(np.int64).max
