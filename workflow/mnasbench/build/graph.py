"""The float graph that every later step works on: simplified, with readable names and known shapes."""

import math
from collections import Counter
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from mnasbench.build.shapes import settle_shapes
from mnasbench.errors import ModelError
from mnasbench.runtimes.onnxruntime import optimized

# Layers that carry weights; everything else follows their precision.
WEIGHTED = ("Conv", "Gemm")
# The first opset that has HardSwish.
_HARD_SWISH_OPSET = 14
# Two pointwise convolutions are merged up to so many times their multiply-adds. MNASNet's first two take a fifth more,
# and a pass over the tensor between less: int8 of mnasnet0_5 gained 3 %, of mnasnet1_0 nothing.
_MERGED_WORK = 1.25


def layers(model: ModelProto) -> list[NodeProto]:
    """The nodes that carry weights of their own: constant ones, of a plain 2-D Conv or a plain Gemm, and a bias."""
    held = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}
    return [node for node in model.graph.node if _is_layer(node, held)]


def _is_layer(node: NodeProto, ranks: Mapping[str, int]) -> bool:
    if node.op_type not in WEIGHTED or len(node.input) != 3 or not all(name in ranks for name in node.input[1:]):
        return False
    if node.op_type == "Conv":
        return ranks[node.input[1]] == 4
    plain = (("transA", 0), ("alpha", 1.0), ("beta", 1.0))
    return ranks[node.input[2]] == 1 and all(attribute(node, name, value) == value for name, value in plain)


def producers(model: ModelProto) -> dict[str, NodeProto]:
    """The node that makes each tensor."""
    return {output: node for node in model.graph.node for output in node.output}


def consumers(model: ModelProto) -> dict[str, list[NodeProto]]:
    """The nodes that read each tensor, in graph order; a tensor that nobody reads has no entry."""
    readers: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for name in dict.fromkeys(filter(None, node.input)):
            readers.setdefault(name, []).append(node)
    return readers


def constants(model: ModelProto) -> dict[str, np.ndarray]:
    """The graph's initializers by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def with_constants(model: ModelProto, values: Mapping[str, np.ndarray]) -> ModelProto:
    """A copy of ``model`` in which the named initializers hold ``values`` (shapes and dtypes as before)."""
    copy = ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        if tensor.name in values:
            dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
            tensor.CopyFrom(numpy_helper.from_array(values[tensor.name].astype(dtype), tensor.name))
    return copy


def attribute(node: NodeProto, name: str, default: object = None) -> object:
    """The value of a node's attribute, or ``default`` where it is not set."""
    return next((helper.get_attribute_value(item) for item in node.attribute if item.name == name), default)


def integers(node: NodeProto, name: str, default: list[int]) -> list[int]:
    """A node's integer attribute or list of integers, as a list."""
    value = attribute(node, name, default)
    return [value] if isinstance(value, int) else [int(item) for item in value]  # type: ignore[attr-defined]


def tensor_shapes(model: ModelProto) -> dict[str, tuple[int, ...]]:
    """Shape of each activation for one image (the batch counts as 1).

    Left out are tensors of unknown shape, of other element types than float32, and without a batch beside other sizes.
    """
    inferred = onnx.shape_inference.infer_shapes(model)
    shapes: dict[str, tuple[int, ...]] = {}
    for value in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output):
        kind = value.type.tensor_type
        dims = kind.shape.dim
        is_open = not all(dim.HasField("dim_value") for dim in dims[1:])
        if kind.elem_type == TensorProto.FLOAT and len(dims) > 1 and not is_open:
            shapes[value.name] = (1, *(dim.dim_value for dim in dims[1:]))
    return shapes


def macs_by_layer(model: ModelProto) -> dict[str, int]:
    """Multiply-adds of each layer for one image."""
    shapes = tensor_shapes(model)
    sizes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    return {n.name: math.prod(sizes[n.input[1]]) * math.prod(shapes[n.output[0]][2:]) for n in layers(model)}


def prepare(model: ModelProto) -> ModelProto:
    """The same function as a graph that quantizes well.

    Constants folded and BatchNorm folded into Conv (ONNX Runtime's basic optimizations, which stay within
    standard ONNX), shapes and sizes settled (:mod:`mnasbench.build.shapes`), HardSwish, which those optimizations take
    apart, whole again, ReduceMean over height and width as GlobalAveragePool (it has an int8 kernel, ReduceMean has
    none), each weight owned by one node, two pointwise convolutions with nothing between them as one where that
    takes hardly more multiply-adds, a BatchNorm that stands before convolutions without padding folded into them,
    nodes and their outputs named by operator and position (``conv_07``), so that
    names do not depend on the exporter.

    Raises ModelError where the model has not exactly one image input and one output.
    """
    if len(model.graph.input) != 1 or len(model.graph.output) != 1:
        raise ModelError(
            f"the graph has {len(model.graph.input)} inputs and {len(model.graph.output)} outputs; "
            "expected one image input and one output of logits"
        )
    simple = settle_shapes(optimized(model, "basic"))
    _whole_hard_swish(simple)
    _pool_instead_of_mean(simple)
    _own_weights(simple)
    _say_kernels(simple)
    _fold_into_next(simple)
    _merge_pointwise(simple)
    _rename(simple)
    simple.graph.name = "classifier"
    return onnx.shape_inference.infer_shapes(simple)


def _whole_hard_swish(model: ModelProto) -> None:
    """x * HardSigmoid(x) as the one operator: runtimes that know it compute it behind a convolution at no cost."""
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    made_by, read_by = producers(model), consumers(model)
    for node in list(model.graph.node) if opset >= _HARD_SWISH_OPSET else ():
        if node.op_type != "Mul":
            continue
        for gate, value in (node.input, node.input[::-1]):
            maker = made_by.get(gate)
            if maker is None or maker.op_type != "HardSigmoid" or maker.input[0] != value:
                continue
            slope, middle = attribute(maker, "alpha", 0.2), attribute(maker, "beta", 0.5)
            if np.allclose(np.array((slope, middle), float), (1 / 6, 0.5)) and len(read_by[gate]) == 1:
                whole = helper.make_node("HardSwish", [value], list(node.output), node.name)
                node.CopyFrom(whole)
                model.graph.node.remove(maker)
                break


def _pool_instead_of_mean(model: ModelProto) -> None:
    values = constants(model)
    ranks = {name: len(shape) for name, shape in tensor_shapes(model).items()}
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        if node.op_type == "ReduceMean" and ranks.get(node.input[0]) == 4 and _axes(node, values) == [2, 3]:
            keeps_dims = bool(attribute(node, "keepdims", 1))
            pooled = node.output[0] if keeps_dims else f"{node.output[0]}_pooled"
            model.graph.node.append(helper.make_node("GlobalAveragePool", [node.input[0]], [pooled]))
            if not keeps_dims:
                model.graph.node.append(helper.make_node("Flatten", [pooled], [node.output[0]], axis=1))
        else:
            model.graph.node.append(node)
    drop_unused_constants(model)


def _say_kernels(model: ModelProto) -> None:
    """Give each convolution its kernel_shape and pads in numbers, which a graph may leave to be inferred."""
    shapes = tensor_shapes(model)
    sides = {tensor.name: list(tensor.dims)[2:] for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != "Conv" or node.input[1] not in sides:
            continue
        kernel = sides[node.input[1]]
        said = {"kernel_shape": kernel}
        automatic = attribute(node, "auto_pad", b"NOTSET")
        if automatic in (b"SAME_UPPER", b"SAME_LOWER"):
            if node.input[0] not in shapes:
                raise ModelError(f"{node.name}: pads by {automatic!r} an image of unknown size; export it with numbers")
            ones = [1] * len(kernel)
            steps = zip(
                shapes[node.input[0]][2:],
                kernel,
                integers(node, "strides", ones),
                integers(node, "dilations", ones),
                strict=True,
            )
            whole = [
                max(0, (-(-side // stride) - 1) * stride + (size - 1) * dilation + 1 - side)
                for side, size, stride, dilation in steps
            ]
            less, more = [pad // 2 for pad in whole], [pad - pad // 2 for pad in whole]
            said["pads"] = [*less, *more] if automatic == b"SAME_UPPER" else [*more, *less]
        kept = [one for one in node.attribute if one.name not in {*said, "auto_pad"}]
        del node.attribute[:]
        node.attribute.extend([*kept, *(helper.make_attribute(name, value) for name, value in said.items())])


def _axes(node: NodeProto, values: Mapping[str, np.ndarray]) -> list[int]:
    """ReduceMean's axes (an input since opset 18, an attribute before), counted from the front of four."""
    given = attribute(node, "axes")
    if given is None and len(node.input) > 1 and node.input[1] in values:
        given = values[node.input[1]].tolist()
    return sorted(int(axis) % 4 for axis in given) if isinstance(given, list) else []


def drop_unused_constants(model: ModelProto) -> None:
    """Remove initializers that no node reads; ONNX Runtime would warn of each."""
    used = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def _own_weights(model: ModelProto) -> None:
    """Give each weighted node its own weights and bias (zeros where it had none): later steps change them."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type not in WEIGHTED:
            continue
        for position, name in enumerate(node.input):
            if position and name in tensors:
                own = TensorProto()
                own.CopyFrom(tensors[name])
                own.name = f"{node.output[0]}::{position}"
                node.input[position] = own.name
                model.graph.initializer.append(own)
        if len(node.input) == 2 and node.input[1] in {tensor.name for tensor in model.graph.initializer}:
            dims = model.graph.initializer[-1].dims
            outputs = dims[0] if node.op_type == "Conv" or attribute(node, "transB", 0) else dims[1]
            zeros = numpy_helper.from_array(np.zeros(outputs, np.float32), f"{node.output[0]}::2")
            model.graph.initializer.append(zeros)
            node.input.append(zeros.name)
    drop_unused_constants(model)


def _fold_into_next(model: ModelProto) -> None:
    """Fold a BatchNorm into the convolutions that read it, where all pad nothing: zeros beside it would be shifted."""
    values, readers = constants(model), consumers(model)
    outputs = {value.name for value in model.graph.output}
    changed: dict[str, np.ndarray] = {}
    for node in list(model.graph.node):
        read = readers.get(node.output[0], [])
        is_foldable = node.op_type == "BatchNormalization" and node.output[0] not in outputs and read
        if not is_foldable or not all(name in values for name in node.input[1:]):
            continue
        if not all(_is_unpadded(reader, values) for reader in read):
            continue
        scale, offset, mean, variance = (values[name].astype(np.float64) for name in node.input[1:])
        factor = scale / np.sqrt(variance + float(attribute(node, "epsilon", 1e-5)))  # type: ignore[arg-type]
        shift = offset - mean * factor
        for reader in read:
            weight, bias = (changed.get(name, values[name]).astype(np.float64) for name in reader.input[1:])
            # Which input channels each output channel reads.
            groups = integers(reader, "group", [1])[0]
            inputs = np.arange(groups * weight.shape[1]).reshape(groups, -1).repeat(len(weight) // groups, axis=0)
            changed[reader.input[1]] = weight * factor[inputs][:, :, None, None]
            changed[reader.input[2]] = bias + (weight.sum(axis=(2, 3)) * shift[inputs]).sum(axis=1)
            reader.input[0] = node.input[0]
        model.graph.node.remove(node)
    for tensor in model.graph.initializer:
        if tensor.name in changed:
            tensor.CopyFrom(numpy_helper.from_array(changed[tensor.name].astype(np.float32), tensor.name))
    drop_unused_constants(model)


def _is_unpadded(node: NodeProto, values: Mapping[str, np.ndarray]) -> bool:
    """Whether a node is a 2-D convolution with constant weights and bias that sees no zeros beside its input."""
    return (
        node.op_type == "Conv"
        and len(node.input) == 3
        and all(name in values for name in node.input[1:])
        and values[node.input[1]].ndim == 4
        and attribute(node, "auto_pad", b"NOTSET") in (b"NOTSET", b"VALID")
        and not any(integers(node, "pads", [0]))
    )


def _merge_pointwise(model: ModelProto) -> None:
    """Make one convolution of two 1 x 1 ones in a row: its weights are their product, taken in double precision."""
    values, readers = constants(model), consumers(model)
    outputs = {value.name for value in model.graph.output}
    for first in list(model.graph.node):
        second = readers.get(first.output[0], [first])[0]
        if first.output[0] in outputs or len(readers.get(first.output[0], ())) != 1:
            continue
        if not (_is_pointwise(first, values) and _is_pointwise(second, values)):
            continue
        inner, outer = (values[node.input[1]][:, :, 0, 0].astype(np.float64) for node in (first, second))
        if outer.shape[0] * inner.shape[1] > _MERGED_WORK * (inner.size + outer.size):
            continue
        merged = {
            second.input[1]: (outer @ inner)[:, :, None, None],
            second.input[2]: outer @ values[first.input[2]].astype(np.float64) + values[second.input[2]],
        }
        for tensor in model.graph.initializer:
            if tensor.name in merged:
                values[tensor.name] = merged[tensor.name].astype(np.float32)
                tensor.CopyFrom(numpy_helper.from_array(values[tensor.name], tensor.name))
        second.input[0] = first.input[0]
        readers[first.input[0]] = [second if node is first else node for node in readers[first.input[0]]]
        model.graph.node.remove(first)
    drop_unused_constants(model)


def _is_pointwise(node: NodeProto, values: Mapping[str, np.ndarray]) -> bool:
    """Whether a node is a convolution of single pixels, all channels with all, with constant weights and bias."""
    return (
        node.op_type == "Conv"
        and len(node.input) == 3
        and all(name in values for name in node.input[1:])
        and values[node.input[1]].shape[2:] == (1, 1)
        and set(integers(node, "strides", [1])) == {1}
        and set(integers(node, "pads", [0])) == {0}
        and integers(node, "group", [1]) == [1]
    )


def _rename(model: ModelProto) -> None:
    counts: Counter[str] = Counter()
    kept = {value.name for value in (*model.graph.input, *model.graph.output)}
    new: dict[str, str] = {}
    for node in model.graph.node:
        kind = node.op_type.lower()
        counts[kind] += 1
        node.name = f"{kind}_{counts[kind]:02d}"
        for position, output in enumerate(node.output):
            if output and output not in kept:
                new[output] = node.name if len(node.output) == 1 else f"{node.name}.{position}"
        if node.op_type in WEIGHTED:
            new |= dict(zip(node.input[1:], (f"{node.name}.weight", f"{node.name}.bias"), strict=False))
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [new.get(name, name) for name in names]
    for named in (*model.graph.initializer, *model.graph.value_info):
        named.name = new.get(named.name, named.name)
