"""Channels that can never say anything, taken out of the sums: exact, whatever the image.

A channel is dead where its weights are zeros (it is a constant), where the bounds of what it reads keep it at or below
zero in front of a ReLU, or where nobody reads it. Its width stays: kernels are fastest at the widths that a net was
drawn with, and zeros cost no quantizer a step.
"""

from collections.abc import Mapping

import numpy as np
from onnx import ModelProto, NodeProto

from mnasbench.build.bounds import bounds, clip_bounds
from mnasbench.build.equalize import as_groups, from_groups
from mnasbench.build.graph import constants, consumers, integers, layers, with_constants


def without_dead_channels(model: ModelProto) -> tuple[ModelProto, dict[str, int]]:
    """A copy whose dead channels have zeros for weights and biases, and how many each layer has, by its name.

    What a constant channel gave stands in its readers' biases, where none of them pads with zeros.
    """
    values = {name: value.astype(np.float64) for name, value in constants(model).items() if value.dtype.kind == "f"}
    limits = bounds(model)
    own = layers(model)
    names = {node.name for node in own}
    silent: dict[str, int] = {}
    for node in own:
        chain = _behind(node, model, names, values)
        if chain is None:
            continue
        low, high, readers = chain
        weight = as_groups(node, values[node.input[1]])
        bias = values[node.input[2]]
        is_constant = ~weight.any(axis=(2, 3)).ravel()
        constant = np.clip(bias, low, high)
        below = np.zeros_like(is_constant)
        if low == 0:
            below = _greatest(weight, bias, limits.get(node.input[0], (-np.inf, np.inf))) <= 0
            constant = np.where(below & ~is_constant, 0.0, constant)
        padded = any(any(integers(reader, "pads", [0])) for reader in readers)
        dead = below | (is_constant & ((constant == 0) | (not padded)))
        read = np.zeros(len(bias), bool)
        for reader in readers:
            columns = as_groups(reader, values[reader.input[1]])
            read |= columns.any(axis=(1, 3)).ravel()
        dead |= ~read
        # What is silent already needs no change, and is not counted twice.
        dead &= weight.any(axis=(2, 3)).ravel() | (bias != 0) | read
        if not dead.any():
            continue
        silent[node.name] = int(dead.sum())
        for reader in readers:
            _absorb(reader, np.where(dead & read, constant, 0.0), dead, values)
        kept = (~dead).astype(np.float64)
        values[node.input[1]] = from_groups(
            node, weight * kept.reshape(weight.shape[0], weight.shape[1], 1, 1), values[node.input[1]].shape
        )
        values[node.input[2]] = bias * kept
    return (with_constants(model, values), silent) if silent else (model, silent)


def _behind(
    node: NodeProto, model: ModelProto, names: set[str], values: Mapping[str, np.ndarray]
) -> tuple[float, float, list[NodeProto]] | None:
    """Between which values the layer's output is cut, and the layers that read it; None where others read it."""
    readers = consumers(model)
    tensor, low, high = node.output[0], -np.inf, np.inf
    while tensor != model.graph.output[0].name:
        read = readers.get(tensor, [])
        if read and all(reader.name in names for reader in read):
            return low, high, read
        if len(read) != 1 or read[0].op_type not in ("Relu", "Clip"):
            return None
        ends = (0.0, np.inf) if read[0].op_type == "Relu" else clip_bounds(read[0], values)
        low, high = max(low, ends[0]), min(high, ends[1])
        tensor = read[0].output[0]
    return None


def _greatest(weight: np.ndarray, bias: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """The greatest value of each output, (outputs,), where every input lies within ``limits``."""
    with np.errstate(invalid="ignore"):
        products = [np.where(weight == 0, 0.0, weight * end) for end in limits]
    return np.asarray(np.maximum(*products).sum(axis=(2, 3)).ravel() + bias)


def _absorb(reader: NodeProto, constant: np.ndarray, dead: np.ndarray, values: dict[str, np.ndarray]) -> None:
    """Move a constant on each input channel into a layer's bias, and zero the weights of the dead ones."""
    weight, bias = reader.input[1:3]
    grouped = as_groups(reader, values[weight])
    by_input = (grouped.shape[0], 1, grouped.shape[2], 1)
    values[bias] = values[bias] + (grouped * constant.reshape(by_input)).sum(axis=(2, 3)).ravel()
    values[weight] = from_groups(reader, np.where(dead.reshape(by_input), 0.0, grouped), values[weight].shape)
