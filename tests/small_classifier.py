"""A classifier small enough to be built, quantized and run in a second, shaped like MNASNet's first blocks."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from mnasbench.build.package import CompiledModel, write_package
from mnasbench.preprocessing import as_pair
from mnasbench.runtimes import RUNTIMES
from mnasbench.runtimes.onnxruntime_layout import FastInput

CLASSES = 10


class _Builder:
    """Adds layers one after another, with seeded weights."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.constants: list[TensorProto] = []

    def constant(self, array: np.ndarray) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        output = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], f"node_{output}", **attributes))
        return output

    def conv(self, tensor: str, before: int, after: int, kernel: int, stride: int = 1, depthwise: bool = False) -> str:
        group = before if depthwise else 1
        weight = self.random.normal(size=(after, before // group, kernel, kernel))
        weight /= np.sqrt(weight[0].size)
        pad = kernel // 2
        return self.node(
            "Conv",
            tensor,
            self.constant(weight),
            self.constant(self.random.normal(size=after) / 4),
            kernel_shape=[kernel] * 2,
            strides=[stride] * 2,
            pads=[pad] * 4,
            group=group,
        )


def float_classifier(
    size: int | tuple[int, int] = 32, stem: int = 8, narrow: int = 6, wide: int = 20, head: int = 32, seed: int = 0
) -> ModelProto:
    """Stem, depthwise and pointwise, an expanding block, a residual one, pooling, logits; input (batch, 3, *size)."""
    b = _Builder(seed)
    x = b.node("Relu", b.conv("input", 3, stem, 3, stride=2))
    x = b.node("Relu", b.conv(x, stem, stem, 3, depthwise=True))
    x = b.conv(x, stem, narrow, 1)
    x = b.node("Relu", b.conv(x, narrow, wide, 1))
    x = b.node("Relu", b.conv(x, wide, wide, 3, stride=2, depthwise=True))
    x = shortcut = b.conv(x, wide, narrow, 1)
    x = b.node("Relu", b.conv(x, narrow, wide, 1))
    x = b.node("Relu", b.conv(x, wide, wide, 5, depthwise=True))
    x = b.node("Add", b.conv(x, wide, narrow, 1), shortcut)
    x = b.node("Relu", b.conv(x, narrow, head, 1))
    x = b.node("Flatten", b.node("GlobalAveragePool", x), axis=1)
    weight, bias = b.constant(b.random.normal(size=(CLASSES, head))), b.constant(b.random.normal(size=CLASSES))
    b.nodes.append(helper.make_node("Gemm", [x, weight, bias], ["output"], "gemm", transB=1))
    graph = helper.make_graph(
        b.nodes,
        "classifier",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, *as_pair(size)])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", CLASSES])],
        b.constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


class _Noise(CalibrationDataReader):
    def __init__(self, shape: list[int]) -> None:
        self._batches: Iterator[np.ndarray] = iter(np.random.default_rng(1).normal(size=(2, 4, *shape)))

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"input": batch.astype(np.float32)}


def quantized(model: ModelProto, folder: Path, float_nodes: Sequence[str] = ()) -> ModelProto:
    """``model`` as ONNX Runtime's own quantizer writes it: U8 activations, S8 weights per channel, QDQ."""
    import onnx

    target = folder / "quantized.onnx"
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim[1:]]
    quantize_static(
        model,
        target,
        _Noise(shape),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        nodes_to_exclude=list(float_nodes),
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return onnx.load(target)


def model_info(model: ModelProto, blocks: FastInput | None) -> dict[str, Any]:
    """model_info as the compiler writes it."""
    shape = [dim.dim_value or dim.dim_param for dim in model.graph.input[0].type.tensor_type.shape.dim]
    entry = {"name": "input", "dtype": "uint8" if blocks else "float32", "shape": shape}
    return {
        "name": "small",
        "engine": "ort",
        "precision": "int8-max" if blocks else "fp32",
        "inputs": [{**entry, **({"blocks": asdict(blocks)} if blocks else {})}],
        "outputs": [{"name": "output", "dtype": "float32", "shape": ["batch", CLASSES], "softmax": False}],
        "preprocessing": {},
        "normalisation": "outside",
        "layout": "NCHW",
        "quantization": None,
        "sources": {},
        "notes": [],
    }


def package(folder: Path, model: ModelProto, runtime: str = "onnxruntime") -> CompiledModel:
    """``model`` prepared for the runtime and written as three files at ``folder``/small."""
    prepared = RUNTIMES[runtime].prepare(model)
    info = model_info(prepared.model, prepared.blocks) | {"runtime": runtime}
    return write_package(folder / "small", prepared.model, info)
