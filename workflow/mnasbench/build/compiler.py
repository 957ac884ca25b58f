"""From the exported float graph to the graph that is run, in one of the precisions."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from onnx import ModelProto

from mnasbench.build.bounds import bounds
from mnasbench.build.calibration import Batches, observe, sample
from mnasbench.build.cpu import sums_int8_exactly
from mnasbench.build.equalize import Equalized, equalize
from mnasbench.build.gate import (
    agreement,
    check_exact,
    check_levels,
    check_operators,
    computed_in_float,
    logits_of,
    sqnr_db,
)
from mnasbench.build.graph import consumers, layers, prepare, producers, tensor_shapes, with_constants
from mnasbench.build.half import to_half_weights
from mnasbench.build.layers import layer_rows
from mnasbench.build.observer import Histogram, Moments
from mnasbench.build.plain_layers import with_plain_layers, with_softmax, without_softmax
from mnasbench.build.quantize import (
    FULL_STEPS,
    REDUCED_STEPS,
    float_closure,
    quantized_tensors,
    source_of,
    visible_output,
    write_qdq,
)
from mnasbench.build.ranges import Range, range_of
from mnasbench.build.sensitivity import sensitivities
from mnasbench.build.sequential import Corrected, correct
from mnasbench.errors import BuildError, SettingsError, did_you_mean, one_line
from mnasbench.precisions import Precision, precision_named
from mnasbench.progress import SILENT, Progress

# Activations of one tensor of all correction images; bounds the memory of the sequential pass.
_CORRECTION_BYTES = 128 << 20
# Images on which the gate compares graphs.
_GATE_IMAGES = 32
# Every fifth calibration image is held out where a budget is to be judged.
_HOLD_OUT = 5
# SQNR of the logits below which int8 is of no use (half of what they say is error), and from which it is of some.
_USELESS_DB, _USEFUL_DB = 3.0, 10.0
# Held-out images on which layers are ranked.
_RANKING_IMAGES = 32


@dataclass(frozen=True)
class Recipe:
    """What a build may be told; the defaults are the recipe that every figure of the project is measured with.

    per_channel: a scale for each output channel of a weight, not one for the tensor.
    percentile: percent of an activation's values that the range of int8-percentile holds.
    headroom: every range is widened by this share, divided by the number of images: the extremes of few images
    are soon exceeded, those of many hardly, and a clipped extreme costs more than steps a little coarser. 10 is
    what 100 and 300 images did best with (a tenth and a thirtieth).
    equalize, gptq, correct_bias: the steps that bring accuracy back, to be switched off one by one.
    correction_images: how many calibration images the sequential pass holds at most.
    float_layers: layers that stay in fp32: names as in quantization.csv, or positions among the Convs.
    max_drop: points of top-1 agreement with fp32, on held-out calibration images, that int8 may cost; the most
    sensitive layers go back to fp32 until it holds. None: no budget.
    reduce_range: 7-bit weights, for CPUs whose int8 sums saturate. None: as this CPU needs it.
    gates_are_fused: for a runtime that computes HardSwish, SiLU and the like within the convolution before them; what
    stands between the two is not quantized then, while ONNX Runtime computes such a convolution in float.
    """

    per_channel: bool = True
    percentile: float = 99.9999
    headroom: float = 10.0
    equalize: bool = True
    gptq: bool = True
    correct_bias: bool = True
    correction_images: int = 128
    float_layers: tuple[str | int, ...] = ()
    max_drop: float | None = None
    reduce_range: bool | None = None
    gates_are_fused: bool = False


@dataclass(frozen=True)
class Built:
    """The graph that is run, what model_info says of its quantization (None for fp32 and fp16), rows by layer.

    ``images``: the calibration images, float32 (n, 3, H, W), that the gate looked at; ``int8_convs``: how many
    convolutions are quantized.
    """

    model: ModelProto
    quantization: dict[str, Any] | None
    layers: list[dict[str, Any]]
    images: np.ndarray | None = None
    int8_convs: int = 0


def compile_model(
    model: ModelProto,
    precision: str,
    batches: Batches | None,
    recipe: Recipe | None = None,
    progress: Progress = SILENT,
) -> Built:
    """Compile an exported classifier (float32, one image input, logits out) in the named precision.

    ``batches`` gives the calibration images, float32 (n, 3, H, W) normalised, afresh at each call; it is needed
    for int8 alone. Raises SettingsError for an unknown precision,
    missing images or an unknown layer, ModelError for a graph that is no classifier, BuildError where the gate
    (:mod:`mnasbench.build.gate`) or the budget does not hold.
    """
    asked = precision_named(precision)
    prepared = prepare(model)
    if not asked.is_quantized:
        return Built(_FLOAT_GRAPHS[asked.dtype](prepared), None, [])
    if batches is None:
        raise SettingsError(f"precision: {precision} needs calibration images, and none were given")
    return _Int8Build(model, prepared, asked, recipe or Recipe(), progress).run(batches)


# What becomes of the prepared graph in a precision that is not quantized, by the element type of its weights.
_FLOAT_GRAPHS: dict[str, Callable[[ModelProto], ModelProto]] = {"fp32": lambda model: model, "fp16": to_half_weights}


class _Int8Build:
    """One int8 build: what is measured once, and the graphs that are made from it."""

    def __init__(
        self, exported: ModelProto, prepared: ModelProto, precision: Precision, recipe: Recipe, progress: Progress
    ) -> None:
        logits, self.softmax = without_softmax(prepared)
        self.exported, ending = without_softmax(exported)
        # What stands behind a Softmax in the exported graph hides it; then probabilities are compared.
        self.is_hidden = self.softmax is not None and ending is None
        self.float_model = with_plain_layers(logits)
        self.limits = bounds(self.float_model)
        self.precision, self.recipe, self.progress = precision, recipe, progress
        self.floats = float_closure(self.float_model, _resolve_layers(self.float_model, recipe.float_layers))
        self.notes: list[str] = []
        self.reduced = not sums_int8_exactly() if recipe.reduce_range is None else recipe.reduce_range
        self.exact_change: dict[str, float] = {}
        self.equalized: Equalized | None = None

    def run(self, batches: Batches) -> Built:
        """Calibrate, quantize, keep the budget, pass the gate."""
        held_out, calibration = (None, batches) if self.recipe.max_drop is None else _split(batches)
        self._calibrate(calibration)
        quantized, corrected = self._quantize(self.floats)
        quantized, corrected = self._leave_to_float(quantized, corrected)
        budget = None
        if held_out is not None:
            quantized, corrected, budget = self._keep_budget(quantized, corrected, held_out)
        self.progress.step("checking the build")
        images = self.images[:_GATE_IMAGES]
        reference = logits_of(self.float_model, images)
        quantized, corrected = self._keep_answers(quantized, corrected, images, reference)
        operators = check_operators(self.float_model, quantized, self.floats, self._fused())
        between = check_levels(quantized, images, reference)
        rows = layer_rows(
            self.float_model, corrected.values, self._ranges(self.floats), self.histograms, self.moments, self.floats
        )
        int8_convs = sum(node.op_type == "Conv" and node.name not in self.floats for node in layers(self.float_model))
        quantization = self._description(corrected, operators, between, budget)
        model = with_softmax(quantized, self.softmax) if self.softmax is not None else quantized
        return Built(model, quantization, rows, images, int8_convs)

    def _calibrate(self, batches: Batches) -> None:
        entry = self.float_model.graph.input[0].name
        tensors = list(dict.fromkeys([entry, *quantized_tensors(self.float_model)]))
        self.progress.step("observing the channels' extremes")
        self.moments = _observe_moments(self.float_model, tensors, batches)
        self.count = self.moments[entry].images
        prepared = self.float_model
        if self.recipe.equalize:
            self.equalized = equalize(prepared, self.moments)
            self.float_model, self.moments = self.equalized.model, self.equalized.moments
        self.progress.step("observing the distributions")
        self.histograms = {name: Histogram() for name in tensors}
        observe(self.float_model, {name: [histogram] for name, histogram in self.histograms.items()}, batches)
        self.images = sample(batches, self.count, _correction_images(self.float_model, self.recipe))
        few = self.images[:_GATE_IMAGES]
        hidden = self.softmax if self.is_hidden else None
        compared = prepared if hidden is None else with_softmax(prepared, hidden)
        before, after = (logits_of(graph, few) for graph in (self.exported, compared))
        self.exact_change["preparation"] = check_exact(before, after, "preparation")
        if self.equalized:
            before, after = (logits_of(graph, few) for graph in (prepared, self.float_model))
            self.exact_change["equalization"] = check_exact(before, after, "equalization")

    def _ranges(self, floats: frozenset[str]) -> dict[str, Range]:
        recipe = self.recipe
        factor = 1 + recipe.headroom / self.count
        chosen = {
            name: range_of(self.histograms[name], self.precision.calibrator or "", recipe.percentile)
            for name in quantized_tensors(self.float_model, floats, recipe.gates_are_fused)
        }
        made_by = producers(self.float_model)
        for name in chosen:
            chosen[name] = chosen.get(source_of(name, made_by), chosen[name])
        return {name: self._widened(name, value, factor) for name, value in chosen.items()}

    def _widened(self, name: str, chosen: Range, factor: float) -> Range:
        """A range with headroom, which ends where no value of the tensor can be."""
        low, high = self.limits.get(name, (-np.inf, np.inf))
        return Range(max(chosen.low * factor, low), min(chosen.high * factor, high))

    def _quantize(self, floats: frozenset[str]) -> tuple[ModelProto, Corrected]:
        self.progress.step("rounding weights and correcting biases")
        ranges = self._ranges(floats)
        corrected = correct(
            self.float_model,
            self.images,
            ranges,
            _layer_means(self.float_model, self.images),
            steps=REDUCED_STEPS if self.reduced else FULL_STEPS,
            per_channel=self.recipe.per_channel,
            gptq=self.recipe.gptq,
            correct_bias=self.recipe.correct_bias,
            float_nodes=floats,
        )
        self.progress.step("writing the int8 graph")
        rounded = with_constants(self.float_model, corrected.values)
        return write_qdq(rounded, ranges, corrected.scales), corrected

    def _keep_budget(
        self, quantized: ModelProto, corrected: Corrected, held_out: np.ndarray
    ) -> tuple[ModelProto, Corrected, dict[str, Any]]:
        """Put layers back to float until the agreement holds."""
        limit = float(self.recipe.max_drop or 0.0)
        reference = logits_of(self.float_model, held_out)
        quantized, corrected, lost, put_back = self._put_back(
            quantized, corrected, held_out, lambda logits: 100 - agreement(reference, logits), limit
        )
        if lost > limit:
            raise BuildError(f"budget: even with every layer in fp32 {lost:.2f} points are lost, allowed are {limit:g}")
        kept = {"max_drop": limit, "drop": lost, "images": len(held_out), "put_back": put_back}
        return quantized, corrected, kept

    def _keep_answers(
        self, quantized: ModelProto, corrected: Corrected, images: np.ndarray, reference: np.ndarray
    ) -> tuple[ModelProto, Corrected]:
        """Hold int8 to what is of use at all: where its error comes near to the logits themselves, layers go back."""
        kept_db = sqnr_db(reference, logits_of(quantized, images))
        if not kept_db >= _USELESS_DB:
            quantized, corrected, lost, put_back = self._put_back(
                quantized, corrected, images, lambda logits: -sqnr_db(reference, logits), -_USEFUL_DB
            )
            if not lost <= -_USEFUL_DB:
                raise BuildError(
                    f"gate: int8 stands {kept_db:.1f} dB from fp32, and with every layer in float {-lost:.1f} dB; "
                    f"expected at least {_USEFUL_DB:g} dB; build this model as fp32"
                )
            self.notes.append(
                f"int8 stood {kept_db:.1f} dB from fp32 on {len(images)} calibration images, less than {_USELESS_DB:g} "
                f"dB is of no use: {len(put_back)} layers were put back to float, {-lost:.1f} dB now"
            )
            kept_db = -lost
        same = agreement(reference, logits_of(quantized, images))
        self.kept = {"sqnr_db": kept_db if np.isfinite(kept_db) else None, "agreement": same, "images": len(images)}
        if kept_db < _USEFUL_DB:
            self.notes.append(
                f"int8 is far from fp32: {kept_db:.1f} dB, {same:.1f} % of the answers of {len(images)} calibration "
                "images; max_drop puts layers back to float"
            )
        return quantized, corrected

    def _put_back(
        self,
        quantized: ModelProto,
        corrected: Corrected,
        images: np.ndarray,
        loss: Callable[[np.ndarray], float],
        limit: float,
    ) -> tuple[ModelProto, Corrected, float, list[str]]:
        """Put the most sensitive layers back to float, twice as many each time, until ``loss`` of the logits holds.

        Gives the graph, the last loss and the layers that went back; all of them may not have been enough.
        """
        ranked: Sequence[str] = ()
        kept_float, back = self.floats, 0
        while not (lost := loss(logits_of(quantized, images))) <= limit:
            if not ranked:
                self.progress.step("ranking layers by what int8 costs them")
                few = images[:_RANKING_IMAGES]
                ranked = list(sensitivities(self.float_model, corrected.values, self._ranges(self.floats), few))
            if back >= len(ranked):
                break
            back = min(max(1, 2 * back), len(ranked))
            self.floats = float_closure(self.float_model, kept_float | set(ranked[:back]))
            quantized, corrected = self._quantize(self.floats)
        return quantized, corrected, lost, list(ranked[:back])

    def _leave_to_float(self, quantized: ModelProto, corrected: Corrected) -> tuple[ModelProto, Corrected]:
        """Keep in float, and say so, what ONNX Runtime has no int8 kernel for where it stands."""
        asked = [n.name for n in layers(self.float_model) if n.op_type == "Conv" and n.name not in self.floats]
        fused = self._fused()
        left = computed_in_float(quantized, [name for name in asked if name not in fused])
        if not left:
            return quantized, corrected
        self.notes.append(f"kept in float, because no int8 kernel computes them where they stand: {', '.join(left)}")
        self.floats = float_closure(self.float_model, self.floats | set(left))
        return self._quantize(self.floats)

    def _fused(self) -> frozenset[str]:
        """Convolutions in int8 whose output is not, because the runtime computes the gate behind them with them."""
        if not self.recipe.gates_are_fused:
            return frozenset()
        ranges, readers = self._ranges(self.floats), consumers(self.float_model)
        result = self.float_model.graph.output[0].name
        own = [n for n in layers(self.float_model) if n.op_type == "Conv" and n.name not in self.floats]
        visible = {node.name: visible_output(node, readers) for node in own}
        return frozenset(name for name, output in visible.items() if output not in ranges and output != result)

    def _description(
        self, corrected: Corrected, operators: dict[str, int], between: float, budget: dict[str, Any] | None
    ) -> dict[str, Any]:
        notes = list(self.notes)
        if self.reduced:
            notes.append(
                "weights have 7 bits, because without VNNI instructions the sums of 8-bit products saturate in 16 bits"
            )
        if self.equalized and self.equalized.left:
            notes.append(
                f"{len(self.equalized.left)} groups of activations could not be equalized exactly, and were not"
            )
        if corrected.nearest:
            notes.append(f"rounded to the nearest, too wide for GPTQ: {', '.join(corrected.nearest)}")
        recipe = asdict(self.recipe) | {"float_layers": sorted(self.floats), "reduce_range": self.reduced}
        return {
            "mode": self.precision.mode,
            "images": self.count,
            **recipe,
            "float_macs_share": _share_of_macs(self.float_model, self.floats),
            "budget": budget,
            "kept": self.kept,
            "exact_change": self.exact_change,
            "levels_sqnr_db": between if np.isfinite(between) else None,
            "operators": operators,
            "notes": notes,
        }


def _convolutions(model: ModelProto) -> list[str]:
    """Names of the convolutions, in the graph's order."""
    return [node.name for node in model.graph.node if node.op_type == "Conv"]


def _resolve_layers(model: ModelProto, asked: Sequence[str | int]) -> frozenset[str]:
    """Names of the layers that are given by name or by position among the Convs; SettingsError for one unknown."""
    convs = _convolutions(model)
    names = [node.name for node in layers(model)]
    resolved = set()
    for layer in asked:
        if isinstance(layer, int):
            if not 0 <= layer < len(convs):
                raise SettingsError(f"skip_conv_layers: there is no Conv {layer}; the model has 0 to {len(convs) - 1}")
            resolved.add(convs[layer])
        elif layer in names:
            resolved.add(layer)
        elif any(layer == node.name for node in model.graph.node):
            # Between int8 layers a runtime computes it in int8 whatever the graph says.
            raise SettingsError(
                f"exclude_layers: {one_line(layer)} has no weights; only a Conv or a Gemm can be kept in float, and "
                "what stands between such layers alone stays in float with them"
            )
        else:
            raise SettingsError(f"exclude_layers: unknown layer '{one_line(layer)}'{did_you_mean(layer, names)}")
    return frozenset(resolved)


def _split(batches: Batches) -> tuple[np.ndarray, Batches]:
    """Every fifth image held out, and the stream of the others."""

    def parts() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        start = 0
        for batch in batches():
            out = (np.arange(start, start + len(batch)) % _HOLD_OUT) == _HOLD_OUT - 1
            start += len(batch)
            yield batch[out], batch[~out]

    held_out = np.concatenate([out for out, _ in parts()])
    if not len(held_out):
        raise SettingsError(f"max_drop: needs at least {_HOLD_OUT} calibration images, one in {_HOLD_OUT} is held out")
    return held_out, lambda: (rest for _, rest in parts() if len(rest))


def _observe_moments(model: ModelProto, tensors: Sequence[str], batches: Batches) -> dict[str, Moments]:
    shapes = tensor_shapes(model)
    moments = {name: Moments(shapes[name][1]) for name in tensors}
    observe(model, {name: [moment] for name, moment in moments.items()}, batches)
    return moments


def _layer_means(model: ModelProto, images: np.ndarray) -> dict[str, np.ndarray]:
    outputs = [node.output[0] for node in layers(model)]
    moments = _observe_moments(model, outputs, lambda: iter([images]))
    return {name: moment.mean for name, moment in moments.items()}


def _correction_images(model: ModelProto, recipe: Recipe) -> int:
    largest = 4 * max(int(np.prod(shape)) for shape in tensor_shapes(model).values())
    return max(8, min(recipe.correction_images, _CORRECTION_BYTES // largest))


def _share_of_macs(model: ModelProto, names: frozenset[str]) -> float:
    """Share of the layers' multiply-adds that those of these names do."""
    shapes = tensor_shapes(model)
    sizes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    macs = {}
    for node in layers(model):
        weight = int(np.prod(sizes[node.input[1]]))
        macs[node.name] = weight * int(np.prod(shapes[node.output[0]][2:]))
    return sum(macs.get(name, 0) for name in names) / sum(macs.values())
