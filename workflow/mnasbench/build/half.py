"""Precision fp16 on a CPU: weights stored as halves, arithmetic in fp32.

x86 has no fp16 Conv kernel, so a graph in halves would only be cast back and forth. A Cast behind each stored
weight is folded when the session is made: the file is half as large, the speed is fp32's.
"""

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from mnasbench.errors import BuildError

_LARGEST = float(np.finfo(np.float16).max)


def to_half_weights(model: ModelProto) -> ModelProto:
    """A copy of ``model`` whose float32 initializers are float16 followed by a Cast to float32.

    Raises BuildError naming a weight that float16 cannot hold (largest 65504).
    """
    copy = ModelProto()
    copy.CopyFrom(model)
    casts = []
    for tensor in copy.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        if values.size and not np.abs(values).max() <= _LARGEST:
            raise BuildError(
                f"{tensor.name}: holds a value that fp16 cannot ({np.abs(values).max():g}, largest {_LARGEST:g}); "
                "build this model as fp32 or int8"
            )
        stored = f"{tensor.name}.half"
        casts.append(helper.make_node("Cast", [stored], [tensor.name], f"{tensor.name}.cast", to=TensorProto.FLOAT))
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), stored))
    nodes = [*casts, *copy.graph.node]
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy
