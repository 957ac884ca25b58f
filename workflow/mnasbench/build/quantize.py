"""Write a float graph as the int8 graph that ONNX Runtime runs: QuantizeLinear/DequantizeLinear with our ranges."""

import logging
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.calibrate import TensorData, TensorsData, save_tensors_data

from mnasbench.build.graph import WEIGHTED, attribute, constants, consumers, drop_unused_constants, producers
from mnasbench.build.ranges import Range

# Operators for which ONNX Runtime's CPU provider has an int8 kernel, or that pass int8 through.
QUANTIZED_OPERATORS = (
    "Add", "AveragePool", "Clip", "Concat", "Conv", "Flatten", "Gemm", "GlobalAveragePool", "LeakyRelu", "MaxPool",
    "Mul", "Relu", "Reshape", "Sigmoid", "Squeeze", "Transpose", "Unsqueeze",
)  # fmt: skip
# Steps on each side of zero of a weight. Without VNNI, products of full-range 8-bit weights saturate in 16 bits.
FULL_STEPS, REDUCED_STEPS = 127, 64


def weight_axis(node: NodeProto) -> int:
    """The axis of output channels in the node's weight."""
    return 0 if node.op_type == "Conv" or attribute(node, "transB", 0) else 1


def weight_scales(node: NodeProto, weight: np.ndarray, steps: int, per_channel: bool) -> np.ndarray:
    """Scale of each output channel, (channels,) float32, the largest weight on the last step; symmetric about zero.

    A channel of zeros gets the scale 1. Without ``per_channel`` every channel has the tensor's scale.
    """
    axis = weight_axis(node)
    largest = np.abs(weight).max(axis=tuple(a for a in range(weight.ndim) if a != axis))
    if not per_channel:
        largest = np.full_like(largest, largest.max())
    return np.where(largest > 0, largest / steps, 1).astype(np.float32)


def quantized_tensors(model: ModelProto, float_nodes: Collection[str] = ()) -> list[str]:
    """Activations that are quantized: all that an int8 operator reads or makes, except what ReLU absorbs."""
    read_by, made_by, held = consumers(model), producers(model), constants(model)
    nodes = [n for n in model.graph.node if n.op_type in QUANTIZED_OPERATORS and n.name not in float_nodes]
    names = dict.fromkeys(t for n in nodes for t in (*n.input, *n.output) if t and t not in held)
    result = model.graph.output[0].name
    return [t for t in names if t != result and not (t in made_by and absorbed(made_by[t], read_by.get(t, [])))]


def float_closure(model: ModelProto, layers: Collection[str]) -> frozenset[str]:
    """``layers`` and the operators that stand between float layers alone, for which 8 bits would only lose."""
    float_nodes = set(layers)
    read_by, made_by = consumers(model), producers(model)
    others = {node.name: node for node in model.graph.node if node.op_type not in WEIGHTED}
    while others:
        _, start = others.popitem()
        region, waiting, all_float = {start.name}, [start], True
        while waiting:
            node = waiting.pop()
            beside = [made_by[name] for name in node.input if name in made_by]
            beside += [reader for name in node.output for reader in read_by.get(name, [])]
            all_float &= all(other.name in float_nodes for other in beside if other.op_type in WEIGHTED)
            waiting += [others.pop(other.name) for other in beside if other.name in others]
            region |= {other.name for other in waiting}
        if all_float:
            float_nodes |= region
    return frozenset(float_nodes)


def absorbed(node: NodeProto, readers: list[NodeProto]) -> bool:
    """Whether the node's output is never seen because the one ReLU or Clip that reads it becomes part of it."""
    return node.op_type in (*WEIGHTED, "Add") and len(readers) == 1 and readers[0].op_type in ("Relu", "Clip")


def write_qdq(
    model: ModelProto,
    ranges: Mapping[str, Range],
    scales: Mapping[str, np.ndarray],
    float_nodes: Collection[str] = (),
) -> ModelProto:
    """``model`` with activations U8 by ``ranges`` and weights S8 by ``scales`` (weight name -> (channels,) float32).

    Nodes named in ``float_nodes`` keep float weights and float arithmetic. The graph's output stays float.
    """
    nodes = {node.input[1]: node for node in model.graph.node if node.op_type in WEIGHTED}
    overrides = {
        name: [
            {"axis": weight_axis(nodes[name]), "scale": scale, "zero_point": 0, "quant_type": QuantType.QInt8}
            for scale in values
        ]
        for name, values in scales.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        cache, written = Path(folder) / "ranges.json", Path(folder) / "quantized.onnx"
        save_tensors_data(_tensors_data(model, ranges), cache)
        logger = logging.getLogger()
        level = logger.level
        logger.setLevel(logging.ERROR)  # it advises a pre-processing that graph.prepare has done
        try:
            quantize_static(
                model,
                written,
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(QUANTIZED_OPERATORS),
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=list(float_nodes),
                calibrate_method=CalibrationMethod.MinMax,
                calibration_cache_path=cache,
                extra_options={"TensorQuantOverrides": overrides, "QDQDisableWeightAdjustForInt32Bias": True},
            )
        finally:
            logger.setLevel(level)
        quantized = onnx.load(written)
    _leave_output_float(quantized)
    return quantized


def _tensors_data(model: ModelProto, ranges: Mapping[str, Range]) -> TensorsData:
    """Every activation's range as ONNX Runtime wants it; those that are not quantized get a range that is not used."""
    names = [model.graph.input[0].name, *(name for node in model.graph.node for name in node.output)]
    data = {}
    for name in names:
        chosen = ranges.get(name, Range(0.0, 1.0))
        data[name] = TensorData(lowest=np.float32(chosen.low), highest=np.float32(chosen.high))
    return TensorsData(CalibrationMethod.MinMax, data)


def _leave_output_float(model: ModelProto) -> None:
    """Drop the last QuantizeLinear/DequantizeLinear pair: logits in 8 bits would lose accuracy and gain no speed."""
    output = model.graph.output[0].name
    made_by = producers(model)
    dequantize = made_by[output]
    if dequantize.op_type != "DequantizeLinear" or made_by[dequantize.input[0]].op_type != "QuantizeLinear":
        return
    quantize = made_by[dequantize.input[0]]
    made_by[quantize.input[0]].output[0] = output
    for node in (quantize, dequantize):
        model.graph.node.remove(node)
    drop_unused_constants(model)
