"""Weights rounded and biases corrected, layer by layer, on the inputs that the quantized layers before really give.

For each layer with weights two things are set that cost nothing at run time: how its weights are rounded
(:mod:`mnasbench.build.rounding`), and its bias, so that the mean of each output channel is the float model's
(full sequential bias correction, Nagel et al. 2019, section 4.2).
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, NodeProto, helper

from mnasbench.build.equalize import as_groups, from_groups
from mnasbench.build.graph import constants, consumers, integers, layers
from mnasbench.build.quantize import weight_scales
from mnasbench.build.ranges import Range
from mnasbench.build.rounding import round_by_descent, round_by_gptq, round_to_nearest
from mnasbench.runtimes.onnxruntime import open_session

# Wider layers (a 3 x 3 Conv on 512 channels) are rounded to the nearest: the inverse of their covariance takes minutes.
_WIDEST = 2304
# Positions that the covariance of a layer's inputs is taken from. Dense: a multiple of the inputs of MNASNet's widest
# layer. Grouped: for each weight of an output (a depthwise Conv has 9 or 25).
_POSITIONS, _POSITIONS_A_WEIGHT = 8192, 64
# Positions of one product; small maps of several images are joined up to them.
_POSITIONS_AT_ONCE = 1024
_INT32 = 2.0**31
# Images that it is taken from at least, however many positions each has.
_LEAST_IMAGES = 8


class OutOfTimeError(Exception):
    """The pass was not done by the time that it was given."""


@dataclass(frozen=True)
class Way:
    """How weights are learned beyond GPTQ: their rounding by descent and, with ``ridge``, their values by regression.

    ``ridge``: how far weights are held to the exported ones, in shares of the mean variance of a layer's inputs.
    """

    name: str
    ridge: float | None = None


@dataclass(frozen=True)
class Corrected:
    """Rounded weights and corrected biases by name, the weights' scales by name, layers rounded to the nearest."""

    values: dict[str, np.ndarray]
    scales: dict[str, np.ndarray]
    nearest: list[str]


def correct(
    model: ModelProto,
    images: np.ndarray,
    ranges: Mapping[str, Range],
    means: Mapping[str, np.ndarray],
    *,
    steps: int,
    per_channel: bool,
    gptq: bool,
    correct_bias: bool,
    float_nodes: frozenset[str] = frozenset(),
    way: Way | None = None,
    deadline: float = float("inf"),
) -> Corrected:
    """Walk ``model`` with ``images`` (n, 3, H, W) through quantized activations; set weights and biases.

    ``ranges``: of each activation that is quantized; ``means``: of each weighted layer's output, by channel, in the
    float model over the same images; ``way``: what is learned besides. Holds the activations of one layer of all
    images at a time, with a ridge those of the float model as well. OutOfTimeError at the first node after
    ``deadline``, a time of ``time.monotonic``.
    """
    values = dict(constants(model))
    readers = {name: len(nodes) for name, nodes in consumers(model).items()}
    source = model.graph.input[0].name
    opset = next(entry for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    alive = {source: _quantized(images, ranges.get(source))}
    ridge = None if way is None else way.ridge
    floats = {source: images} if ridge is not None else {}
    changed: dict[str, np.ndarray] = {}
    scales: dict[str, np.ndarray] = {}
    nearest: list[str] = []
    own = {node.name for node in layers(model)} - float_nodes
    for node in model.graph.node:
        if time.monotonic() > deadline:
            raise OutOfTimeError
        inputs = {name: alive[name] if name in alive else values[name] for name in node.input if name}
        is_layer = node.name in own
        if ridge is not None:
            floats |= _run(node, {n: floats[n] if n in floats else values[n] for n in node.input if n}, opset)
        if is_layer:
            weight, bias = node.input[1:3]
            step, _ = ranges[node.input[0]].scale_and_zero_point
            aimed_at = values[weight]
            if ridge is not None:
                residual = floats[node.output[0]] - _run(node, inputs, opset)[node.output[0]]
                aimed_at = _refitted(node, inputs[node.input[0]], residual, aimed_at, ridge)
            scales[weight] = weight_scales(node, aimed_at, steps, per_channel, values[bias], float(step))
            rounded, was_nearest = _rounded(node, inputs[node.input[0]], aimed_at, scales[weight], steps, gptq, way)
            nearest += [node.name] if was_nearest else []
            changed[weight] = inputs[weight] = rounded
        outputs = _run(node, inputs, opset)
        if is_layer and correct_bias:
            drift = means[node.output[0]] - _channel_means(outputs[node.output[0]])
            # A bias that would leave its 32 bits is worse than an error that stays.
            room = _INT32 * step.astype(np.float64) * scales[weight]
            drift = np.where(np.abs(values[bias] + drift) < room, drift, 0.0)
            changed[bias] = (values[bias] + drift).astype(np.float32)
            outputs[node.output[0]] += drift.astype(np.float32).reshape(-1, *[1] * (outputs[node.output[0]].ndim - 2))
        alive |= {name: _quantized(value, ranges.get(name)) for name, value in outputs.items()}
        for name in {name for name in node.input if name in alive}:
            readers[name] -= 1
            if not readers[name]:
                del alive[name]
                floats.pop(name, None)
    return Corrected(changed, scales, nearest)


def _refitted(
    node: NodeProto, values: np.ndarray, residual: np.ndarray, weight: np.ndarray, ridge: float
) -> np.ndarray:
    """``weight`` changed so that it makes good ``residual``, what the float model's output has beyond the layer's own.

    The solution of least squares with ``ridge``, on the positions that the covariance is taken from.
    """
    grouped = as_groups(node, weight.astype(np.float64))
    groups, outputs, inputs, taps = grouped.shape
    size = inputs * taps
    if size > _WIDEST:
        return weight
    enough = _POSITIONS if groups == 1 else _POSITIONS_A_WEIGHT * size
    squares, products = np.zeros((groups, size, size)), np.zeros((groups, outputs, size))
    total, missing, positions = np.zeros((groups, size)), np.zeros((groups, outputs)), 0
    lacks = [residual.T[None]] if node.op_type == "Gemm" else [one.reshape(groups, outputs, -1) for one in residual]
    for columns, lack in zip(_columns(node, values, groups), lacks, strict=True):
        squares += columns @ columns.transpose(0, 2, 1)
        products += lack @ columns.transpose(0, 2, 1)
        total += columns.sum(axis=2, dtype=np.float64)
        missing += lack.sum(axis=2, dtype=np.float64)
        positions += columns.shape[2]
        if positions >= max(enough, _LEAST_IMAGES * columns.shape[2]):
            break
    mean, lost = total / positions, missing / positions
    covariance = squares / positions - mean[:, :, None] * mean[:, None, :]
    together = products / positions - lost[:, :, None] * mean[:, None, :]
    diagonal = np.einsum("gii->gi", covariance)
    level = diagonal.mean(axis=1, keepdims=True)
    diagonal += np.where(level > 0, ridge * level, 1.0)
    change = np.linalg.solve(covariance, together.transpose(0, 2, 1)).transpose(0, 2, 1)
    refitted = grouped + change.reshape(grouped.shape)
    return from_groups(node, refitted, weight.shape).astype(np.float32)


def _channel_means(values: np.ndarray) -> np.ndarray:
    return np.asarray(values.mean(axis=tuple(a for a in range(values.ndim) if a != 1), dtype=np.float64))


def _quantized(values: np.ndarray, chosen: Range | None) -> np.ndarray:
    """``values`` as the steps of its range give them back; unchanged where the tensor stays float."""
    return values if chosen is None else chosen.in_steps(values)


def _run(node: NodeProto, inputs: Mapping[str, np.ndarray], opset: object) -> dict[str, np.ndarray]:
    """The outputs of one node."""
    given = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in inputs.items()
    ]
    made = [helper.make_empty_tensor_value_info(name) for name in node.output if name]
    graph = helper.make_graph([node], node.name, given, made)
    names = [value.name for value in made]
    results = open_session(helper.make_model(graph, opset_imports=[opset], ir_version=10)).run(names, dict(inputs))
    return dict(zip(names, results, strict=True))


def _rounded(
    node: NodeProto, values: np.ndarray, weight: np.ndarray, scales: np.ndarray, steps: int, gptq: bool, way: Way | None
) -> tuple[np.ndarray, bool]:
    """The weight on its grid, and whether its error could not be taken into account."""
    grouped = as_groups(node, weight.astype(np.float64))
    groups, outputs, inputs, taps = grouped.shape
    flat = grouped.reshape(groups, outputs, inputs * taps)
    grid = scales.astype(np.float64).reshape(groups, outputs)
    too_wide = inputs * taps > _WIDEST
    if too_wide or not gptq:
        flat = round_to_nearest(flat, grid, steps)
    else:
        covariance = _covariance(node, values, groups, taps)
        rounded = round_by_gptq(flat, grid, steps, covariance)
        flat = rounded if way is None else round_by_descent(rounded, flat, grid, steps, covariance)
    return from_groups(node, flat.reshape(grouped.shape), weight.shape).astype(np.float32), too_wide and gptq


def _covariance(node: NodeProto, values: np.ndarray, groups: int, taps: int) -> np.ndarray:
    """Covariance of what each weight of a group is multiplied by, (groups, inputs x taps, inputs x taps) float64."""
    size = values.shape[1] // groups * taps
    total = np.zeros((groups, size))
    squares = np.zeros((groups, size, size))
    positions, images = 0, 0
    enough = _POSITIONS if groups == 1 else _POSITIONS_A_WEIGHT * size
    shift = None
    for columns, joined in _joined(_columns(node, values, groups)):
        # Taken about a point near the mean, so that single precision is enough for inputs that hardly vary.
        shift = columns.mean(axis=2, keepdims=True) if shift is None else shift
        about = columns - shift
        total += about.sum(axis=2, dtype=np.float64)
        squares += about @ about.transpose(0, 2, 1)
        positions, images = positions + about.shape[2], images + joined
        if positions >= enough and images >= _LEAST_IMAGES:
            break
    mean = total / positions
    return np.asarray(squares / positions - mean[:, :, None] * mean[:, None, :])


def _joined(parts: Iterator[np.ndarray]) -> Iterator[tuple[np.ndarray, int]]:
    """Arrays (groups, weights, positions) of several images in one, and of how many: each product writes all sums."""
    waiting: list[np.ndarray] = []
    for part in parts:
        waiting.append(part)
        if sum(one.shape[2] for one in waiting) >= _POSITIONS_AT_ONCE:
            yield np.concatenate(waiting, axis=2), len(waiting)
            waiting = []
    if waiting:
        yield np.concatenate(waiting, axis=2), len(waiting)


def _columns(node: NodeProto, values: np.ndarray, groups: int) -> Iterator[np.ndarray]:
    """What the weights are multiplied by, image by image (a Gemm: all at once): (groups, weights, positions)."""
    if node.op_type == "Gemm":
        yield values.T[None]
        return
    kernel = integers(node, "kernel_shape", [])
    strides, dilations = integers(node, "strides", [1, 1]), integers(node, "dilations", [1, 1])
    pads = integers(node, "pads", [0] * 4)
    span = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True)]
    for image in values:
        padded = np.pad(image, ((0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
        windows = np.lib.stride_tricks.sliding_window_view(padded, span, axis=(1, 2))
        windows = windows[:, :: strides[0], :: strides[1], :: dilations[0], :: dilations[1]]
        _, high, wide, *_ = windows.shape
        yield windows.transpose(0, 3, 4, 1, 2).reshape(groups, -1, high * wide)
