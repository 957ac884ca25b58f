"""Which layers int8 hurts most: each quantized alone, judged at the logits."""

from collections.abc import Mapping

import numpy as np
from onnx import ModelProto, helper, numpy_helper

from mnasbench.build.gate import logits_of, sqnr_db
from mnasbench.build.graph import consumers, layers, with_constants
from mnasbench.build.quantize import visible_output
from mnasbench.build.ranges import Range


def sensitivities(
    model: ModelProto, quantized_weights: Mapping[str, np.ndarray], ranges: Mapping[str, Range], images: np.ndarray
) -> dict[str, float]:
    """SQNR (dB) of the logits over ``images`` with one layer's weights and output quantized; the worst first."""
    reference = logits_of(model, images)
    readers = consumers(model)
    kept_db: dict[str, float] = {}
    for node in layers(model):
        if node.input[1] not in quantized_weights:
            continue
        alone = with_constants(model, {node.input[1]: quantized_weights[node.input[1]]})
        visible = visible_output(node, readers)
        if visible in ranges:
            _quantize_tensor(alone, visible, ranges[visible])
        kept_db[node.name] = sqnr_db(reference, logits_of(alone, images))
    return dict(sorted(kept_db.items(), key=lambda pair: pair[1]))


def _quantize_tensor(model: ModelProto, name: str, chosen: Range) -> None:
    """Let everything that reads tensor ``name`` read what its 8-bit steps give back."""
    scale, zero_point = chosen.scale_and_zero_point
    names = [f"{name}.scale", f"{name}.zero_point"]
    model.graph.initializer.append(numpy_helper.from_array(np.array(scale, np.float32), names[0]))
    model.graph.initializer.append(numpy_helper.from_array(np.array(zero_point, np.uint8), names[1]))
    for node in model.graph.node:
        node.input[:] = [f"{name}.steps" if item == name else item for item in node.input]
    place = next(i for i, node in enumerate(model.graph.node) if name in node.output) + 1
    pair = [
        helper.make_node("QuantizeLinear", [name, *names], [f"{name}.codes"]),
        helper.make_node("DequantizeLinear", [f"{name}.codes", *names], [f"{name}.steps"]),
    ]
    nodes = [*model.graph.node[:place], *pair, *model.graph.node[place:]]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
