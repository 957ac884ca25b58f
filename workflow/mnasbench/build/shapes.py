"""Shapes and sizes that inference leaves open, taken from runs of the graph itself.

An exporter leaves a free batch as arithmetic on shapes (Shape, Gather, Concat, Reshape), behind which inference knows
no shape any more. What such arithmetic gives, two runs with different numbers of images tell.
"""

from collections.abc import Mapping

import numpy as np
from onnx import ModelProto, TensorProto, ValueInfoProto, helper, numpy_helper

from mnasbench.errors import ModelError, one_line
from mnasbench.runtimes.onnxruntime import open_session

# Two numbers of images; what differs between the runs depends on the batch.
_RUNS = (2, 3)


def settle_shapes(model: ModelProto) -> ModelProto:
    """A copy in which every tensor's shape is stated and what is computed from shapes alone is a constant.

    Sizes that follow the batch stay free. Raises ModelError where the graph cannot be run.
    """
    copy = ModelProto()
    copy.CopyFrom(model)
    first, second = (_run(copy, images) for images in _RUNS)
    fixed = _computed_from_shapes(copy)
    same = {
        name: values
        for name, values in first.items()
        if name in fixed and values.shape == second[name].shape and np.array_equal(values, second[name])
    }
    _make_constant(copy, same)
    _free_batch_in_reshapes(copy, first, second)
    _drop_unread(copy)
    del copy.graph.value_info[:]
    left = {name for node in copy.graph.node for name in node.output}
    output = copy.graph.output[0].name
    copy.graph.value_info.extend(
        _stated(name, values, second[name]) for name, values in first.items() if name in left and name != output
    )
    return copy


def _run(model: ModelProto, images: int) -> dict[str, np.ndarray]:
    """Every tensor that a node makes, of ``images`` images of seeded noise."""
    copy = ModelProto()
    copy.CopyFrom(model)
    entry = copy.graph.input[0]
    sides = [dim.dim_value for dim in entry.type.tensor_type.shape.dim[1:]]
    names = [name for node in copy.graph.node for name in node.output if name]
    present = {value.name for value in copy.graph.output}
    copy.graph.output.extend(ValueInfoProto(name=name) for name in names if name not in present)
    noise = np.random.default_rng(0).normal(size=(images, *sides)).astype(np.float32)
    session = open_session(copy, level="none")
    try:
        made = zip(names, session.run(names, {entry.name: noise}), strict=True)
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        raise ModelError(f"the graph cannot be run on {images} images ({one_line(error)}); export it again") from error
    return {name: values for name, values in made if isinstance(values, np.ndarray)}  # a sequence has no shape


def _computed_from_shapes(model: ModelProto) -> set[str]:
    """Integer tensors that follow from shapes and constants alone, whatever the images show."""
    settled = {tensor.name for tensor in model.graph.initializer}
    fixed: set[str] = set()
    for node in model.graph.node:
        if node.op_type in ("Shape", "Size") or all(name in settled for name in node.input if name):
            settled |= set(node.output)
            fixed |= set(node.output)
    return fixed


def _make_constant(model: ModelProto, values: Mapping[str, np.ndarray]) -> None:
    kept = [node for node in model.graph.node if not all(name in values for name in node.output if name)]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in values.items())


def _free_batch_in_reshapes(
    model: ModelProto, first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]
) -> None:
    """Give a Reshape whose target differs between the runs in one place alone a constant with -1 there."""
    for node in model.graph.node:
        if node.op_type != "Reshape" or node.input[1] not in first:
            continue
        target, other = first[node.input[1]], second[node.input[1]]
        differs = target != other
        if differs.sum() == 1 and (target > 0).all():
            name = f"{node.output[0]}::shape"
            free = np.where(differs, -1, target).astype(np.int64)
            model.graph.initializer.append(numpy_helper.from_array(free, name))
            node.input[1] = name


def _drop_unread(model: ModelProto) -> None:
    """Remove nodes and constants of which nothing is read."""
    used = {value.name for value in model.graph.output}
    kept = []
    for node in reversed(model.graph.node):
        if used & set(node.output):
            kept.append(node)
            used |= set(node.input)
    del model.graph.node[:]
    model.graph.node.extend(reversed(kept))
    held = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(held)


def _stated(name: str, first: np.ndarray, second: np.ndarray) -> ValueInfoProto:
    """The tensor's type and shape, sizes that follow the batch by a name."""
    sizes = [
        size if size == other else "batch" if (size, other) == _RUNS else f"{name}_{axis}"
        for axis, (size, other) in enumerate(zip(first.shape, second.shape, strict=True))
    ]
    return helper.make_tensor_value_info(name, _element_type(first), sizes)


def _element_type(values: np.ndarray) -> int:
    return TensorProto.STRING if values.dtype == object else helper.np_dtype_to_tensor_dtype(values.dtype)
