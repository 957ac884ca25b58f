"""The rewrite that lets OpenVINO take the bytes that an int8 graph begins with, in the order its kernels read them."""

from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper


@dataclass(frozen=True)
class InterleavedInput:
    """The input of a graph after ``interleaved_input``: uint8 (batch, height, width, 3), colours innermost, quantized.

    A value is ``round(normalised / scale) + zero_point``.
    """

    scale: float
    zero_point: int


def interleaved_input(model: ModelProto) -> tuple[ModelProto, InterleavedInput] | None:
    """The same function of the bytes that its first QuantizeLinear makes, their colours innermost.

    That is how OpenVINO's convolutions read an image. None for a graph that does not begin with QuantizeLinear to
    uint8. OpenVINO keeps a convolution in int8 only behind a quantization that it sees; one of scale 1 says that the
    bytes are quantized already, and is dropped by it. The Transpose stands behind that, because there it costs
    nothing: it becomes the order in memory.
    """
    copy = ModelProto()
    copy.CopyFrom(model)
    graph, entry = copy.graph, copy.graph.input[0]
    quantize, dequantize = _input_quantization(copy)
    if quantize is None or dequantize is None:
        return None
    name, (batch, _, height, width) = entry.name, entry.type.tensor_type.shape.dim
    values = {t.name: numpy_helper.to_array(t) for t in graph.initializer if t.name in quantize.input}
    input_format = InterleavedInput(*(values[key].item() for key in quantize.input[1:3]))
    graph.initializer.append(numpy_helper.from_array(np.array(1, np.float32), f"{name}_one"))
    graph.initializer.append(numpy_helper.from_array(np.array(0, np.uint8), f"{name}_zero"))
    values_in = [f"{name}_float", f"{name}_one", f"{name}_zero"]
    interleaved = f"{name}_interleaved"
    new = [
        helper.make_node("Cast", [name], [f"{name}_float"], f"{name}_float", to=TensorProto.FLOAT),
        helper.make_node("QuantizeLinear", values_in, [f"{name}_same"], f"{name}_same"),
        helper.make_node("DequantizeLinear", [f"{name}_same", *dequantize.input[1:]], [interleaved], interleaved),
        helper.make_node("Transpose", [interleaved], [dequantize.output[0]], f"{name}_order", perm=[0, 3, 1, 2]),
    ]
    nodes = [*new, *(node for node in graph.node if node not in (quantize, dequantize))]
    del graph.node[:]
    graph.node.extend(nodes)
    shape = [batch.dim_param or batch.dim_value, height.dim_value, width.dim_value, 3]
    entry.CopyFrom(helper.make_tensor_value_info(name, TensorProto.UINT8, shape))
    del graph.value_info[:]
    return copy, input_format


def _input_quantization(model: ModelProto) -> tuple[NodeProto | None, NodeProto | None]:
    """The QuantizeLinear (to uint8) and DequantizeLinear that alone read the graph's input; None where others do."""
    quantize = dequantize = None
    readers = [node for node in model.graph.node if model.graph.input[0].name in node.input]
    if len(readers) == 1 and readers[0].op_type == "QuantizeLinear" and len(readers[0].input) == 3:
        quantize = readers[0]
        types = {t.name: t.data_type for t in model.graph.initializer if not t.dims}
        behind = [node for node in model.graph.node if quantize.output[0] in node.input]
        is_byte = types.get(quantize.input[2]) == TensorProto.UINT8 and quantize.input[1] in types
        if is_byte and len(behind) == 1 and behind[0].op_type == "DequantizeLinear":
            dequantize = behind[0]
    return quantize, dequantize
