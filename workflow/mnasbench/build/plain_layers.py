"""Layers in the one form that the quantizer works on: a Conv with its padding in numbers, or a Gemm.

Every change computes the same function. What has no such form stays as it is, in float.
"""

from collections.abc import Mapping

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from mnasbench.build.graph import (
    attribute,
    constants,
    consumers,
    drop_unused_constants,
    integers,
    layers,
    producers,
    tensor_shapes,
)

Shapes = Mapping[str, tuple[int, ...]]


def with_plain_layers(model: ModelProto) -> ModelProto:
    """A copy of a prepared graph: automatic padding as numbers, products with constant matrices as Gemm.

    So is a pointwise Conv on one pixel, a classifier as many mobile nets write it: behind it the logits stay float.
    """
    copy = ModelProto()
    copy.CopyFrom(model)
    shapes = tensor_shapes(copy)
    for node in copy.graph.node:
        if node.op_type == "Conv":
            _state_geometry(node, constants(copy), shapes)
    _gemm_of_products(copy, shapes)
    _gemm_of_pixels(copy, shapes)
    drop_unused_constants(copy)
    return copy


def without_softmax(model: ModelProto) -> tuple[ModelProto, NodeProto | None]:
    """The graph up to its logits, and the Softmax that stood behind them; the graph itself where none does.

    Errors are judged on logits: of probabilities, the largest alone would count.
    """
    output = model.graph.output[0].name
    last = producers(model).get(output)
    if last is None or last.op_type != "Softmax":
        return model, None
    copy = ModelProto()
    copy.CopyFrom(model)
    softmax = producers(copy)[output]
    logits = softmax.input[0]
    copy.graph.node.remove(softmax)
    copy.graph.output[0].name = logits
    kept = [value for value in copy.graph.value_info if value.name != logits]
    del copy.graph.value_info[:]
    copy.graph.value_info.extend(kept)
    return copy, last


def with_softmax(model: ModelProto, softmax: NodeProto) -> ModelProto:
    """The graph with the Softmax that :func:`without_softmax` took off."""
    copy = ModelProto()
    copy.CopyFrom(model)
    copy.graph.node.append(softmax)
    copy.graph.output[0].name = softmax.output[0]
    return copy


def _state_geometry(node: NodeProto, values: Mapping[str, np.ndarray], shapes: Shapes) -> None:
    """Give a Conv ``kernel_shape`` and ``pads`` where they are left to be worked out."""
    if node.input[1] not in values or node.input[0] not in shapes or values[node.input[1]].ndim != 4:
        return
    kernel = list(values[node.input[1]].shape[2:])
    automatic = attribute(node, "auto_pad", b"NOTSET")
    stated = {"kernel_shape": kernel}
    if automatic in (b"SAME_UPPER", b"SAME_LOWER"):
        strides, dilations = integers(node, "strides", [1, 1]), integers(node, "dilations", [1, 1])
        before, after = [], []
        for side, size, stride, dilation in zip(shapes[node.input[0]][2:], kernel, strides, dilations, strict=True):
            total = max(0, (-(-side // stride) - 1) * stride + (size - 1) * dilation + 1 - side)
            small, large = total // 2, total - total // 2
            before.append(small if automatic == b"SAME_UPPER" else large)
            after.append(total - before[-1])
        stated["pads"] = before + after
    elif automatic == b"VALID":
        stated["pads"] = [0] * 4
    if automatic != b"NOTSET":
        stated["auto_pad"] = "NOTSET"  # type: ignore[assignment]
    kept = [item for item in node.attribute if item.name not in stated]
    del node.attribute[:]
    node.attribute.extend([*kept, *(helper.make_attribute(name, value) for name, value in stated.items())])


def _gemm_of_products(model: ModelProto, shapes: Shapes) -> None:
    """Make a Gemm of each product with a constant matrix and of the constant that is added to it alone.

    Where the activation has more than two axes a Reshape before and one behind fold and unfold them; both are free.
    """
    values, readers = constants(model), consumers(model)
    flattened: dict[str, str] = {}
    nodes: list[NodeProto] = []
    dropped: set[str] = set()
    for node in model.graph.node:
        matrix = values.get(node.input[1]) if node.op_type == "MatMul" else None
        source = node.input[0]
        if matrix is None or matrix.ndim != 2 or matrix.dtype != np.float32 or source not in shapes:
            if node.name not in dropped:
                nodes.append(node)
            continue
        output, bias = node.output[0], np.zeros(matrix.shape[1], np.float32)
        read = readers.get(output, [])
        if len(read) == 1 and read[0].op_type == "Add":
            added = next((values[name] for name in read[0].input if name in values), None)
            if added is not None and added.size == matrix.shape[1] == added.shape[-1]:
                bias, output = added.ravel(), read[0].output[0]
                dropped.add(read[0].name)
        name = node.name.replace("matmul", "gemm_of_matmul")
        folded = source
        shape = shapes[source]
        if len(shape) > 2:
            if source not in flattened:
                flattened[source] = f"{source}_rows"
                rows = _hold(model, f"{source}_rows.shape", np.array([-1, shape[-1]], np.int64))
                nodes.append(helper.make_node("Reshape", [source, rows], [flattened[source]], f"{source}_rows"))
                _state(model, flattened[source], [f"{source}_rows_0", shape[-1]])
            folded = flattened[source]
        weight = _hold(model, f"{name}.weight", np.ascontiguousarray(matrix.T))
        product = output if len(shape) == 2 else name
        inputs = [folded, weight, _hold(model, f"{name}.bias", bias)]
        nodes.append(helper.make_node("Gemm", inputs, [product], name, transB=1))
        if len(shape) > 2:
            _state(model, name, [f"{name}_0", matrix.shape[1]])
            whole = _hold(model, f"{name}.shape", np.array([-1, *shape[1:-1], matrix.shape[1]], np.int64))
            nodes.append(helper.make_node("Reshape", [product, whole], [output], f"{name}_whole"))
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _gemm_of_pixels(model: ModelProto, shapes: Shapes) -> None:
    """Make a Gemm of the last layer where it is a pointwise Conv of one pixel with nothing but reshapes behind it."""
    made_by = producers(model)
    name, nodes = model.graph.output[0].name, list(model.graph.node)
    behind = []
    while (node := made_by.get(name)) is not None and node.op_type in ("Flatten", "Reshape", "Squeeze"):
        behind.append(node)
        name = node.input[0]
    if node is None or node.op_type != "Conv" or node.name not in {layer.name for layer in layers(model)}:
        return
    values = constants(model)
    weight = values[node.input[1]]
    is_plain = integers(node, "group", [1]) == [1] and not any(integers(node, "pads", [0]))
    is_only_read = len(consumers(model).get(node.output[0], [])) <= 1
    if not (is_plain and is_only_read and weight.shape[2:] == (1, 1) and shapes.get(node.input[0], ())[2:] == (1, 1)):
        return
    flat = f"{node.name}_pixel"
    weights = _hold(model, f"{node.name}_matrix", np.ascontiguousarray(weight[:, :, 0, 0]))
    last = model.graph.output[0]
    squeezed = shapes.get(last.name, ())[2:] == ()
    product = last.name if squeezed else f"{node.name}_product"
    new = [
        helper.make_node("Flatten", [node.input[0]], [flat], flat, axis=1),
        helper.make_node("Gemm", [flat, weights, node.input[2]], [product], node.name, transB=1),
    ]
    _state(model, flat, ["batch", weight.shape[1]])
    if not squeezed:
        shape = _hold(model, f"{node.name}_shape", np.array([-1, *shapes[last.name][1:]], np.int64))
        _state(model, product, ["batch", weight.shape[0]])
        new.append(helper.make_node("Reshape", [product, shape], [last.name], f"{node.name}_whole"))
    place = nodes.index(node)
    gone = [node, *behind]
    kept = [*nodes[:place], *new, *nodes[place + 1 :]]
    del model.graph.node[:]
    model.graph.node.extend(item for item in kept if item not in gone)


def _hold(model: ModelProto, name: str, value: np.ndarray) -> str:
    model.graph.initializer.append(numpy_helper.from_array(value, name))
    return name


def _state(model: ModelProto, name: str, shape: list[int | str]) -> None:
    model.graph.value_info.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
