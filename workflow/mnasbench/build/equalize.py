"""Exact changes of the float graph after which 8 bits lose less: channels scaled, shifted and mirrored.

Between a layer and the layers that read it, channel c may be multiplied by s_c and the readers' weights for it
divided by s_c: ReLU lets a positive factor through, sums and pooling any that all their inputs share
(cross-layer equalization, Nagel et al. 2019, "Data-free quantization through weight equalization and bias
correction"). Where no ReLU stands between and no reader pads with zeros, a channel's mean may also be moved into
the readers' biases, and a channel may be mirrored.

The scale is chosen from what the net computes and not from how its weights happen to be scaled, so a net and
any rescaling of its hidden channels come out the same.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, NodeProto

from mnasbench.build.graph import (
    WEIGHTED,
    attribute,
    constants,
    consumers,
    integers,
    layers,
    producers,
    tensor_shapes,
    with_constants,
)
from mnasbench.build.observer import Moments

# Operators that let one positive factor a channel through.
_SCALE_PASSES = ("Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "Add", "Flatten")


@dataclass(frozen=True)
class Equalized:
    """The changed graph and its activations' moments, the groups of tensors that share scales, the groups left.

    The image and the logits are in neither: their scales are not ours to choose.
    """

    model: ModelProto
    moments: dict[str, Moments]
    scaled: list[list[str]]
    left: list[list[str]]


def as_groups(node: NodeProto, weight: np.ndarray) -> np.ndarray:
    """A layer's weight as (groups, outputs of a group, inputs of a group, taps), a view where possible."""
    if node.op_type == "Gemm":
        return (weight if attribute(node, "transB", 0) else weight.T)[None, :, :, None]
    groups = integers(node, "group", [1])[0]
    return weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)


def from_groups(node: NodeProto, grouped: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The inverse of :func:`as_groups`; ``shape`` is the weight's own."""
    if node.op_type == "Gemm":
        matrix = grouped[0, :, :, 0]
        return matrix if attribute(node, "transB", 0) else matrix.T
    return grouped.reshape(shape)


def equalize(
    model: ModelProto, moments: Mapping[str, Moments], balance: float = 0.5, linear_balance: float = 0.25
) -> Equalized:
    """Scale, shift and mirror channels wherever it is exact; logits change by rounding alone.

    ``moments``: of every activation that will be quantized, over the calibration images. ``balance`` between 0
    (every channel of an activation fills its range, the readers' weights bear it) and 1 (the readers' columns are
    even): the scale is s_c = v_c ** balance / m_c, with m_c the channel's largest magnitude and v_c the largest
    share that its term has among the terms of an output of a reader. ``linear_balance`` is that of tensors that no
    ReLU makes (projections and residual sums): they cause most of the error, so their readers' weights bear more.
    """
    # Integers are shapes and places: through floats a large one would become another.
    held = constants(model)
    values = {name: value.astype(np.float64) if value.dtype.kind == "f" else value for name, value in held.items()}
    made_by, read_by = producers(model), consumers(model)
    changed = dict(moments)
    scaled, left = [], []
    own = {node.name for node in layers(model)}
    ends = {model.graph.input[0].name, model.graph.output[0].name}
    for group in _tied_tensors(model, values):
        if ends & set(group):
            continue
        makers = [made_by[name] for name in group if name in made_by and not _is_inside(made_by[name], group)]
        readers = [node for name in group for node in read_by.get(name, []) if not _is_inside(node, group)]
        if not _is_scalable(group, makers, readers, moments, own):
            left.append(group)
            continue
        shift = _shifts(group, made_by, read_by, moments) if _is_movable(group, readers, made_by, moments) else {}
        changed |= _scale_group(group, makers, readers, made_by, moments, shift, values, balance, linear_balance)
        scaled.append(group)
    return Equalized(with_constants(model, values), changed, scaled, left)


def _tied_tensors(model: ModelProto, values: Mapping[str, np.ndarray]) -> list[list[str]]:
    """Activations in groups that must share one scale a channel, because an operator ties them together."""
    shapes = tensor_shapes(model)
    group_of = {model.graph.input[0].name: [model.graph.input[0].name]}
    for node in model.graph.node:
        tied = list(node.output)
        inputs = [name for name in node.input if name and name not in values]
        if _ties(node, inputs, shapes):
            tied = list(dict.fromkeys(other for name in inputs for other in group_of[name])) + tied
        for name in tied:
            group_of[name] = tied
    return list({id(group): group for group in group_of.values()}.values())


def _ties(node: NodeProto, inputs: list[str], shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether a factor on each channel of the inputs comes out on the same channel of the output."""
    if node.op_type not in _SCALE_PASSES or len(node.output) != 1:
        return False
    if node.op_type == "Add":
        return len(inputs) == 2 and shapes.get(inputs[0]) == shapes.get(inputs[1]) is not None
    return node.op_type != "Flatten" or shapes.get(inputs[0], ())[2:] == (1, 1)


def _is_inside(node: NodeProto, group: list[str]) -> bool:
    """Whether the node ties tensors of the group, and is neither what makes nor what reads them."""
    return node.op_type in _SCALE_PASSES and node.output[0] in group and bool(set(node.input) & set(group))


def _is_scalable(
    group: list[str],
    makers: list[NodeProto],
    readers: list[NodeProto],
    moments: Mapping[str, Moments],
    own: Collection[str],
) -> bool:
    return (
        all(node.name in own for node in (*makers, *readers))
        and any(name in moments for name in group)
        and bool(readers)
    )


def _is_linear(group: list[str], made_by: Mapping[str, NodeProto]) -> bool:
    """Whether no ReLU or pooling stands between the group's makers and its readers."""
    return all(made_by[name].op_type in (*WEIGHTED, "Add") for name in group)


def _is_movable(
    group: list[str], readers: list[NodeProto], made_by: Mapping[str, NodeProto], moments: Mapping[str, Moments]
) -> bool:
    """Whether a constant on each channel goes through to the readers' sums, and their biases can take it off."""
    padded = any(any(integers(node, "pads", [0])) for node in readers)
    return _is_linear(group, made_by) and not padded and all(name in moments for name in group)


def _shifts(
    group: list[str],
    made_by: Mapping[str, NodeProto],
    read_by: Mapping[str, list[NodeProto]],
    moments: Mapping[str, Moments],
) -> dict[str, np.ndarray]:
    """What to take off each channel of each tensor so that it lies about zero; a sum's is the sum of its terms'.

    Sums and what is read besides by a layer come first, because their errors go furthest; the term that is read by the
    sum alone makes up the difference.
    """
    shift: dict[str, np.ndarray] = {}
    for name in group:
        if made_by[name].op_type != "Add":
            continue
        stream, branch = sorted(made_by[name].input, key=lambda term: len(read_by[term]), reverse=True)
        if stream not in shift and branch not in shift:
            shift[stream] = _centre(moments[stream])
        if stream in shift and branch in shift:
            shift[name] = shift[stream] + shift[branch]
        else:
            shift[name] = _centre(moments[name])
            placed, other = (stream, branch) if stream in shift else (branch, stream)
            shift[other] = shift[name] - shift[placed]
    return {name: shift.get(name, _centre(moments[name])) for name in group}


def _centre(moments: Moments) -> np.ndarray:
    """The middle of each channel: of its extremes, which few images know badly, and of its mean, half and half."""
    return np.asarray(((moments.low + moments.high) / 2 + moments.mean) / 2)


def _scale_group(
    group: list[str],
    makers: list[NodeProto],
    readers: list[NodeProto],
    made_by: Mapping[str, NodeProto],
    moments: Mapping[str, Moments],
    shift: Mapping[str, np.ndarray],
    values: dict[str, np.ndarray],
    balance: float,
    linear_balance: float,
) -> dict[str, Moments]:
    """Change ``values`` for one group; give its tensors' moments after that."""
    linear = _is_linear(group, made_by)
    observed = [name for name in group if name in moments]
    low = np.min([moments[name].low - shift.get(name, 0.0) for name in observed], axis=0)
    high = np.max([moments[name].high - shift.get(name, 0.0) for name in observed], axis=0)
    magnitude = np.maximum(np.abs(low), np.abs(high))
    alive = magnitude > 0
    magnitude = np.where(alive, magnitude, 1.0)
    share = np.max([_largest_share(node, values[node.input[1]], magnitude) for node in readers], axis=0)
    # A millionth keeps a channel that nobody reads from a scale of zero.
    scale = np.where(alive, np.maximum(share, 1e-6) ** (linear_balance if linear else balance) / magnitude, 1.0)
    if linear:
        scale = np.where(high + low < 0, -scale, scale)
    for node in makers:
        weight, bias = node.input[1:3]
        grouped = as_groups(node, values[weight])
        factors = scale.reshape(grouped.shape[0], grouped.shape[1], 1, 1)
        values[weight] = from_groups(node, grouped * factors, values[weight].shape)
        values[bias] = (values[bias] - shift.get(node.output[0], 0.0)) * scale
    for node in readers:
        weight, bias = node.input[1:3]
        grouped = as_groups(node, values[weight])
        moved = np.broadcast_to(shift.get(node.input[0], 0.0), scale.shape).reshape(
            grouped.shape[0], 1, grouped.shape[2], 1
        )
        values[bias] = values[bias] + (grouped * moved).sum(axis=(2, 3)).ravel()
        factors = scale.reshape(grouped.shape[0], 1, grouped.shape[2], 1)
        values[weight] = from_groups(node, grouped / factors, values[weight].shape)
    return {name: moments[name].moved(shift.get(name, 0.0), scale) for name in observed}


def _largest_share(node: NodeProto, weight: np.ndarray, magnitude: np.ndarray) -> np.ndarray:
    """For each input channel, its largest |weight| x magnitude in relation to the largest of the same output."""
    grouped = np.abs(as_groups(node, weight)).max(axis=3)
    terms = grouped * magnitude.reshape(grouped.shape[0], 1, grouped.shape[2])
    largest = terms.max(axis=2, keepdims=True)
    shares = np.divide(terms, largest, out=np.zeros_like(terms), where=largest > 0)
    return np.asarray(shares.max(axis=1).ravel())
