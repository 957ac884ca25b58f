"""Write a float graph as the int8 graph that is run: QuantizeLinear/DequantizeLinear with our ranges and scales."""

from collections.abc import Collection, Mapping

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

from mnasbench.build.bounds import bounds
from mnasbench.build.graph import (
    attribute,
    constants,
    consumers,
    drop_unused_constants,
    layers,
    producers,
    tensor_shapes,
)
from mnasbench.build.ranges import Range

# Operators that compute on int8 values where they stand between int8 layers: ONNX Runtime has int8 kernels of them.
_BETWEEN = frozenset(
    {"Add", "AveragePool", "Clip", "Concat", "Flatten", "GlobalAveragePool", "LeakyRelu", "MaxPool", "Mul", "Relu"}
    | {"Sigmoid"}
)
# Those of them that read activations alone; with a constant beside one they are computed in float.
_JOINS = frozenset({"Add", "Concat", "Mul"})
# Operators that move values about: a runtime carries the bytes through. A pair of Q/DQ between two of them would only
# hide from it what they are together, such as a shuffle of channels.
_MOVES = frozenset({"Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"})
# What a ReLU or Clip behind them becomes part of.
_ABSORBING = frozenset({"Add", "Concat", "Conv", "Gemm"})
# Normalizations of tokens, as one operator or by a mean of their own. They are computed in float.
_NORMS = frozenset({"GroupNormalization", "InstanceNormalization", "LayerNormalization", "ReduceMean"})
# Every value that they give is one that they read, so that both keep the same steps.
_SAME_STEPS = _MOVES | {"Flatten", "MaxPool"}
# Of these, and constants, the gates of x * gate(x) are made: of HardSwish, SiLU, GELU, Mish.
_OF_GATES = frozenset(
    {"Add", "Clip", "Div", "Erf", "HardSigmoid", "Log", "Exp", "Mul", "Pow", "Relu", "Sigmoid", "Softplus", "Sub"}
    | {"Tanh"}
)
# Steps on each side of zero of a weight. Without VNNI, products of full-range 8-bit weights saturate in 16 bits.
FULL_STEPS, REDUCED_STEPS = 127, 64
# Smaller weights are zeros beside any activation, and their scale would leave float32.
_SMALLEST = 1e-30
# Twofold room below int32's limit, which bias correction may need.
_BIAS_STEPS = 2.0**30


def weight_axis(node: NodeProto) -> int:
    """The axis of output channels in the node's weight."""
    return 0 if node.op_type == "Conv" or attribute(node, "transB", 0) else 1


def weight_scales(
    node: NodeProto,
    weight: np.ndarray,
    steps: int,
    per_channel: bool,
    bias: np.ndarray | None = None,
    input_scale: float = 0.0,
) -> np.ndarray:
    """Scale of each output channel, (channels,) float32, the largest weight on the last step; symmetric about zero.

    A bias has steps of ``input_scale`` times that scale, in 32 bits: a channel whose weights are so small that its
    bias would leave them (it gives little but a constant, or nothing else) gets the scale at which the bias fits. A
    channel of zeros alone gets the scale 1. Without ``per_channel`` every channel has the tensor's scale.
    """
    axis = weight_axis(node)
    largest = np.abs(weight).max(axis=tuple(a for a in range(weight.ndim) if a != axis)).astype(np.float64)
    scales = np.where(largest > _SMALLEST, largest / steps, 0.0)
    if bias is not None and input_scale > 0:
        needed = np.abs(bias).astype(np.float64) / (input_scale * _BIAS_STEPS)
        scales = np.maximum(scales, np.where(needed > _SMALLEST, needed, 0.0))
    if not per_channel:
        scales = np.full_like(scales, scales.max())
    return np.where(scales > 0, scales, 1).astype(np.float32)


def int8_nodes(model: ModelProto, float_nodes: Collection[str] = ()) -> list[NodeProto]:
    """The nodes that compute in int8, in graph order: the layers, and what stands on the way from one to another.

    Neither the gate of ``x * gate(x)`` nor that product is among them, nor is what only moves values about.
    """
    own, readers = {node.name for node in layers(model)} - set(float_nodes), consumers(model)
    shapes, gated = tensor_shapes(model), _gated(model)
    fed: set[str] = set()
    fed_nodes = []
    for node in model.graph.node:
        passes = node.op_type in _BETWEEN | _MOVES and node.name not in gated and node.name not in float_nodes
        read = node.input if node.op_type in _JOINS else node.input[:1]
        passes = passes and not fed.isdisjoint(read) and all(name in shapes for name in (*read, *node.output))
        if node.name in own or passes:
            fed |= set(node.output)
            fed_nodes.append(node)
    leading: set[str] = set(own)
    for node in reversed(fed_nodes):
        # A stream of tokens between normalizations: eight bits would gain nothing, and wipe out a small class token.
        if node.op_type in _JOINS and _is_normalized(node, readers):
            continue
        if any(reader.name in leading for name in node.output for reader in readers.get(name, [])):
            leading.add(node.name)
    return [node for node in fed_nodes if node.name in leading and (node.name in own or node.op_type in _BETWEEN)]


def _is_normalized(node: NodeProto, readers: Mapping[str, list[NodeProto]]) -> bool:
    """Whether a normalization reads what the node gives, as it is or moved about."""
    read = [reader for name in node.output for reader in readers.get(name, [])]
    return any(one.op_type in _NORMS or (one.op_type in _MOVES and _is_normalized(one, readers)) for one in read)


def _gated(model: ModelProto) -> set[str]:
    """Names of the nodes that are ``x * gate(x)`` together, which runtimes compute in one kernel.

    Eight bits within it cost accuracy, and the kernel. The gate of squeeze-and-excite is none: it has other shape.
    """
    made_by, held = producers(model), constants(model)
    names = {node.name for node in model.graph.node if node.op_type == "HardSwish"}
    for node in model.graph.node:
        if node.op_type != "Mul":
            continue
        for gate, value in (node.input, node.input[::-1]):
            inside, waiting = [], [gate]
            while waiting and waiting[-1] in made_by and made_by[waiting[-1]].op_type in _OF_GATES:
                maker = made_by[waiting.pop()]
                inside.append(maker.name)
                waiting += [name for name in maker.input if name and name not in held and name != value]
            if inside and not waiting:
                names |= {node.name, *inside}
    return names


def quantized_tensors(model: ModelProto, float_nodes: Collection[str] = (), gates_are_fused: bool = False) -> list[str]:
    """Activations that are quantized: what int8 operators read, and what they make, except what ReLU absorbs.

    The product of a Gemm is not where no other int8 operator reads it: its kernel gives floats as well. Neither is
    what a Conv gives to x * gate(x) alone where the runtime computes that within the Conv (``gates_are_fused``).
    """
    read_by, made_by, shapes = consumers(model), producers(model), tensor_shapes(model)
    computing, gated = int8_nodes(model, float_nodes), _gated(model)
    names: dict[str, None] = {}
    for node in computing:
        names |= dict.fromkeys(node.input if node.op_type in _JOINS else node.input[:1])
        visible = visible_output(node, read_by)
        within = gates_are_fused and node.op_type == "Conv" and visible in read_by
        within = within and all(reader.name in gated for reader in read_by[visible])
        # OpenVINO's compiler dies of two quantizations behind a Concat with nothing but a BatchNorm between.
        before_norm = gates_are_fused and node.op_type == "Concat" and _read_by_norm(read_by.get(visible, []))
        if node.op_type != "Gemm" and not within and not before_norm:
            names[visible] = None
    result = model.graph.output[0].name
    held = constants(model)
    return [
        name
        for name in names
        if name in shapes
        and name != result
        and name not in held
        and not (name in made_by and absorbed(made_by[name], read_by.get(name, [])))
    ]


def _read_by_norm(readers: list[NodeProto]) -> bool:
    return bool(readers) and all(reader.op_type == "BatchNormalization" for reader in readers)


def visible_output(node: NodeProto, readers: Mapping[str, list[NodeProto]]) -> str:
    """The tensor that a node leaves: its output, or that of the ReLU it absorbs."""
    read = readers.get(node.output[0], [])
    return str(read[0].output[0] if absorbed(node, read) else node.output[0])


def source_of(name: str, made_by: Mapping[str, NodeProto]) -> str:
    """The tensor whose values ``name`` holds in another order, or a part of them; ``name`` itself if none."""
    while name in made_by and made_by[name].op_type in _SAME_STEPS:
        name = made_by[name].input[0]
    return name


def float_closure(model: ModelProto, names: Collection[str]) -> frozenset[str]:
    """The layers of these names and the operators that stand between float layers alone: there 8 bits only lose."""
    float_nodes = set(names)
    read_by, made_by = consumers(model), producers(model)
    weighted = {node.name for node in layers(model)}
    others = {node.name: node for node in model.graph.node if node.name not in weighted}
    while others:
        _, start = others.popitem()
        region, waiting, all_float = {start.name}, [start], True
        while waiting:
            node = waiting.pop()
            beside = [made_by[name] for name in node.input if name in made_by]
            beside += [reader for name in node.output for reader in read_by.get(name, [])]
            all_float &= all(other.name in float_nodes for other in beside if other.name in weighted)
            waiting += [others.pop(other.name) for other in beside if other.name in others]
            region |= {other.name for other in waiting}
        if all_float:
            float_nodes |= region
    return frozenset(float_nodes)


def absorbed(node: NodeProto, readers: list[NodeProto]) -> bool:
    """Whether the node's output is never seen because the one ReLU or Clip that reads it becomes part of it."""
    return node.op_type in _ABSORBING and len(readers) == 1 and readers[0].op_type in ("Relu", "Clip")


def write_qdq(model: ModelProto, ranges: Mapping[str, Range], scales: Mapping[str, np.ndarray]) -> ModelProto:
    """``model`` with activations U8 (S8 where a range is symmetric) by ``ranges``, weights S8 by ``scales``.

    ``scales``: weight name -> (channels,) float32.
    A layer whose weight has no scales keeps float weights and float arithmetic.
    """
    return _QdqWriter(model, ranges, scales).write()


class _QdqWriter:
    """One graph that is being written: its nodes so far, and what stands for a tensor where it is read."""

    def __init__(self, model: ModelProto, ranges: Mapping[str, Range], scales: Mapping[str, np.ndarray]) -> None:
        self.model = ModelProto()
        self.model.CopyFrom(model)
        self.ranges, self.scales = ranges, scales
        self.values, self.limits = constants(model), bounds(model)
        self.made_by, self.read_by = producers(self.model), consumers(self.model)
        self.steps = {name: f"{name}_DequantizeLinear_Output" for name in ranges}
        self.nodes: list[NodeProto] = []

    def write(self) -> ModelProto:
        graph = self.model.graph
        source = list(graph.node)
        self._quantize(graph.input[0].name)
        for node in source:
            if self._is_left_to_range(node):
                # The maker is among the nodes already, as this very object.
                self.made_by[node.input[0]].output[0] = node.output[0]
            else:
                if node.op_type in ("Conv", "Gemm") and node.input[1] in self.scales:
                    self._quantize_weights(node)
                node.input[:] = [self.steps.get(name, name) for name in node.input]
                self.nodes.append(node)
            for name in node.output:
                self._quantize(name)
        del graph.node[:]
        graph.node.extend(self.nodes)
        drop_unused_constants(self.model)
        return self.model

    def _is_left_to_range(self, node: NodeProto) -> bool:
        """Whether a ReLU or Clip is one with the layer before it, and the range of its output does what it does."""
        if node.op_type not in ("Relu", "Clip") or node.output[0] not in self.ranges:
            return False
        maker = self.made_by.get(node.input[0])
        chosen, (low, high) = self.ranges[node.output[0]], self.limits.get(node.output[0], (-np.inf, np.inf))
        within = low <= chosen.low and chosen.high <= high
        return within and maker is not None and absorbed(maker, self.read_by[node.input[0]])

    def _quantize(self, name: str) -> None:
        """Put the pair of Q and DQ behind a tensor that has a range."""
        if name not in self.ranges:
            return
        scale, zero_point = self.ranges[name].scale_and_zero_point
        given = [
            self._hold(f"{name}_scale", np.array(scale, np.float32)),
            self._hold(f"{name}_zero_point", np.array(zero_point, self.ranges[name].dtype)),
        ]
        codes = f"{name}_QuantizeLinear_Output"
        self._append("QuantizeLinear", [name, *given], codes, name)
        self._append("DequantizeLinear", [codes, *given], self.steps[name], name)

    def _quantize_weights(self, node: NodeProto) -> None:
        _, weight, bias = node.input
        scale, axis = self.scales[weight], weight_axis(node)
        along = scale.reshape([-1 if a == axis else 1 for a in range(self.values[weight].ndim)])
        input_scale, _ = self.ranges[node.input[0]].scale_and_zero_point
        bias_scale = np.asarray(input_scale * scale, np.float32)
        limits = np.iinfo(np.int32)
        sums = np.rint(self.values[bias].astype(np.float64) / bias_scale)
        codes = np.clip(np.rint(self.values[weight] / along), -128, 127).astype(np.int8)
        node.input[1] = self._constant(weight, codes, scale, axis)
        node.input[2] = self._constant(bias, np.clip(sums, limits.min, limits.max).astype(np.int32), bias_scale, 0)

    def _constant(self, name: str, codes: np.ndarray, scale: np.ndarray, axis: int) -> str:
        """Hold a constant as integers; give what stands for it."""
        zeros = np.zeros(scale.shape, codes.dtype)
        given = [f"{name}_quantized", f"{name}_scale", f"{name}_zero_point"]
        for held, value in zip(given, (codes, scale, zeros), strict=True):
            self._hold(held, value)
        output = f"{name}_DequantizeLinear_Output"
        self._append("DequantizeLinear", given, output, name, axis=axis)
        return output

    def _hold(self, name: str, value: np.ndarray) -> str:
        self.model.graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    def _append(self, operator: str, given: list[str], output: str, name: str, axis: int | None = None) -> None:
        node = helper.make_node(operator, given, [output], f"{name}_{operator}")
        if axis is not None:
            node.attribute.append(helper.make_attribute("axis", axis))
        self.nodes.append(node)
