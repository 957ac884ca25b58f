"""Error by layer: the rows of quantization.csv."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from onnx import ModelProto

from mnasbench.build.gate import sqnr_db
from mnasbench.build.graph import constants, consumers, layers
from mnasbench.build.observer import Histogram, Moments
from mnasbench.build.quantize import visible_output
from mnasbench.build.ranges import Range, squared_error


def layer_rows(
    model: ModelProto,
    quantized_weights: Mapping[str, np.ndarray],
    ranges: Mapping[str, Range],
    histograms: Mapping[str, Histogram],
    moments: Mapping[str, Moments],
    float_nodes: Collection[str],
) -> list[dict[str, Any]]:
    """A row for each Conv and Gemm: what its weights and its output lost, None where a figure does not apply.

    weight_sqnr_db: float weights (equalized) against quantized ones. activation_sqnr_db: the layer's output, after
    the ReLU that it absorbs, against its 8-bit steps. clipped_share: of the output's values outside its range.
    saturated_channels: output channels of which a calibration value lies outside.
    """
    weights, readers = constants(model), consumers(model)
    rows = []
    for node in layers(model):
        row: dict[str, Any] = {"layer": node.name, "precision": "fp32" if node.name in float_nodes else "int8"}
        rounded = quantized_weights.get(node.input[1])
        row["weight_sqnr_db"] = None if rounded is None else _finite(sqnr_db(weights[node.input[1]], rounded))
        row |= _activation(visible_output(node, readers), ranges, histograms, moments)
        rows.append(row)
    return rows


def _activation(
    name: str, ranges: Mapping[str, Range], histograms: Mapping[str, Histogram], moments: Mapping[str, Moments]
) -> dict[str, Any]:
    keys = ("activation_sqnr_db", "range_low", "range_high", "clipped_share", "saturated_channels")
    if name not in ranges:
        return dict.fromkeys(keys)
    chosen, histogram, channel = ranges[name], histograms[name], moments[name]
    centres = histogram.edges[:-1] + histogram.width / 2
    power = float(histogram.counts @ np.square(centres))
    error = squared_error(histogram, chosen)
    outside = histogram.counts[(centres < chosen.low) | (centres > chosen.high)].sum()
    saturated = np.count_nonzero((channel.low < chosen.low) | (channel.high > chosen.high))
    decibel = 10 * np.log10(power / error) if power and error else None
    values = (decibel, chosen.low, chosen.high, outside / histogram.count, int(saturated))
    return {key: value if value is None else _plain(value) for key, value in zip(keys, values, strict=True)}


def _plain(value: float) -> float | int:
    return value if isinstance(value, int) else float(value)


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
