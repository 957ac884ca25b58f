"""From the exported float graph to the graph that is run, in one of the six precisions."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from onnx import ModelProto

from mnasbench.build.calibration import Batches, observe, sample
from mnasbench.build.equalize import equalize
from mnasbench.build.graph import WEIGHTED, prepare, tensor_shapes, with_constants
from mnasbench.build.half import to_half_weights
from mnasbench.build.observer import Histogram, Moments
from mnasbench.build.quantize import FULL_STEPS, quantized_tensors, write_qdq
from mnasbench.build.ranges import MODES, Range, range_of
from mnasbench.build.sequential import correct
from mnasbench.errors import SettingsError, did_you_mean

PRECISIONS = ("fp32", "fp16", *(f"int8-{mode}" for mode in MODES))

# Activations of one tensor of all correction pictures; bounds the memory of the sequential pass.
_CORRECTION_BYTES = 96 << 20

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Recipe:
    """What a build may be told; the defaults are the recipe that every figure of the project is measured with.

    per_channel: a scale for each output channel of a weight, not one for the tensor.
    percentile: percent of an activation's values that the range of int8-percentile holds.
    headroom: factor by which every range is widened. New pictures exceed the extremes of the calibration's, and
    a clipped extreme costs more than steps a tenth coarser.
    equalize, round_by_error, correct_bias: the steps that bring accuracy back, to be switched off one by one.
    correction_images: how many calibration pictures the sequential pass holds at most.
    """

    per_channel: bool = True
    percentile: float = 99.9999
    headroom: float = 1.1
    equalize: bool = True
    round_by_error: bool = True
    correct_bias: bool = True
    correction_images: int = 64


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
    tensors = quantized_tensors(model)
    progress("observing the channels' extremes")
    moments = _observe_moments(model, tensors, batches)
    images = moments[tensors[0]].images
    if recipe.equalize:
        progress("equalizing channels")
        model = equalize(model, moments).model
    progress("observing the tensors' distributions")
    histograms = {name: Histogram() for name in tensors}
    observe(model, {name: [histogram] for name, histogram in histograms.items()}, batches)
    ranges = {
        name: _widened(range_of(histogram, mode, recipe.percentile), recipe.headroom)
        for name, histogram in histograms.items()
    }
    progress("rounding weights and correcting biases")
    chosen = sample(batches, images, _correction_images(model, recipe))
    corrected = correct(
        model,
        chosen,
        ranges,
        _layer_means(model, chosen),
        steps=FULL_STEPS,
        per_channel=recipe.per_channel,
        by_error=recipe.round_by_error,
        correct_bias=recipe.correct_bias,
    )
    progress("writing the int8 graph")
    quantized = write_qdq(with_constants(model, corrected.values), ranges, corrected.scales)
    return Compiled(quantized, {"mode": mode, "images": images, **asdict(recipe)}, [])


def _observe_moments(model: ModelProto, tensors: list[str], batches: Batches) -> dict[str, Moments]:
    shapes = tensor_shapes(model)
    moments = {name: Moments(shapes[name][1]) for name in tensors}
    observe(model, {name: [moment] for name, moment in moments.items()}, batches)
    return moments


def _layer_means(model: ModelProto, images: np.ndarray) -> dict[str, np.ndarray]:
    outputs = [node.output[0] for node in model.graph.node if node.op_type in WEIGHTED]
    moments = _observe_moments(model, outputs, lambda: iter([images]))
    return {name: moment.mean for name, moment in moments.items()}


def _correction_images(model: ModelProto, recipe: Recipe) -> int:
    largest = 4 * max(int(np.prod(shape)) for shape in tensor_shapes(model).values())
    return max(8, min(recipe.correction_images, _CORRECTION_BYTES // largest))


def _widened(chosen: Range, factor: float) -> Range:
    return Range(chosen.low * factor, chosen.high * factor)
