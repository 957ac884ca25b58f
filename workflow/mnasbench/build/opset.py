"""A graph in the operators that its reader has: those of an older opset, and without those that a target lacks.

onnx's own converter goes up; downwards it has no step even for a Relu from 14 to 13. What changed between the opsets
is little for the operators of classifiers: axes that became inputs, operators that were several before.
"""

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, helper, numpy_helper, version_converter

from mnasbench.build.graph import attribute, constants, drop_unused_constants
from mnasbench.errors import BuildError, one_line

# Below 11 a Clip has no inputs and a Resize another rule; above 24 not all that the project calls reads a graph.
OPSETS = range(11, 25)
_EPSILON = 1e-5  # ONNX's default of normalizations
# Operators whose axes are an input since an opset, and were an attribute before.
_AXES_AS_INPUT = {
    **dict.fromkeys(("Squeeze", "Unsqueeze", "ReduceSum"), 13),
    **dict.fromkeys(("ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2"), 18),
    **dict.fromkeys(("ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"), 18),
}
# Attributes that an opset brought, and the value at which an older graph computes the same.
_NEW_ATTRIBUTES: dict[str, dict[str, tuple[int, object]]] = {
    "AveragePool": {"dilations": (19, [1, 1])},
    "BatchNormalization": {"training_mode": (14, 0)},
    "Cast": {"saturate": (19, 1)},
    "Reshape": {"allowzero": (14, 0)},
    "Resize": {"antialias": (18, 0), "keep_aspect_ratio_policy": (18, b"stretch")},
}


def opset_of(model: ModelProto) -> int:
    """The version of ONNX's own operators that a graph is written in."""
    return int(next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")))


def in_opset(model: ModelProto, opset: int | None = None, lacks: Collection[str] = ()) -> ModelProto:
    """A copy of a graph of known shapes in ``opset`` (as it is, if None), without the operators that a target lacks.

    HardSwish, LayerNormalization, Gelu and Mish are written in operators of opset 11; axes and sizes stand where
    that opset has them. Same function up to the rounding of what is computed in several steps. Raises BuildError
    naming the first operator that has no such form.
    """
    given = opset_of(model)
    opset = given if opset is None else opset
    if opset not in OPSETS:
        raise BuildError(f"opset {opset}: expected {OPSETS.start} to {OPSETS.stop - 1}")
    if opset > given:
        try:
            model = version_converter.convert_version(model, opset)
        except Exception as error:  # the converter's own exceptions have no common base
            raise BuildError(f"opset {opset}: onnx cannot convert this graph to it ({one_line(error)})") from error
    return _Writer(model, given, opset, lacks).write()


class _Writer:
    """One copy of a graph as it is rewritten, node by node."""

    def __init__(self, model: ModelProto, given: int, opset: int, lacks: Collection[str]) -> None:
        self.copy = ModelProto()
        self.copy.CopyFrom(model)
        self.given, self.opset = given, opset
        self.values = constants(model)
        values = (*model.graph.input, *onnx.shape_inference.infer_shapes(model).graph.value_info)
        self.ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in values}
        self.shapes = {value.name: value.type.tensor_type.shape.dim for value in values}
        self.whole = {name for name in _WHOLE if opset < _WHOLE[name][0] or name in lacks}
        self.nodes: list[NodeProto] = []

    def write(self) -> ModelProto:
        graph = self.copy.graph
        for node in graph.node:
            whole = node.op_type in self.whole
            (_WHOLE[node.op_type][1] if whole else _Writer._older)(self, node)
        del graph.node[:]
        graph.node.extend(self.nodes)
        drop_unused_constants(self.copy)
        if self.opset != self.given:
            del graph.value_info[:]
            del self.copy.opset_import[:]
            self.copy.opset_import.append(helper.make_opsetid("", self.opset))
            self.copy.ir_version = helper.find_min_ir_version_for(list(self.copy.opset_import))
        try:
            onnx.checker.check_model(self.copy, full_check=True)
        except Exception as error:  # the checker's exceptions have no common base
            raise BuildError(
                f"opset {self.opset}: this graph cannot be written in it ({one_line(error)}); ask for a newer one"
            ) from error
        return onnx.shape_inference.infer_shapes(self.copy)

    # ------------------------------------------------------------------------------------------- parts of a rewriting
    def _add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], output, **attributes))
        return output

    def _hold(self, name: str, value: Any, dtype: type[np.generic] = np.float32) -> str:
        self.copy.graph.initializer.append(numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def _mean(self, source: str, output: str, axes: list[int]) -> str:
        if self.opset < _AXES_AS_INPUT["ReduceMean"]:
            return self._add("ReduceMean", [source], output, axes=axes, keepdims=1)
        return self._add("ReduceMean", [source, self._hold(f"{output}.axes", axes, np.int64)], output, keepdims=1)

    # ------------------------------------------------------------------------------ operators that were several before
    def _hard_swish(self, node: NodeProto) -> None:
        (source,), (output,) = node.input, node.output
        gate = self._add("HardSigmoid", [source], f"{node.name}_gate", alpha=1 / 6, beta=0.5)
        self._add("Mul", [source, gate], output)

    def _layer_normalization(self, node: NodeProto) -> None:
        name, source = node.name, node.input[0]
        axis = int(attribute(node, "axis", -1))  # type: ignore[call-overload]
        axes = list(range(axis, 0)) if axis < 0 else list(range(axis - self.ranks[source], 0))
        mean = self._mean(source, f"{name}_mean", axes)
        centred = self._add("Sub", [source, mean], f"{name}_centred")
        variance = self._mean(self._add("Mul", [centred, centred], f"{name}_squares"), f"{name}_variance", axes)
        epsilon = self._hold(f"{name}.epsilon", attribute(node, "epsilon", _EPSILON))
        deviation = self._add(
            "Sqrt", [self._add("Add", [variance, epsilon], f"{name}_above_zero")], f"{name}_deviation"
        )
        bias = node.input[2] if len(node.input) > 2 else ""
        normal = self._add("Div", [centred, deviation], f"{name}_normal")
        scaled = self._add("Mul", [normal, node.input[1]], f"{name}_scaled" if bias else node.output[0])
        if bias:
            self._add("Add", [scaled, bias], node.output[0])

    def _gelu(self, node: NodeProto) -> None:
        name, source = node.name, node.input[0]
        if attribute(node, "approximate", b"none") == b"tanh":
            cube = self._add("Mul", [self._add("Mul", [source, source], f"{name}_square"), source], f"{name}_cube")
            small = self._add("Mul", [cube, self._hold(f"{name}.cubic", 0.044715)], f"{name}_small")
            inner = self._add("Add", [source, small], f"{name}_inner")
            inner = self._add("Mul", [inner, self._hold(f"{name}.scale", np.sqrt(2 / np.pi))], f"{name}_scaled")
            bent = self._add("Tanh", [inner], f"{name}_tanh")
        else:
            inner = self._add("Mul", [source, self._hold(f"{name}.scale", np.sqrt(0.5))], f"{name}_scaled")
            bent = self._add("Erf", [inner], f"{name}_erf")
        lifted = self._add("Add", [bent, self._hold(f"{name}.one", 1)], f"{name}_lifted")
        gate = self._add("Mul", [lifted, self._hold(f"{name}.half", 0.5)], f"{name}_gate")
        self._add("Mul", [source, gate], node.output[0])

    def _mish(self, node: NodeProto) -> None:
        soft = self._add("Softplus", [node.input[0]], f"{node.name}_soft")
        self._add("Mul", [node.input[0], self._add("Tanh", [soft], f"{node.name}_gate")], node.output[0])

    def _softmax(self, node: NodeProto) -> None:
        """Below 13 a Softmax takes all axes from its own on as one; of the last alone both say the same."""
        rank = self.ranks[node.input[0]]
        axis = int(attribute(node, "axis", -1)) % rank  # type: ignore[call-overload]
        if axis == rank - 1:
            self._add(node.op_type, list(node.input), node.output[0], axis=axis)
            return
        order = [one for one in range(rank) if one != axis] + [axis]
        turned = self._add("Transpose", [node.input[0]], f"{node.name}_turned", perm=order)
        made = self._add(node.op_type, [turned], f"{node.name}_made", axis=rank - 1)
        self._add("Transpose", [made], node.output[0], perm=[int(place) for place in np.argsort(order)])

    # -------------------------------------------------------------------------- what stood elsewhere in an older opset
    def _older(self, node: NodeProto) -> None:
        written = NodeProto()
        written.CopyFrom(node)
        kind = node.op_type
        if self.opset < _AXES_AS_INPUT.get(kind, 0) <= self.given:
            self._to_attribute(written, "axes")
        if kind == "Split" and self.opset < 18:
            self._state_split(written)
        if kind == "Split" and self.opset < 13:
            self._to_attribute(written, "split")
        if kind == "Pad" and self.opset < 18 and len(node.input) > 3:
            self._pad_every_axis(written)
        if kind == "Reshape" and (target := self._constant(node, 1)) is not None and target.all():
            _drop_attribute(written, "allowzero")  # of zeros there are none
        if kind == "Resize" and self.opset < 13:
            for position in (1, 2):
                if len(written.input) > position and not written.input[position]:
                    written.input[position] = self._hold(f"{node.output[0]}.none.{position}", [])
        for name, (since, value) in _NEW_ATTRIBUTES.get(kind, {}).items():
            if self.opset < since and attribute(node, name, value) == value:
                _drop_attribute(written, name)
        self.nodes.append(written)

    def _shape(self, node: NodeProto) -> None:
        """Below 15 a Shape gives all sizes."""
        start, end = attribute(node, "start", 0), attribute(node, "end", np.iinfo(np.int64).max)
        every = self._add("Shape", list(node.input), f"{node.output[0]}_every")
        ends = [self._hold(f"{node.output[0]}.{key}", [at], np.int64) for key, at in (("start", start), ("end", end))]
        self._add("Slice", [every, *ends], node.output[0])

    def _constant(self, node: NodeProto, position: int) -> np.ndarray | None:
        return self.values.get(node.input[position]) if len(node.input) > position else None

    def _to_attribute(self, node: NodeProto, name: str) -> None:
        value = self._constant(node, 1)
        if value is None:
            return  # none given, or computed: the checker says the latter
        noop = attribute(node, "noop_with_empty_axes", 0)
        _drop_attribute(node, "noop_with_empty_axes")
        del node.input[1:]
        if value.size or not noop:
            node.attribute.append(helper.make_attribute(name, [int(item) for item in value.ravel()]))

    def _state_split(self, node: NodeProto) -> None:
        """Sizes of a Split in numbers, where the graph gives their number alone."""
        if attribute(node, "num_outputs") is None:
            return
        _drop_attribute(node, "num_outputs")
        axis = int(attribute(node, "axis", 0))  # type: ignore[call-overload]
        sizes = [self.shapes[name][axis].dim_value for name in node.output]
        del node.input[1:]
        node.input.append(self._hold(f"{node.output[0]}.sizes", sizes, np.int64))
        self.values[node.input[1]] = np.array(sizes, np.int64)

    def _pad_every_axis(self, node: NodeProto) -> None:
        axes, pads = self._constant(node, 3), self._constant(node, 1)
        if axes is None or pads is None:
            return
        rank = self.ranks[node.input[0]]
        every = np.zeros((2, rank), np.int64)
        every[:, [int(axis) % rank for axis in axes]] = pads.reshape(2, -1)
        del node.input[3:]
        node.input[1] = self._hold(f"{node.output[0]}.pads", every.ravel(), np.int64)


# Operators that can be written in others: the opset that brought them (or their meaning), and how.
_WHOLE: dict[str, tuple[int, Callable[[_Writer, NodeProto], None]]] = {
    "Gelu": (20, _Writer._gelu),
    "HardSwish": (14, _Writer._hard_swish),
    "LayerNormalization": (17, _Writer._layer_normalization),
    "LogSoftmax": (13, _Writer._softmax),
    "Mish": (18, _Writer._mish),
    "Shape": (15, _Writer._shape),
    "Softmax": (13, _Writer._softmax),
}


def _drop_attribute(node: NodeProto, name: str) -> None:
    kept = [item for item in node.attribute if item.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)
