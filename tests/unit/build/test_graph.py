import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from mnasbench.build.gate import logits_of
from mnasbench.build.graph import constants, prepare, tensor_shapes
from mnasbench.build.quantize import int8_nodes
from mnasbench.errors import ModelError
from unit.build.nets import Net, random_images, small_mnasnet


def test_prepare_keeps_the_function_and_names_what_it_finds() -> None:
    model = small_mnasnet()
    prepared = prepare(model)
    images = random_images(8)
    np.testing.assert_allclose(logits_of(prepared, images), logits_of(model, images), atol=1e-5)
    names = [node.name for node in prepared.graph.node]
    assert names[:2] == ["conv_01", "relu_01"]
    assert names[-3:] == ["globalaveragepool_01", "flatten_01", "gemm_01"]
    assert "ReduceMean" not in {node.op_type for node in prepared.graph.node}
    assert tensor_shapes(prepared)["conv_01"] == (1, 8, 8, 8)
    assert prepare(model).SerializeToString() == prepared.SerializeToString()


@pytest.mark.parametrize("axes", ([-1, -2], [2, 3]))
@pytest.mark.parametrize("keeps", (0, 1))
def test_a_mean_over_height_and_width_becomes_a_pool(axes: list[int], keeps: int) -> None:
    model = _single("ReduceMean", axes, keeps)
    prepared = prepare(model)
    images = random_images(2)
    np.testing.assert_allclose(logits_of(prepared, images), logits_of(model, images), atol=1e-6)
    assert prepared.graph.node[0].op_type == "GlobalAveragePool"


def test_another_mean_stays() -> None:
    assert prepare(_single("ReduceMean", [1, 2], 1)).graph.node[0].op_type == "ReduceMean"


def test_batch_normalization_is_folded_and_a_missing_bias_added() -> None:
    random = np.random.default_rng(0)
    values = {
        "w": random.normal(size=(4, 3, 3, 3)),
        "scale": random.uniform(0.5, 2, 4),
        "shift": random.normal(size=4),
        "mean": random.normal(size=4),
        "var": random.uniform(0.5, 2, 4),
        "fc": random.normal(size=(4 * 14 * 14, 5)),
    }
    nodes = [
        helper.make_node("Conv", ["input", "w"], ["a"], kernel_shape=[3, 3]),
        helper.make_node("BatchNormalization", ["a", "scale", "shift", "mean", "var"], ["b"]),
        helper.make_node("Flatten", ["b"], ["c"]),
        helper.make_node("Gemm", ["c", "fc"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 16, 16])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 5])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    prepared = prepare(model)
    assert [node.op_type for node in prepared.graph.node] == ["Conv", "Flatten", "Gemm"]
    assert constants(prepared)["gemm_01.bias"].tolist() == [0.0] * 5
    images = random_images(4)
    np.testing.assert_allclose(logits_of(prepared, images), logits_of(model, images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("channels", "between", "convs"),
    [
        ((16, 8, 24), None, 1),
        ((16, 4, 32), None, 2),  # twice the multiply-adds: not worth it
        ((16, 8, 24), "Relu", 2),
        ((16, 8, 24), "Add", 2),  # somebody else reads what is between them
    ],
)
def test_two_pointwise_convolutions_become_one_where_that_pays(
    channels: tuple[int, int, int], between: str | None, convs: int
) -> None:
    net = Net(seed=0)
    first, middle, last = channels
    x = net.add("Relu", net.conv("input", 3, first, 3))
    inner = x = net.conv(x, first, middle, 1)
    if between == "Relu":
        x = net.add("Relu", x)
    x = net.conv(x, middle, last, 1)
    if between == "Add":
        x = net.add("Concat", x, inner, axis=1)
    model = net.model(x, last + (middle if between == "Add" else 0))
    prepared = prepare(model)
    assert [node.op_type for node in prepared.graph.node].count("Conv") == 1 + convs
    images = random_images(8)
    np.testing.assert_allclose(logits_of(prepared, images), logits_of(model, images), rtol=1e-5, atol=1e-5)


def test_two_outputs_are_no_classifier() -> None:
    model = small_mnasnet()
    model.graph.output.append(helper.make_tensor_value_info("t0", TensorProto.FLOAT, None))
    with pytest.raises(ModelError, match="2 outputs"):
        prepare(model)


def _single(operator: str, axes: list[int], keeps: int) -> object:
    node = helper.make_node(operator, ["input", "axes"], ["output"], keepdims=keeps)
    graph = helper.make_graph(
        [node],
        "net",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 16, 16])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array(axes, np.int64), "axes")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize("automatic", ["SAME_UPPER", "SAME_LOWER", "VALID", None])
def test_kernels_and_pads_stand_in_numbers(automatic: str | None) -> None:
    """As a graph may leave them to be inferred; the sequential pass reads them."""
    model = small_mnasnet()
    for node in model.graph.node:
        if node.op_type == "Conv":
            kept = [one for one in node.attribute if one.name not in ("kernel_shape", "pads")]
            del node.attribute[:]
            node.attribute.extend(kept)
            if automatic:
                node.attribute.append(helper.make_attribute("auto_pad", automatic))
    if automatic in (
        "VALID",
        None,
    ):  # the later depthwise layers would be left without pixels, and a sum without a pair
        del model.graph.node[3:]
        model.graph.output[0].CopyFrom(helper.make_tensor_value_info(model.graph.node[-1].output[0], 1, None))
    done = prepare(model)
    images = random_images(2)
    np.testing.assert_allclose(logits_of(done, images), logits_of(model, images), atol=1e-4)
    for node in done.graph.node:
        if node.op_type == "Conv":
            names = {one.name for one in node.attribute}
            assert "kernel_shape" in names and "auto_pad" not in names


@pytest.mark.parametrize(("kernel", "group", "left"), [(1, 1, 0), (1, 4, 0), (3, 1, 1)])
def test_a_batch_normalization_before_convolutions_is_folded_unless_they_pad(
    kernel: int, group: int, left: int
) -> None:
    net = Net(0)
    random = np.random.default_rng(0)
    joined = net.add("Concat", *(net.conv("input", 3, 4, 3) for _ in range(2)), axis=1)
    given = (random.uniform(0.5, 2, 8), random.normal(size=8), random.normal(size=8), random.uniform(0.5, 2, 8))
    normal = net.add("BatchNormalization", joined, *(net.constant(v.astype(np.float32)) for v in given), epsilon=1e-3)
    first, second = (net.conv(normal, 8, 16, kernel, group=group) for _ in range(2))
    model = net.model(net.add("Add", first, second), 16)
    prepared, images = prepare(model), random_images(4)
    assert sum(node.op_type == "BatchNormalization" for node in prepared.graph.node) == left
    np.testing.assert_allclose(logits_of(prepared, images), logits_of(model, images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("reader", "int8"), [("LayerNormalization", False), ("Relu", True)])
def test_a_sum_that_a_normalization_reads_is_none_of_int8(reader: str, int8: bool) -> None:
    net = Net(0)
    stream = net.add("Add", net.conv("input", 3, 8, 3), net.conv("input", 3, 8, 3))
    scale = [net.constant(np.ones(16, np.float32))] if reader == "LayerNormalization" else []
    moved = net.add(reader, net.add("Transpose", stream, perm=[0, 1, 3, 2]), *scale)
    joined = net.add("Add", net.conv(moved, 8, 8, 1), net.conv(stream, 8, 8, 1))
    nodes = int8_nodes(prepare(net.model(net.conv(joined, 8, 8, 1), 8)))
    assert ("add_01" in {node.name for node in nodes}) == int8 and "add_02" in {node.name for node in nodes}
