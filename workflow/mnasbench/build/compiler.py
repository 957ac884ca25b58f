"""From the exported float graph to the graph that is run, in one of the six precisions."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from onnx import ModelProto

from mnasbench.build.calibration import Batches, observe
from mnasbench.build.graph import WEIGHTED, constants, prepare
from mnasbench.build.half import to_half_weights
from mnasbench.build.quantize import FULL_STEPS, quantized_tensors, weight_scales, write_qdq
from mnasbench.build.ranges import MODES, range_of
from mnasbench.errors import SettingsError, did_you_mean

PRECISIONS = ("fp32", "fp16", *(f"int8-{mode}" for mode in MODES))

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Recipe:
    """What a build may be told; the defaults are the recipe that every figure of the project is measured with.

    per_channel: a scale for each output channel of a weight, not one for the tensor.
    percentile: percent of an activation's values that the range of int8-percentile holds.
    float_layers: layers (names as in quantization.csv, or their positions among Conv and Gemm) that stay in fp32.
    """

    per_channel: bool = True
    percentile: float = 99.9999
    float_layers: tuple[str | int, ...] = ()


@dataclass(frozen=True)
class Compiled:
    """The graph that is run, what model_info says of its quantization (None for fp32 and fp16), rows by layer."""

    model: ModelProto
    quantization: dict[str, Any] | None
    layers: list[dict[str, Any]]


def compile_model(
    model: ModelProto,
    precision: str,
    batches: Batches | None,
    recipe: Recipe | None = None,
    progress: Progress | None = None,
) -> Compiled:
    """Compile an exported classifier (float32, one image input, logits out) in the named precision.

    ``batches`` gives the calibration pictures, float32 (n, 3, H, W) normalised, afresh at each call; it is needed
    for int8 alone. Raises SettingsError for an unknown precision or missing pictures, ModelError for a graph
    that is no classifier.
    """
    if precision not in PRECISIONS:
        raise SettingsError(f"precision: unknown precision '{precision}'{did_you_mean(precision, PRECISIONS)}")
    prepared = prepare(model)
    if precision == "fp32":
        return Compiled(prepared, None, [])
    if precision == "fp16":
        return Compiled(to_half_weights(prepared), None, [])
    if batches is None:
        raise SettingsError(f"precision: {precision} needs calibration pictures, and none were given")
    return _quantize(
        prepared, precision.removeprefix("int8-"), batches, recipe or Recipe(), progress or (lambda _: None)
    )


def _quantize(model: ModelProto, mode: str, batches: Batches, recipe: Recipe, progress: Progress) -> Compiled:
    progress("observing activations")
    histograms = observe(model, quantized_tensors(model), batches)
    ranges = {name: range_of(histogram, mode, recipe.percentile) for name, histogram in histograms.items()}
    weights = constants(model)
    scales = {
        node.input[1]: weight_scales(node, weights[node.input[1]], FULL_STEPS, recipe.per_channel)
        for node in model.graph.node
        if node.op_type in WEIGHTED
    }
    progress("writing the int8 graph")
    return Compiled(write_qdq(model, ranges, scales), {"mode": mode}, [])
