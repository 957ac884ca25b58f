"""From the exported float graph to the graph that is run, in one of the precisions."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from onnx import ModelProto

from mnasbench.build.bounds import bounds
from mnasbench.build.calibration import Batches, observe, sample
from mnasbench.build.choice import CHOICE_IMAGES, HELD_OUT, LEAST_IMAGES, Choice, Rule, Rules, choose
from mnasbench.build.cpu import sums_int8_exactly
from mnasbench.build.equalize import Equalized, equalize
from mnasbench.build.gate import (
    check_exact,
    check_levels,
    check_operators,
    logits_of,
)
from mnasbench.build.graph import consumers, layers, macs_by_layer, prepare, producers, tensor_shapes, with_constants
from mnasbench.build.half import to_half_weights
from mnasbench.build.layers import layer_rows
from mnasbench.build.mixed import Int8, Mixed, NodeSeconds
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
from mnasbench.build.reconstruct import Reconstruction
from mnasbench.build.sequential import Way, correct
from mnasbench.errors import SettingsError, did_you_mean, one_line
from mnasbench.precisions import Precision, precision_named
from mnasbench.progress import SILENT, Progress

# Activations of one tensor of all correction images; bounds the memory of the sequential pass.
_CORRECTION_BYTES = 128 << 20
# Images on which the gate compares graphs.
_GATE_IMAGES = 32
# Fewer images widen ranges no further than as many do: docs/quantization.md has the figures.
_FEWEST = 50
# Images of the sequential pass, and of a batch, while recipes are tried.
_TRIED, _TRIED_AT_ONCE = 24, 8
# Every fifth calibration image is held out where a budget is to be judged.
_HOLD_OUT = 5


@dataclass(frozen=True)
class Recipe:
    """What a build may be told; the defaults are the recipe that every figure of the project is measured with.

    per_channel: a scale for each output channel of a weight, not one for the tensor.
    percentile: percent of an activation's values that the range of int8-percentile holds.
    headroom: every range is widened by this share, divided by the number of images (50 where there are fewer): the
    extremes of few images are soon exceeded, those of many hardly, and a clipped extreme costs more than steps a little
    coarser. docs/quantization.md has the figures.
    equalize, gptq, correct_bias: the steps that bring accuracy back, to be switched off one by one.
    correction_images: how many calibration images the sequential pass holds at most.
    float_layers: layers that stay in fp32: names as in quantization.csv, or positions among the Convs.
    max_drop: points of top-1 agreement with fp32, on held-out calibration images, that int8 may cost; the most
    sensitive layers go back to fp32 until it holds. None: no budget.
    reduce_range: 7-bit weights, for CPUs whose int8 sums saturate. None: as this CPU needs it.
    gates_are_fused: for a runtime that computes HardSwish, SiLU and the like within the convolution before them; what
    stands between the two is not quantized then, while ONNX Runtime computes such a convolution in float.
    reconstruct: off, fast or full, what is learned beyond the one-shot pass (:mod:`mnasbench.build.reconstruct`), for
    reconstruct_seconds at most.
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
    reconstruct: str = "off"
    reconstruct_seconds: float = 120.0


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
    node_seconds: NodeSeconds | None = None,
) -> Built:
    """Compile an exported classifier (float32, one image input, logits out) in the named precision.

    ``batches`` gives the calibration images, float32 (n, 3, H, W) normalised, afresh at each call; it is needed
    for int8 alone. ``node_seconds``: of the runtime that the model is for; without it layers that a budget puts back
    to float are weighed by their multiply-adds. Raises SettingsError for an unknown precision,
    missing images or an unknown layer, ModelError for a graph that is no classifier, BuildError where the gate
    (:mod:`mnasbench.build.gate`) or the budget does not hold.
    """
    asked = precision_named(precision)
    prepared = prepare(model)
    if not asked.is_quantized:
        return Built(_FLOAT_GRAPHS[asked.dtype](prepared), None, [])
    if batches is None:
        raise SettingsError(f"precision: {precision} needs calibration images, and none were given")
    return _Int8Build(model, prepared, asked, recipe or Recipe(), progress).run(batches, node_seconds)


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
        self.reduced = not sums_int8_exactly() if recipe.reduce_range is None else recipe.reduce_range
        self.exact_change: dict[str, float] = {}
        self.reconstruction = Reconstruction(recipe.reconstruct, recipe.reconstruct_seconds)
        self.equalized: Equalized | None = None
        self.rules: Rules = {"": Rule(precision.calibrator or "", recipe.percentile, recipe.headroom)}
        self.choice: Choice | None = None
        self._means: dict[str, np.ndarray] = {}
        self._unprepared, self._prepared = exported, prepared

    def run(self, batches: Batches, node_seconds: NodeSeconds | None = None) -> Built:
        """Calibrate, quantize, keep the budget, pass the gate."""
        held_out, calibration = (None, batches) if self.recipe.max_drop is None else _split(batches)
        if self.precision.is_chosen:
            self._choose(calibration)
        self._calibrate(calibration)
        mixed = Mixed(self.float_model, self.floats, self._quantize, self.images, self.progress, node_seconds)
        made = self._quantize(self.floats)
        made = mixed.leave_to_float(made, self._fused(made))
        budget = None
        if held_out is not None:
            made, budget = mixed.keep_budget(made, float(self.recipe.max_drop or 0.0), held_out)
        self.progress.step("checking the build")
        images = self.images[:_GATE_IMAGES]
        reference = logits_of(self.float_model, images)
        made, kept = mixed.keep_answers(made, images, reference)
        operators = check_operators(self.float_model, made.model, made.floats, self._fused(made))
        between = check_levels(made.model, images, reference)
        rows = layer_rows(
            self.float_model, made.corrected.values, made.ranges, self.histograms, self.moments, made.floats
        )
        int8_convs = sum(node.op_type == "Conv" and node.name not in made.floats for node in layers(self.float_model))
        quantization = self._description(made, operators, between, budget, kept, mixed)
        model = with_softmax(made.model, self.softmax) if self.softmax is not None else made.model
        return Built(model, quantization, rows, images, int8_convs)

    def _choose(self, batches: Batches) -> None:
        """Take the recipe that is best on held-out images; with too few of them the one that was given."""
        images = sample(batches, sum(len(batch) for batch in batches()), CHOICE_IMAGES)
        if len(images) < LEAST_IMAGES:
            return
        self.progress.step("choosing the recipe by held-out images")
        out = np.arange(len(images)) % HELD_OUT == HELD_OUT - 1
        recipe = self.recipe
        steps = {"equalize": recipe.equalize, "gptq": recipe.gptq, "correct_bias": recipe.correct_bias}

        def trial_of(is_equalized: bool) -> _Trial:
            given = replace(recipe, equalize=is_equalized)
            return _Trial(self._unprepared, self._prepared, self.precision, given, images[~out])

        self.choice = choose(trial_of, steps, recipe.percentile, recipe.headroom, images[out])
        self.recipe, self.rules = replace(recipe, **self.choice.steps), self.choice.rules

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
        made_by = producers(self.float_model)
        names = quantized_tensors(self.float_model, floats, self.recipe.gates_are_fused)
        sources = {name: source_of(name, made_by) for name in names}
        taken = {name: source if source in names else name for name, source in sources.items()}
        # The values are those of the source, and so are their bounds; its own may be tighter.
        return {name: self._within(name, self._range_by(source)) for name, source in taken.items()}

    def _range_by(self, name: str, rule: Rule | None = None) -> Range:
        """A range with headroom."""
        rule = rule or self.rules.get(name, self.rules[""])
        chosen = range_of(self.histograms[name], rule.calibrator, rule.percent)
        factor = 1 + rule.headroom / max(_FEWEST, self.count)
        return Range(chosen.low * factor, chosen.high * factor)

    def _within(self, name: str, chosen: Range) -> Range:
        """A range that ends where no value of the tensor can be."""
        low, high = self.limits.get(name, (-np.inf, np.inf))
        return Range(max(chosen.low, low), min(chosen.high, high))

    def _quantize(self, floats: frozenset[str]) -> Int8:
        """The int8 graph in which the nodes of these names stay in float."""
        self.progress.step("rounding weights and correcting biases")
        made = self._rounded(floats, self.images)
        if self.recipe.reconstruct == "off":
            return made
        self.progress.step("learning the rounding of weights")
        return self.reconstruction.improved(made, self.float_model, self.images, partial(self._rounded, floats))

    def _rounded(
        self, floats: frozenset[str], images: np.ndarray, way: Way | None = None, deadline: float = np.inf
    ) -> Int8:
        ranges = self._ranges(floats)
        self._means = self._means or _layer_means(self.float_model, self.images)
        corrected = correct(
            self.float_model,
            images,
            ranges,
            self._means if images is self.images else _layer_means(self.float_model, images),
            steps=REDUCED_STEPS if self.reduced else FULL_STEPS,
            per_channel=self.recipe.per_channel,
            gptq=self.recipe.gptq,
            correct_bias=self.recipe.correct_bias,
            float_nodes=floats,
            way=way,
            deadline=deadline,
        )
        rounded = with_constants(self.float_model, corrected.values)
        return Int8(write_qdq(rounded, ranges, corrected.scales), corrected, ranges, floats)

    def _fused(self, made: Int8) -> frozenset[str]:
        """Convolutions in int8 whose output is not, because the runtime computes the gate behind them with them."""
        if not self.recipe.gates_are_fused:
            return frozenset()
        readers = consumers(self.float_model)
        result = self.float_model.graph.output[0].name
        own = [n for n in layers(self.float_model) if n.op_type == "Conv" and n.name not in made.floats]
        visible = {node.name: visible_output(node, readers) for node in own}
        return frozenset(name for name, output in visible.items() if output not in made.ranges and output != result)

    def _description(
        self,
        made: Int8,
        operators: dict[str, int],
        between: float,
        budget: dict[str, Any] | None,
        kept: dict[str, Any],
        mixed: Mixed,
    ) -> dict[str, Any]:
        notes = list(mixed.notes)
        if self.choice:
            notes.insert(0, self.choice.note)
        elif self.precision.is_chosen:
            notes.insert(0, f"too few calibration images to choose by, at least {LEAST_IMAGES}: the default recipe")
        if self.reduced:
            notes.append(
                "weights have 7 bits: without VNNI instructions the sums of 8-bit products saturate in 16 bits"
            )
        if self.equalized and self.equalized.left:
            notes.append(f"{len(self.equalized.left)} activations could not be equalized exactly, and were not")
        if made.corrected.nearest:
            notes.append(f"rounded to the nearest, too wide for GPTQ: {', '.join(made.corrected.nearest)}")
        recipe = asdict(self.recipe) | {"float_layers": sorted(made.floats), "reduce_range": self.reduced}
        return {
            "mode": self.precision.mode,
            "images": self.count,
            **recipe,
            "reconstruction": self.reconstruction.described(),
            "float_reasons": mixed.reasons,
            "front": mixed.front,
            "float_macs_share": _share_of_macs(self.float_model, made.floats),
            "budget": budget,
            "kept": kept,
            "exact_change": self.exact_change,
            "levels_sqnr_db": between if np.isfinite(between) else None,
            "operators": operators,
            **({"choice": self.choice.account} if self.choice else {}),
            "notes": notes,
        }


class _Trial(_Int8Build):
    """A build of which graphs are tried, calibrated on ``images`` (n, 3, H, W)."""

    def __init__(
        self, exported: ModelProto, prepared: ModelProto, precision: Precision, recipe: Recipe, images: np.ndarray
    ) -> None:
        super().__init__(exported, prepared, precision, replace(recipe, correction_images=_TRIED), SILENT)
        self._calibrate(lambda: iter(np.array_split(images, max(1, len(images) // _TRIED_AT_ONCE))))

    def sources(self) -> list[str]:
        """The activations that have a range of their own."""
        made_by = producers(self.float_model)
        names = quantized_tensors(self.float_model, self.floats, self.recipe.gates_are_fused)
        return list(dict.fromkeys(source if (source := source_of(name, made_by)) in names else name for name in names))

    def range_by(self, name: str, rule: Rule) -> Range:
        """The range of an activation."""
        return self._within(name, self._range_by(name, rule))

    def activations_in_steps(self, rules: Rules) -> ModelProto:
        """The graph with quantized activations and float weights."""
        self.rules = rules
        return write_qdq(self.float_model, self._ranges(self.floats), {})

    def quantized(self, rules: Rules, steps: Mapping[str, Any]) -> ModelProto:
        """The int8 graph."""
        self.rules, self.recipe = rules, replace(self.recipe, **steps)
        return self._rounded(self.floats, self.images).model


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
    macs = macs_by_layer(model)
    return sum(macs.get(name, 0) for name in names) / sum(macs.values())
