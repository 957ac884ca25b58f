"""Bounds that no value of an activation can leave, whatever the image, by the operator that makes it."""

from collections.abc import Mapping

import numpy as np
from onnx import ModelProto, NodeProto

from mnasbench.build.graph import attribute, constants

Bounds = tuple[float, float]
FREE: Bounds = (-np.inf, np.inf)
_BY_OPERATOR: dict[str, Bounds] = {
    "Relu": (0.0, np.inf),
    "Sigmoid": (0.0, 1.0),
    "HardSigmoid": (0.0, 1.0),
    "Softmax": (0.0, 1.0),
    "Tanh": (-1.0, 1.0),
    "HardSwish": (-0.375, np.inf),  # x (x + 3) / 6 at x = -1.5
}
# Each value of their output is one of their input's, a mean of such, or the zero of padding.
_WITHIN_INPUT = (
    "AveragePool", "Concat", "DepthToSpace", "Flatten", "GlobalAveragePool", "GlobalMaxPool", "Identity", "MaxPool",
    "ReduceMean", "Reshape", "Slice", "SpaceToDepth", "Split", "Squeeze", "Transpose", "Unsqueeze",
)  # fmt: skip


def bounds(model: ModelProto) -> dict[str, Bounds]:
    """The bounds of each tensor that has some, in its own unit; all hold zero, as every range does."""
    values = constants(model)
    limits: dict[str, Bounds] = {}
    for node in model.graph.node:
        made = _of(node, values, limits)
        if made != FREE:
            limits |= dict.fromkeys(node.output, (min(made[0], 0.0), max(made[1], 0.0)))
    return limits


def _of(node: NodeProto, values: Mapping[str, np.ndarray], limits: Mapping[str, Bounds]) -> Bounds:
    if node.op_type == "Clip":
        return clip_bounds(node, values)
    if node.op_type in _WITHIN_INPUT:
        read = node.input if node.op_type == "Concat" else node.input[:1]
        each = [limits.get(name, FREE) for name in read]
        return min(low for low, _ in each), max(high for _, high in each)
    return _BY_OPERATOR.get(node.op_type, FREE)


def clip_bounds(node: NodeProto, values: Mapping[str, np.ndarray]) -> Bounds:
    """What a Clip lets through (attributes before opset 11, inputs since); free where it is computed."""
    ends = []
    for position, (name, free) in enumerate(zip(("min", "max"), FREE, strict=True), start=1):
        given = attribute(node, name)
        if len(node.input) > position and node.input[position]:
            value = values.get(node.input[position])
            given = free if value is None else value.item()
        ends.append(free if given is None else float(given))  # type: ignore[arg-type]
    return ends[0], ends[1]
