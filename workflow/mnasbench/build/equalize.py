"""Exact changes of the float graph after which 8 bits lose less: channels scaled, shifted and mirrored.

Between a layer and the layers that read it, channel c may be multiplied by s_c and the readers' weights for it
divided by s_c (cross-layer equalization, Nagel et al. 2019, "Data-free quantization through weight equalization and
bias correction"; between a LayerNormalization and the matrices behind it, SmoothQuant, Xiao et al. 2022).
:mod:`mnasbench.build.channels` says which channels. Where no ReLU stands between and no reader pads with zeros, a
channel's mean may also be moved into the readers' biases, and a channel may be mirrored.

The scale is chosen from what the net computes and not from how its weights happen to be scaled, so a net and
any rescaling of its hidden channels come out the same.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, NodeProto

from mnasbench.build.channels import FIXED, Channels, Edit, channels_of
from mnasbench.build.graph import (
    attribute,
    constants,
    consumers,
    integers,
    layers,
    producers,
    with_constants,
)
from mnasbench.build.observer import Moments


@dataclass(frozen=True)
class Equalized:
    """The changed graph and its activations' moments; names of observed tensors by what became of them.

    ``scaled``: at least one of its channels has a scale of its own; ``left``: none has, the image apart.
    """

    model: ModelProto
    moments: dict[str, Moments]
    scaled: list[str]
    left: list[str]


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
    # Moments are by the second axis; a tensor whose channels lie along another one keeps its scale.
    before = channels_of(model)
    turned = [name for name in moments if _along(before, moments, name) is None]
    channels = channels_of(model, turned) if turned else before
    by_channel = {name: _along(channels, moments, name) for name in moments}
    observed = {name: scales for name, scales in by_channel.items() if scales is not None}
    # Integers are shapes and places: through floats a large one would become another.
    held = constants(model)
    values = {name: value.astype(np.float64) if value.dtype.kind == "f" else value for name, value in held.items()}
    shift = _shifts_of(model, channels, moments)
    scale = _scales(model, channels, observed, moments, shift, values, balance, linear_balance)
    changed = {
        name: moments[name].moved(shift.get(name, 0.0), scale[observed[name]]) if name in observed else moment
        for name, moment in moments.items()
    }
    free = {name: bool((scales != FIXED).any()) for name, scales in observed.items()}
    _move_biases(model, shift, values)
    return Equalized(
        with_scales(model, channels.edits, scale, values),
        changed,
        [name for name in moments if free.get(name)],
        [name for name in moments if not free.get(name) and name != model.graph.input[0].name],
    )


def _along(channels: Channels, moments: Mapping[str, Moments], name: str) -> np.ndarray | None:
    return channels.along(name, len(moments[name].low))


def _scales(
    model: ModelProto,
    channels: Channels,
    observed: Mapping[str, np.ndarray],
    moments: Mapping[str, Moments],
    shift: Mapping[str, np.ndarray],
    values: Mapping[str, np.ndarray],
    balance: float,
    linear_balance: float,
) -> np.ndarray:
    """The factor of each scale, (scales,)."""
    low, high = np.zeros(channels.count), np.zeros(channels.count)
    for name, scales in observed.items():
        np.minimum.at(low, scales, moments[name].low - shift.get(name, 0.0))
        np.maximum.at(high, scales, moments[name].high - shift.get(name, 0.0))
    magnitude = np.maximum(-low, high)
    alive = magnitude > 0
    alive[FIXED] = False
    magnitude = np.where(alive, magnitude, 1.0)
    share = np.zeros(channels.count)
    readers = [node for node in layers(model) if node.input[0] in observed]
    weighing = {node.name for node in readers}
    for edit in channels.edits:
        # A product with a constant for each channel sees no other channel.
        if edit.node not in weighing:
            share[edit.over] = 1.0
    for node in readers:
        scales, own = observed[node.input[0]], moments[node.input[0]]
        terms = np.where(scales == FIXED, np.maximum(-own.low, own.high), magnitude[scales])
        np.maximum.at(share, scales, _largest_share(node, values[node.input[1]], terms))
    # A millionth keeps a channel that nobody reads from a scale of zero.
    power = np.where(channels.positive, balance, linear_balance)
    level = _levels(channels, observed, moments)
    scale = np.where(alive, level * np.maximum(share, 1e-6) ** power / magnitude, 1.0)
    scale = np.where(~channels.positive & (high + low < 0), -scale, scale)
    scale[FIXED] = 1.0
    return np.asarray(scale)


def _levels(channels: Channels, observed: Mapping[str, np.ndarray], moments: Mapping[str, Moments]) -> np.ndarray:
    """The magnitude that each scale brings its channels to: of those beside them that cannot be scaled, or 1."""
    level = np.zeros(channels.count)
    for name, scales in observed.items():
        fixed = scales == FIXED
        if fixed.any():
            reached = np.maximum(-moments[name].low, moments[name].high)
            np.maximum.at(level, scales, reached[fixed].max())
    return np.where(level > 0, level, 1.0)


def _shifts_of(model: ModelProto, channels: Channels, moments: Mapping[str, Moments]) -> dict[str, np.ndarray]:
    """What to take off each channel of each tensor, where a constant goes through to biases that can take it off."""
    made_by, read_by, own = producers(model), consumers(model), {node.name for node in layers(model)}
    groups: dict[bytes, list[str]] = {}
    for name, scales in channels.of.items():
        groups.setdefault(scales.tobytes(), []).append(name)
    # A scale of several kinds of tensors ties a part of their channels alone.
    times = np.zeros(channels.count, int)
    for group in groups.values():
        np.add.at(times, np.unique(channels.of[group[0]]), 1)
    shift: dict[str, np.ndarray] = {}
    for group in groups.values():
        scales = channels.of[group[0]]
        if (scales == FIXED).any() or (times[scales] > 1).any() or len(np.unique(scales)) < scales.size:
            continue
        if _is_movable(group, made_by, read_by, own) and all(name in moments for name in group):
            shift |= _shifts(group, made_by, read_by, moments)
    return shift


def _is_movable(
    group: list[str], made_by: Mapping[str, NodeProto], read_by: Mapping[str, list[NodeProto]], own: Collection[str]
) -> bool:
    """Whether layers and sums alone make the tensors, and what else reads them is a layer that pads with nothing."""
    makers = [made_by.get(name) for name in group]
    readers = [node for name in group for node in read_by.get(name, []) if node.output[0] not in group]
    linear = all(
        node is not None and (node.name in own or (node.op_type == "Add" and set(node.input) <= set(group)))
        for node in makers
    )
    padded = any(node.name not in own or any(integers(node, "pads", [0])) for node in readers)
    return linear and bool(readers) and not padded


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


def _move_biases(model: ModelProto, shift: Mapping[str, np.ndarray], values: dict[str, np.ndarray]) -> None:
    """Take the shifts off the biases of the layers that make them and give them to those that read them."""
    for node in layers(model):
        _, weight, bias = node.input
        values[bias] = values[bias] - shift.get(node.output[0], 0.0)
        if node.input[0] in shift:
            grouped = as_groups(node, values[weight])
            moved = shift[node.input[0]].reshape(grouped.shape[0], 1, grouped.shape[2], 1)
            values[bias] = values[bias] + (grouped * moved).sum(axis=(2, 3)).ravel()


def with_scales(
    model: ModelProto, edits: Sequence[Edit], scale: np.ndarray, values: Mapping[str, np.ndarray]
) -> ModelProto:
    """A copy of the graph with its constants changed; one that several nodes read becomes one for each."""
    copy = ModelProto()
    copy.CopyFrom(model)
    nodes = {node.name: node for node in copy.graph.node}
    uses = Counter(name for node in copy.graph.node for name in node.input)
    kinds = {tensor.name: tensor.data_type for tensor in copy.graph.initializer}
    changed = dict(values)
    for edit in edits:
        factor = scale[edit.times] / scale[edit.over]
        if (factor == 1).all():
            continue
        node = nodes[edit.node]
        name = node.input[edit.position]
        if uses[name] > 1:
            node.input[edit.position] = f"{edit.node}.{edit.position}"
            copy.graph.initializer.add(name=node.input[edit.position], data_type=kinds[name])
        changed[node.input[edit.position]] = values[name] * factor
    return with_constants(copy, changed)


def _largest_share(node: NodeProto, weight: np.ndarray, magnitude: np.ndarray) -> np.ndarray:
    """For each input channel, its largest |weight| x magnitude in relation to the largest of the same output."""
    grouped = np.abs(as_groups(node, weight)).max(axis=3)
    terms = grouped * magnitude.reshape(grouped.shape[0], 1, grouped.shape[2])
    largest = terms.max(axis=2, keepdims=True)
    shares = np.divide(terms, largest, out=np.zeros_like(terms), where=largest > 0)
    return np.asarray(shares.max(axis=1).ravel())
