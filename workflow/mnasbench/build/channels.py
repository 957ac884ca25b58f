"""Which values of a graph's activations a factor may be given to, together or apart, with the same logits.

Every value of every activation belongs to a *scale*, a number s: the value may be multiplied by s if the constants
that make it and those of the layers that read it make up for that. An operator that computes with two
values makes their scales one; one that moves values about (Split, Concat, Reshape, Transpose) takes the scales along;
one that no factor passes (Clip, Sigmoid, Softmax, a mean and variance) fixes its input's at 1. What is left are the
scales that are free. For linear algebra they are the diagonal symmetries of the net.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper

from mnasbench.build.graph import attribute, constants, integers, layers

# The scale that is 1 for good.
FIXED = 0

_ACTS_BY_VALUE = frozenset({"Identity", "Dropout", "Relu", "LeakyRelu", "PRelu"})
# A factor passes these only where it is positive.
_POSITIVE = frozenset({"Relu", "LeakyRelu", "PRelu", "MaxPool", "GlobalMaxPool", "ReduceMax"})
_POOLS = frozenset({"AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool"})
_REDUCES = frozenset({"ReduceMax", "ReduceMean", "ReduceSum"})
_MOVES = frozenset(
    {"Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "Pad", "Reshape", "Slice", "SpaceToDepth", "Split"}
    | {"Squeeze", "Tile", "Transpose", "Unsqueeze"}
)


@dataclass(frozen=True)
class Edit:
    """The constant at ``node.input[position]`` times the scales ``times`` and over the scales ``over``.

    Both broadcast against the constant.
    """

    node: str
    position: int
    times: np.ndarray
    over: np.ndarray


@dataclass(frozen=True)
class Channels:
    """The scales of each activation and what to do to the constants when they change.

    ``of``: tensor -> scales, integers of the tensor's rank for one image; an axis along which they do not differ has
    size 1. ``count`` of scales, the fixed one among them. ``positive`` (count,) bool: scales that must not be
    negative. ``edits``: of the constants.
    """

    of: Mapping[str, np.ndarray]
    count: int
    positive: np.ndarray
    edits: Sequence[Edit]

    def along(self, name: str, size: int, axis: int = 1) -> np.ndarray | None:
        """Scales (size,) of a tensor's channels; None where they differ along another axis or are not known."""
        scales = self.of.get(name)
        if (
            scales is None
            or scales.ndim <= axis
            or any(length != 1 for place, length in enumerate(scales.shape) if place != axis)
        ):
            return None
        return np.broadcast_to(scales.ravel(), size)


def channels_of(model: ModelProto, fixed: Sequence[str] = ()) -> Channels:
    """The scales of a graph of float layers; those of the tensors named in ``fixed``, image and logits are 1."""
    return _Walk(model).run(fixed)


@dataclass
class _Walk:
    """One pass over the graph in its order; scales that become one are united."""

    model: ModelProto
    parent: list[int] = field(default_factory=lambda: [FIXED])
    positive: list[np.ndarray] = field(default_factory=list)
    edits: list[Edit] = field(default_factory=list)
    of: dict[str, np.ndarray] = field(default_factory=dict)

    def run(self, fixed: Sequence[str]) -> Channels:
        self.values = constants(self.model)
        self.shapes = _shapes_of_one_image(self.model)
        self.layers = {node.name for node in layers(self.model)}
        self.opset = next(entry.version for entry in self.model.opset_import if entry.domain in ("", "ai.onnx"))
        for value in self.model.graph.input:
            self._give_fixed(value.name)
        for node in self.model.graph.node:
            if not all(name in self.values or name in self.of for name in node.input if name):
                self._fix(node)
            else:
                self._rule(node)(node)
        for name in (*(value.name for value in self.model.graph.output), *fixed):
            if name in self.of:
                self._unite(self.of[name], np.array(FIXED))
        roots = np.array([self._root(scale) for scale in range(len(self.parent))])
        count = len(roots)
        positive = np.zeros(count, bool)
        for scales in self.positive:
            positive[roots[scales]] = True
        edits = [Edit(one.node, one.position, roots[one.times], roots[one.over]) for one in self.edits]
        of = {name: _compressed(roots[scales]) for name, scales in self.of.items()}
        return Channels(of, count, positive, edits)

    def _rule(self, node: NodeProto) -> Callable[[NodeProto], None]:
        operator = node.op_type
        if node.domain not in ("", "ai.onnx"):
            return self._fix
        if node.name in self.layers:
            return self._conv if operator == "Conv" else self._gemm
        if operator in _ACTS_BY_VALUE:
            return self._by_value
        if operator in _MOVES:
            return self._move
        if operator in _POOLS:
            return self._pool
        if operator in _REDUCES:
            return self._reduce
        rules = {
            "Add": self._add, "Sub": self._add, "Sum": self._add, "Mul": self._multiply, "Div": self._multiply,
            "LayerNormalization": self._normalize, "InstanceNormalization": self._normalize,
            "GroupNormalization": self._normalize,  "MatMul": self._matmul,
            "Resize": self._resize,
        }  # fmt: skip
        return rules.get(operator, self._fix)

    # Scales.

    def _fresh(self, *shape: int) -> np.ndarray:
        first, count = len(self.parent), int(np.prod(shape))
        self.parent += range(first, first + count)
        return np.arange(first, first + count).reshape(shape)

    def _root(self, scale: int) -> int:
        while self.parent[scale] != scale:
            self.parent[scale] = self.parent[self.parent[scale]]
            scale = self.parent[scale]
        return scale

    def _unite(self, some: np.ndarray, others: np.ndarray) -> None:
        pairs = np.stack([one.ravel() for one in np.broadcast_arrays(some, others)])
        for one, other in np.unique(pairs, axis=1).T.tolist():
            # The smaller remains, so that what is fixed stays so.
            first, second = sorted((self._root(one), self._root(other)))
            self.parent[second] = first

    def _is_fixed(self, name: str) -> bool:
        return all(self._root(scale) == FIXED for scale in np.unique(self.of[name]).tolist())

    def _united_along(self, scales: np.ndarray, kept: Sequence[int]) -> np.ndarray:
        """The scales with one alone along every axis that is not kept."""
        for axis in range(scales.ndim):
            if axis not in kept and scales.shape[axis] > 1:
                first = scales.take([0], axis)
                self._unite(scales, first)
                scales = first
        return scales

    def _give_fixed(self, name: str) -> None:
        if name in self.shapes:
            self.of[name] = np.full([1] * len(self.shapes[name]), FIXED)

    # Rules by operator: each gives the outputs their scales and says which constants make up for them.

    def _fix(self, node: NodeProto) -> None:
        """No factor passes."""
        for name in node.input:
            if name in self.of:
                self._unite(self.of[name], np.array(FIXED))
        for name in node.output:
            self._give_fixed(name)

    def _edit(
        self, node: NodeProto, position: int, times: np.ndarray | int = FIXED, over: np.ndarray | int = FIXED
    ) -> None:
        if position < len(node.input) and node.input[position]:
            self.edits.append(Edit(node.name, position, np.asarray(times), np.asarray(over)))

    def _conv(self, node: NodeProto) -> None:
        weight = self.values[node.input[1]]
        groups = integers(node, "group", [1])[0]
        each = self._united_along(self.of[node.input[0]], [1]).ravel()
        read = np.broadcast_to(each, groups * weight.shape[1]).reshape(groups, weight.shape[1])
        made = self._fresh(weight.shape[0])
        self._edit(node, 1, made.reshape(-1, 1, 1, 1), read.repeat(weight.shape[0] // groups, 0)[..., None, None])
        self._edit(node, 2, made)
        self.of[node.output[0]] = made.reshape(1, -1, 1, 1)

    def _gemm(self, node: NodeProto) -> None:
        weight, turned = self.values[node.input[1]], bool(attribute(node, "transB", 0))
        inputs, outputs = weight.shape[::-1] if turned else weight.shape
        read = np.broadcast_to(self._united_along(self.of[node.input[0]], [1]).ravel(), inputs)
        made = self._fresh(outputs)
        places = (made[:, None], read[None]) if turned else (made[None], read[:, None])
        self._edit(node, 1, *places)
        self._edit(node, 2, made)
        self.of[node.output[0]] = made.reshape(1, -1)

    def _by_value(self, node: NodeProto) -> None:
        if node.op_type == "PRelu" and (node.input[1] not in self.values or self.values[node.input[1]].min() < 0):
            return self._fix(node)
        self._note_positive(node)
        self.of[node.output[0]] = self.of[node.input[0]]
        return None

    def _note_positive(self, node: NodeProto) -> None:
        if node.op_type in _POSITIVE:
            self.positive.append(self.of[node.input[0]].ravel())

    def _pool(self, node: NodeProto) -> None:
        if len(node.output) > 1 or node.input[0] not in self.shapes:
            return self._fix(node)
        self._note_positive(node)
        self.of[node.output[0]] = self._united_along(self.of[node.input[0]], [0, 1])
        return None

    def _reduce(self, node: NodeProto) -> None:
        scales = self.of[node.input[0]]
        axes = attribute(node, "axes")
        if axes is None and len(node.input) > 1 and node.input[1]:
            axes = self.values[node.input[1]].tolist() if node.input[1] in self.values else []
        given = range(scales.ndim) if axes is None else [int(axis) % scales.ndim for axis in axes]  # type: ignore[attr-defined]
        if not given:
            return self._fix(node)
        self._note_positive(node)
        scales = self._united_along(scales, [axis for axis in range(scales.ndim) if axis not in given])
        self.of[node.output[0]] = scales if attribute(node, "keepdims", 1) else scales.squeeze(tuple(given))
        return None

    def _add(self, node: NodeProto) -> None:
        """Terms share their scales; a constant one takes them on."""
        read = [name for name in node.input if name not in self.values]
        if node.output[0] not in self.shapes or not read:
            return self._fix(node)
        rank = len(self.shapes[node.output[0]])
        terms = [_of_rank(self.of[name], rank) for name in read]
        for axis in range(rank):
            # What is repeated along an axis has one scale along it.
            if any(_of_rank_shape(self.shapes.get(name), rank)[axis] == 1 for name in read):
                terms = [self._united_along(term, [a for a in range(rank) if a != axis]) for term in terms]
        made = terms[0]
        for term in terms[1:]:
            self._unite(made, term)
            made = made if made.size >= term.size else term
        for position, name in enumerate(node.input):
            if name in self.values:
                if len(_of_rank_shape(self.values[name].shape, rank)) != rank:
                    return self._fix(node)
                self._edit(node, position, times=made)
        self.of[node.output[0]] = made
        return None

    def _multiply(self, node: NodeProto) -> None:
        """A constant for each channel gives its product scales of its own; of two activations one must be fixed."""
        first, second = node.input
        output = node.output[0]
        if output not in self.shapes:
            return self._fix(node)
        rank = len(self.shapes[output])
        position = next((place for place, name in enumerate(node.input) if name in self.values), None)
        if position is None:
            sizes = [int(np.prod(self.shapes.get(name, (0,)))) for name in node.input]
            passes = 1 if node.op_type == "Mul" and (self._is_fixed(first) or sizes[1] > sizes[0]) else 0
            if node.op_type == "Mul" and self._is_fixed(second):
                passes = 0
            self._unite(self.of[node.input[1 - passes]], np.array(FIXED))
            self.of[output] = _of_rank(self.of[node.input[passes]], rank)
            return None
        constant = self.values[node.input[position]]
        if node.op_type == "Div" and position == 0:
            return self._fix(node)
        read = _of_rank(self.of[node.input[1 - position]], rank)
        if constant.size == 1 or constant.ndim > rank:
            self.of[output] = read
            return None
        shape = _of_rank_shape(constant.shape, rank)
        # The constant makes up for both sides along its own axes; along others the scales stay the input's.
        read = self._united_along(read, [axis for axis in range(rank) if shape[axis] > 1])
        made = self._fresh(*shape)
        self._edit(node, position, *((made, read) if node.op_type == "Mul" else (read, made)))
        self.of[output] = made
        return None

    def _normalize(self, node: NodeProto) -> None:
        """What comes out has the scale of the constants; of what goes in, mean and variance are taken."""
        inputs = node.input[1:]
        is_plain = len(node.output) == 1 and inputs and all(name in self.values for name in inputs if name)
        if not is_plain or node.output[0] not in self.shapes or node.op_type == "GroupNormalization":
            return self._fix(node)
        self._unite(self.of[node.input[0]], np.array(FIXED))
        rank = len(self.shapes[node.output[0]])
        shape = self.values[inputs[0]].shape
        made = self._fresh(*shape)
        for position in (1, 2):
            self._edit(node, position, times=made)
        by_channel = node.op_type == "InstanceNormalization"
        self.of[node.output[0]] = made.reshape(1, -1, *[1] * (rank - 2)) if by_channel else _of_rank(made, rank)
        return None

    def _matmul(self, node: NodeProto) -> None:
        """Of two activations the second's columns keep their scales, as the values of attention do."""
        first, second = node.input
        if not (first in self.of and second in self.of) or self.of[second].ndim < 2 or self.of[first].ndim < 2:
            return self._fix(node)
        self._unite(self.of[first], np.array(FIXED))
        scales = self.of[second]
        scales = self._united_along(scales, [axis for axis in range(scales.ndim) if axis != scales.ndim - 2])
        self.of[node.output[0]] = _of_rank(scales, max(scales.ndim, self.of[first].ndim))
        return None

    def _resize(self, node: NodeProto) -> None:
        """Pixels are taken from their neighbours of the same channel."""
        self.of[node.output[0]] = self._united_along(self.of[node.input[0]], [0, 1])

    def _move(self, node: NodeProto) -> None:
        """The node itself, applied to the scales in place of the values."""
        data = list(node.input) if node.op_type == "Concat" else list(node.input[:1])
        given = {name: self.values[name] for name in node.input[len(data) :] if name in self.values}
        is_known = all(name in self.shapes or name in self.values for name in data) and len(given) == len(
            {name for name in node.input[len(data) :] if name}
        )
        if not is_known or not all(name in self.shapes for name in node.output):
            return self._fix(node)
        if node.op_type == "Pad" and any(value.dtype.kind == "f" and value.any() for value in given.values()):
            return self._fix(node)
        held = {name: self._fresh(*self.values[name].shape) for name in data if name in self.values}
        scales = held | {name: np.broadcast_to(self.of[name], self.shapes[name]) for name in data if name in self.of}
        made = _moved(node, scales, given, self.opset)
        if any(one.shape != self.shapes[name] for name, one in zip(node.output, made, strict=True)):
            return self._fix(node)
        for position, name in enumerate(data):
            if name in held:
                self._edit(node, position, times=held[name])
        self.of |= {name: _compressed(one) for name, one in zip(node.output, made, strict=True)}
        return None


def _moved(
    node: NodeProto, scales: Mapping[str, np.ndarray], given: Mapping[str, np.ndarray], opset: int
) -> list[np.ndarray]:
    """What a node that moves values makes of integers in their place."""
    # It is a large module, and not every build needs it.
    from onnx.reference import ReferenceEvaluator

    copy = NodeProto()
    copy.CopyFrom(node)
    if node.op_type == "Pad":
        # Zeros have any scale: that of the channel beside them.
        kept = [item for item in copy.attribute if item.name != "mode"]
        del copy.attribute[:]
        copy.attribute.extend([*kept, helper.make_attribute("mode", "edge")])
        copy.input[2:3] = [""] if len(copy.input) > 2 else []
        given = {name: value for name, value in given.items() if name in copy.input}
    read = {**scales, **given}
    typed = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), None)
        for name, value in read.items()
    ]
    made = [helper.make_tensor_value_info(name, TensorProto.INT64, None) for name in node.output]
    graph = helper.make_graph([copy], "move", typed, made)
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return [np.asarray(one) for one in ReferenceEvaluator(whole).run(None, read)]


def _shapes_of_one_image(model: ModelProto) -> dict[str, tuple[int, ...]]:
    """Shapes of the float tensors for a batch of one; where inference finds none there is no entry."""
    copy = ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    first = copy.graph.input[0].type.tensor_type.shape.dim[0]
    if not first.HasField("dim_value"):
        first.dim_value = 1
    for value in copy.graph.output:
        value.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(copy, data_prop=True)
    shapes = {}
    for value in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output):
        kind = value.type.tensor_type
        is_open = not kind.HasField("shape") or not all(dim.HasField("dim_value") for dim in kind.shape.dim)
        if kind.elem_type == TensorProto.FLOAT and not is_open:
            shapes[value.name] = tuple(dim.dim_value for dim in kind.shape.dim)
    return shapes


def _of_rank(scales: np.ndarray, rank: int) -> np.ndarray:
    return scales.reshape([1] * (rank - scales.ndim) + list(scales.shape))


def _of_rank_shape(shape: Sequence[int] | None, rank: int) -> list[int]:
    return [1] * (rank - len(shape or ())) + list(shape or ())


def _compressed(scales: np.ndarray) -> np.ndarray:
    """Without what repeats along an axis."""
    for axis in range(scales.ndim):
        first = scales.take([0], axis)
        if scales.shape[axis] > 1 and (scales == first).all():
            scales = first
    return np.ascontiguousarray(scales)
