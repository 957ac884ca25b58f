"""What a compiler that is not ours will make of a float graph: its kind of quantizer, written as QDQ and judged here.

A kind says what a quantizer does to activations, weights and biases; every compiler of that kind loses the same way,
whatever its kernels are. What is emulated is public: ONNX Runtime's and NNCF's own quantizers, and TVM's
``relay.quantize`` (release 0.14), from which closed compilers are made. Of a closed compiler itself nobody outside
knows which of these it is: a row foretells a kind, and a card confirms it.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, helper, numpy_helper

from mnasbench.build.calibration import Batches, observe
from mnasbench.build.gate import agreement, sqnr_db
from mnasbench.build.graph import constants, layers, prepare, producers, with_constants
from mnasbench.build.observer import Histogram
from mnasbench.build.plain_layers import with_plain_layers, with_softmax, without_softmax
from mnasbench.build.quantize import (
    FULL_STEPS,
    float_closure,
    quantized_tensors,
    source_of,
    weight_axis,
    weight_scales,
    write_qdq,
)
from mnasbench.build.ranges import Range, Symmetric, range_of
from mnasbench.cpus import usable_cpus
from mnasbench.errors import SettingsError, did_you_mean, one_line
from mnasbench.jit import jit
from mnasbench.progress import SILENT, Progress
from mnasbench.runtimes.onnxruntime import open_session

Floats = npt.NDArray[np.float32]

# TVM divides a threshold by 2**7 and clips codes to one less on both sides.
_TVM_STEPS, _TVM_LAST = 128, 127
# TVM's histogram, about zero, and the levels that its KL compares.
_BINS, _LEVELS = 8001, 255
# What TVM's percentile leaves out; ONNX Runtime's Percentile leaves out the same.
_PERCENT = 99.999
# Counts that an empty bin of TVM's KL is given.
_SMOOTHING = 1e-4
# Candidate thresholds of the smallest squared error, evenly spaced down from the largest magnitude.
_CANDIDATES = 128
# Room below int32's limit for a bias, in steps.
_BIAS_STEPS = 2.0**30
# Images on which each layer's own loss is taken.
_LAYER_IMAGES = 32


@dataclass(frozen=True)
class Kind:
    """One kind of quantizer.

    ``modes``: calibration modes that it has. ``symmetric``: activations are S8 about zero, so that what a ReLU leaves
    has 7 bits; else U8 with a zero point. ``per_channel``: a scale for each output channel of a weight.
    ``power_of_two``: every scale is one, so that rescaling is a shift. ``bias_bits``: TVM's own quantizer rounds biases
    as it does weights, to 8 bits for the whole tensor; others hold them in 32. ``skips_ends``: the first convolution
    and dense layers stay in float, TVM's default.
    """

    name: str
    meaning: str
    modes: tuple[str, ...]
    symmetric: bool = True
    per_channel: bool = True
    power_of_two: bool = False
    bias_bits: int = 32
    skips_ends: bool = False


_FOUR = ("percentile", "max", "kl_divergence", "mse")
KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "asymmetric",
            "U8 activations, S8 weights by channel: ONNX Runtime, OpenVINO with NNCF, TFLite",
            ("max", "percentile"),
            symmetric=False,
        ),
        Kind("symmetric", "S8 activations, S8 weights by channel: a TVM-like compiler told per_channel", _FOUR),
        Kind(
            "per-tensor", "S8 activations, S8 weights by tensor: the same without per_channel", _FOUR, per_channel=False
        ),
        Kind(
            "power-of-two",
            "as per-tensor, every scale a power of two: shifts instead of multipliers",
            ("max",),
            per_channel=False,
            power_of_two=True,
        ),
        Kind(
            "tvm-relay",
            "TVM's own: S8 by tensor, biases of 8 bits, first convolution and dense layers in float",
            ("percentile", "kl_divergence"),
            per_channel=False,
            bias_bits=8,
            skips_ends=True,
        ),
    )
}


@dataclass(frozen=True)
class Forecast:
    """One kind and mode: agreement with the reference's answers (%), SQNR of the logits (dB), top-1 (%) with labels."""

    kind: str
    mode: str
    agreement: float
    sqnr_db: float
    top1: float | None = None


def kind_named(name: str) -> Kind:
    """The kind of that name; SettingsError, with the nearest one, where there is none."""
    if name not in KINDS:
        raise SettingsError(f"kind: unknown kind of compiler '{one_line(name)}'{did_you_mean(name, KINDS)}")
    return KINDS[name]


class Foresight:
    """A float graph with its calibration statistics, observed once, and what each kind makes of it.

    ``model``: float32, one image input, logits or probabilities out. ``calibration``: float32 (n, 3, H, W) normalised,
    afresh at each call. Raises ModelError for a graph that is no classifier, DatasetError without images.
    """

    def __init__(self, model: ModelProto, calibration: Batches, progress: Progress = SILENT) -> None:
        logits, self.softmax = without_softmax(prepare(model))
        self.model = with_plain_layers(logits)
        names = list(dict.fromkeys([self.model.graph.input[0].name, *quantized_tensors(self.model)]))
        progress.step("observing the activations")
        self.histograms = {name: Histogram() for name in names}
        observe(self.model, {name: [one] for name, one in self.histograms.items()}, calibration)
        self.even = {name: EvenHistogram(max(one.high, -one.low, 0.0)) for name, one in self.histograms.items()}
        observe(self.model, {name: [one] for name, one in self.even.items()}, calibration)
        self._thresholds: dict[tuple[str, str], float] = {}

    def compiled(self, kind: Kind, mode: str, float_layers: Collection[str] = ()) -> ModelProto:
        """The graph as a compiler of that kind would run it, logits out; ``float_layers`` stay in float."""
        floats = self._floats(kind, float_layers)
        ranges = self._ranges(kind, mode, floats)
        scales, values = self._weights(kind, ranges, floats)
        return write_qdq(with_constants(self.model, values), ranges, scales)

    def compiled_with_ending(self, kind: Kind, mode: str, float_layers: Collection[str] = ()) -> ModelProto:
        """As :meth:`compiled`, with the Softmax that the given graph ends in."""
        model = self.compiled(kind, mode, float_layers)
        return model if self.softmax is None else with_softmax(model, self.softmax)

    def losses(self, kind: Kind, mode: str, images: Floats) -> dict[str, float]:
        """Each layer's own loss: SQNR (dB) of its output where it alone reads rounded activations and weights.

        The worst first. All layers are judged in one run, beside the float ones: what one loses does not reach another.
        """
        floats = self._floats(kind, ())
        ranges = self._ranges(kind, mode, floats)
        scales, values = self._weights(kind, ranges, floats)
        judged, names = _with_twins(self.model, ranges, scales, values)
        session = open_session(judged)
        power = np.zeros((len(names), 2))
        for start in range(0, min(len(images), _LAYER_IMAGES), 4):
            part = images[start : min(start + 4, _LAYER_IMAGES)]
            sums = session.run(
                [f"{name}::{what}" for name in names for what in ("signal", "noise")],
                {judged.graph.input[0].name: part},
            )
            power += np.array(sums, np.float64).reshape(len(names), 2)
        rows = {}
        for name, (signal, noise) in zip(names, power, strict=True):
            rows[name] = float(10 * np.log10(signal / noise)) if signal > 0 and noise > 0 else float("inf")
        return dict(sorted(rows.items(), key=lambda row: row[1]))

    def forecasts(
        self,
        expected: Floats,
        judged: Batches,
        labels: Sequence[int] | None,
        kinds: Collection[str] | None,
        progress: Progress,
    ) -> list[Forecast]:
        """The forecasts of the kinds of these names (all, if None), held against logits ``expected`` (n, classes)."""
        pairs = [(kind, mode) for kind in map(kind_named, KINDS if kinds is None else kinds) for mode in kind.modes]
        rows = []
        for kind, mode in progress.loop("compilers foreseen", pairs, len(pairs), "compiler"):
            rows.append(judge(kind, mode, expected, answers(self.compiled(kind, mode), judged), labels))
        return rows

    def _floats(self, kind: Kind, float_layers: Collection[str]) -> frozenset[str]:
        kept = set(float_layers)
        if kind.skips_ends:
            convolutions = [node.name for node in layers(self.model) if node.op_type == "Conv"]
            kept |= {*convolutions[:1], *(node.name for node in layers(self.model) if node.op_type == "Gemm")}
        return float_closure(self.model, kept)

    def _ranges(self, kind: Kind, mode: str, floats: Collection[str]) -> dict[str, Range]:
        if mode not in kind.modes:
            raise SettingsError(f"mode: {kind.name} has no mode '{one_line(mode)}'{did_you_mean(mode, kind.modes)}")
        made_by = producers(self.model)
        read = {name: source_of(name, made_by) for name in quantized_tensors(self.model, floats)}
        read = {name: source if source in self.histograms else name for name, source in read.items()}
        chosen_by = list(dict.fromkeys(read.values()))
        with ThreadPoolExecutor(usable_cpus()) as pool:
            ranges = dict(zip(chosen_by, pool.map(lambda name: self._range(name, kind, mode), chosen_by), strict=True))
        return {name: ranges[source] for name, source in read.items()}

    def _range(self, name: str, kind: Kind, mode: str) -> Range:
        if not kind.symmetric:
            return range_of(self.histograms[name], {"max": "largest"}.get(mode, mode), _PERCENT)
        if (name, mode) not in self._thresholds:
            self._thresholds[name, mode] = THRESHOLDS[mode](self.even[name])
        threshold = self._thresholds[name, mode]
        if kind.power_of_two:
            threshold = _next_power_of_two(threshold)
        return Symmetric(-threshold, threshold)

    def _weights(
        self, kind: Kind, ranges: Mapping[str, Range], floats: Collection[str]
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Scales of each weight by its name, and the weights and biases as they are after rounding."""
        held = constants(self.model)
        scales, values = {}, {}
        for node in layers(self.model):
            if node.name in floats or node.input[0] not in ranges:
                continue
            weight, bias = (held[name].astype(np.float64) for name in node.input[1:3])
            step = float(ranges[node.input[0]].scale_and_zero_point[0])
            if kind.symmetric:
                scale = _tvm_scales(node, weight, bias, step, kind)
            else:
                scale = weight_scales(node, weight, FULL_STEPS, kind.per_channel, bias, step)
            along = scale.astype(np.float64).reshape(
                [-1 if axis == weight_axis(node) else 1 for axis in range(weight.ndim)]
            )
            values[node.input[1]] = np.clip(np.rint(weight / along), -_TVM_LAST, _TVM_LAST) * along
            if kind.bias_bits == 8:
                values[node.input[2]] = _rounded_for_tensor(bias)
            scales[node.input[1]] = scale
        return scales, values


def foresee(
    model: ModelProto,
    calibration: Batches,
    judged: Batches,
    labels: Sequence[int] | None = None,
    *,
    reference: ModelProto | None = None,
    kinds: Collection[str] | None = None,
    progress: Progress = SILENT,
) -> list[Forecast]:
    """A forecast for each kind (all, if None) and each of its modes, in the table's order.

    ``judged`` gives images like ``calibration`` does, others where the figures are to be believed; ``labels`` one class
    for each of them. ``reference``: the float graph whose answers count; ``model`` itself, if None.
    """
    foresight = Foresight(model, calibration, progress)
    original = foresight.model if reference is None else with_plain_layers(without_softmax(prepare(reference))[0])
    return foresight.forecasts(answers(original, judged), judged, labels, kinds, progress)


def advised(rows: Mapping[str, Sequence[Forecast]]) -> dict[str, tuple[str, Forecast, float]]:
    """For each kind the graph and the forecast that keep most, by SQNR, and by how much the modes differ on it (dB).

    ``rows``: forecasts by what the graph is called. SQNR and not agreement decides: on some hundred images two modes
    often agree alike by chance.
    """
    chosen = {}
    for kind in dict.fromkeys(row.kind for of_graph in rows.values() for row in of_graph):
        own = [(graph, row) for graph, of_graph in rows.items() for row in of_graph if row.kind == kind]
        graph, best = max(own, key=lambda pair: pair[1].sqnr_db)
        beside = [row.sqnr_db for other, row in own if other == graph]
        chosen[kind] = (graph, best, max(beside) - min(beside))
    return chosen


def judge(kind: Kind, mode: str, expected: Floats, given: Floats, labels: Sequence[int] | None) -> Forecast:
    """The forecast of one kind and mode from logits (n, classes) of the float graph and its own."""
    top1 = None if labels is None else float(100 * np.mean(given.argmax(axis=1) == np.asarray(labels)))
    return Forecast(kind.name, mode, agreement(expected, given), sqnr_db(expected, given), top1)


def compiled_as(
    model: ModelProto,
    calibration: Batches,
    mode: str,
    *,
    per_channel: bool = True,
    float_layers: Collection[str] = (),
) -> ModelProto:
    """The graph as a TVM-like compiler told this calibration mode would run it; layers have ``prepare``'s names."""
    kind = kind_named("symmetric" if per_channel else "per-tensor")
    return Foresight(model, calibration).compiled_with_ending(kind, mode, float_layers)


def answers(model: ModelProto, batches: Batches) -> Floats:
    """Logits (n, classes) of every image; SettingsError where there is none."""
    session, name = open_session(model), model.graph.input[0].name
    parts = [session.run(None, {name: batch})[0] for batch in batches()]
    if not parts:
        raise SettingsError("foresee: there is no image to judge on; give at least one")
    return np.concatenate(parts).astype(np.float32)


class EvenHistogram:
    """Counts of all values in TVM's 8,001 even bins from -``limit`` to ``limit``, zeros among them.

    ``counts`` (8001,) int64; ``limit``: the largest magnitude, known from a pass before.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.counts = np.zeros(_BINS, np.int64)

    @property
    def width(self) -> float:
        """Width of a bin, in the tensor's unit."""
        return 2 * self.limit / _BINS

    @property
    def magnitudes(self) -> np.ndarray:
        """Counts by magnitude, (4001,): the middle bin, which holds zero, first."""
        middle = _BINS // 2
        folded = self.counts[middle:].copy()
        folded[1:] += self.counts[middle - 1 :: -1]
        return folded

    def add(self, values: np.ndarray) -> None:
        """Count float32 values of any shape."""
        flat = np.ascontiguousarray(values, np.float32).ravel()
        if self.limit > 0:
            _count_even(flat, self.limit, self.width, self.counts)
        else:
            self.counts[_BINS // 2] += flat.size


def _largest(histogram: EvenHistogram) -> float:
    return histogram.limit


def _percentile(histogram: EvenHistogram) -> float:
    """The first magnitude beyond TVM's percentile of all values, zeros counted, to one bin."""
    reached = np.cumsum(histogram.magnitudes)
    place = int(np.searchsorted(reached, int(reached[-1] * _PERCENT / 100), side="right"))
    return min((place + 0.5) * histogram.width, histogram.limit)


def _least_squares(histogram: EvenHistogram) -> float:
    """The threshold with the smallest squared error of rounding and clipping; TVM has none, closed compilers do."""
    counts = histogram.magnitudes[1:].astype(np.float64)
    centres = np.arange(1, len(counts) + 1) * histogram.width
    limits = histogram.limit * np.arange(_CANDIDATES, 0, -1) / _CANDIDATES
    return float(min(limits, key=lambda limit: counts @ np.square(_rounded(centres, limit / _TVM_STEPS) - centres)))


def _kl_divergence(histogram: EvenHistogram) -> float:
    """The threshold at which 255 levels diverge least from the clipped distribution, as TVM (and MXNet) finds it."""
    return float(_least_divergent(histogram.counts, _LEVELS) * histogram.width) if histogram.limit > 0 else 0.0


THRESHOLDS: dict[str, Callable[[EvenHistogram], float]] = {
    "percentile": _percentile,
    "max": _largest,
    "kl_divergence": _kl_divergence,
    "mse": _least_squares,
}


def _rounded(values: np.ndarray, scale: float) -> np.ndarray:
    return values if scale <= 0 else np.clip(np.rint(values / scale), -_TVM_LAST, _TVM_LAST) * scale


def _rounded_for_tensor(values: np.ndarray) -> np.ndarray:
    return _rounded(values, float(np.abs(values).max()) / _TVM_STEPS)


def _next_power_of_two(threshold: float) -> float:
    return float(2.0 ** np.ceil(np.log2(threshold))) if threshold > 0 else 0.0


def _tvm_scales(node: NodeProto, weight: np.ndarray, bias: np.ndarray, step: float, kind: Kind) -> np.ndarray:
    """Scale of each output channel, (channels,) float32: the largest magnitude is 128 steps.

    A channel whose bias would leave 32 bits gets the scale at which it fits, or TVM's sums would overflow unseen.
    """
    largest = np.abs(weight).max(axis=tuple(axis for axis in range(weight.ndim) if axis != weight_axis(node)))
    if not kind.per_channel:
        largest = np.full_like(largest, largest.max())
    if kind.power_of_two:
        largest = np.array([_next_power_of_two(value) for value in largest])
    scales = np.maximum(largest / _TVM_STEPS, np.abs(bias) / (step * _BIAS_STEPS))
    return np.where(scales > 0, scales, 1.0).astype(np.float32)


def _with_twins(
    model: ModelProto, ranges: Mapping[str, Range], scales: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray]
) -> tuple[ModelProto, list[str]]:
    """The float graph with, beside each layer, the same of rounded weights and input, and the power of both.

    Outputs ``LAYER::signal`` and ``LAYER::noise``: sums of squares over the batch.
    """
    judged = ModelProto()
    judged.CopyFrom(model)
    graph, held, names = judged.graph, constants(model), []
    rounded: set[str] = set()
    twins: list[NodeProto] = []
    for node in layers(model):
        source, weight, bias = node.input
        if weight not in scales:
            continue
        if source not in rounded:
            rounded.add(source)
            scale, zero_point = ranges[source].scale_and_zero_point
            for suffix, value in (
                ("scale", np.array(scale, np.float32)),
                ("zero", np.array(zero_point, ranges[source].dtype)),
            ):
                graph.initializer.append(numpy_helper.from_array(value, f"{source}::{suffix}"))
            given = [f"{source}::scale", f"{source}::zero"]
            twins.append(helper.make_node("QuantizeLinear", [source, *given], [f"{source}::codes"]))
            twins.append(helper.make_node("DequantizeLinear", [f"{source}::codes", *given], [f"{source}::rounded"]))
        own = [f"{source}::rounded"]
        for name in (weight, bias):
            own.append(f"{name}::rounded")
            value = np.asarray(values.get(name, held[name]), np.float32)
            graph.initializer.append(numpy_helper.from_array(value, own[-1]))
        twin = NodeProto()
        twin.CopyFrom(node)
        twin.name, twin.input[:], twin.output[:] = f"{node.name}::twin", own, [f"{node.name}::made"]
        twins.append(twin)
        twins.append(helper.make_node("Sub", [node.output[0], f"{node.name}::made"], [f"{node.name}::error"]))
        for part, what in ((node.output[0], "signal"), (f"{node.name}::error", "noise")):
            twins.append(helper.make_node("ReduceSumSquare", [part], [f"{node.name}::{what}"], keepdims=0))
            graph.output.append(helper.make_tensor_value_info(f"{node.name}::{what}", 1, []))
        names.append(node.name)
    graph.node.extend(twins)
    return judged, names


@jit()
def _count_even(values, limit, width, counts):  # type: ignore[no-untyped-def]  # pragma: no cover - machine code
    """Count each value's bin; a value on the last border is in the last bin."""
    last = len(counts) - 1
    inverse = 1.0 / width
    for value in values:
        place = int(np.floor((value + limit) * inverse))
        counts[max(min(place, last), 0)] += 1


@jit()
def _least_divergent(counts, levels):  # type: ignore[no-untyped-def]  # pragma: no cover - machine code
    """Half the width, in bins, of the part about zero that diverges least in ``levels``.

    Every candidate part is compared: what lies outside is added to its ends (p), its own counts are spread evenly over
    the filled bins of each level (q). Bins that both leave empty add nothing.
    """
    middle, every = len(counts) // 2, counts.sum()
    up_to, filled_up_to = np.zeros(len(counts) + 1), np.zeros(len(counts) + 1, np.int64)
    up_to[1:], filled_up_to[1:] = np.cumsum(counts), np.cumsum(counts != 0)
    best, least = middle + 0.5, np.inf
    totals, filled, reached = np.zeros(levels), np.zeros(levels), np.zeros(levels)
    for reach in range(levels // 2, middle + 1):
        first, size = middle - reach, 2 * reach + 1
        low, high = up_to[first + 1], up_to[len(counts)] - up_to[first + size - 1]
        merged = size // levels
        for level in range(levels):
            # The first bin holds all that lies below, and of its own nothing counts for q.
            begin = first + (level * merged if level else 1)
            end = first + (size if level == levels - 1 else (level + 1) * merged)
            totals[level] = up_to[end] - up_to[begin]
            filled[level] = filled_up_to[end] - filled_up_to[begin]
            reached[level] = filled[level]
        reached[0] += low > 0
        reached[levels - 1] += high > 0 and counts[first + size - 1] == 0
        empty_p = size - reached.sum()
        empty_q = size - reached[filled > 0].sum()
        if empty_q == size:
            continue
        taken_p, taken_q = _SMOOTHING * empty_p / (size - empty_p), _SMOOTHING * empty_q / (size - empty_q)
        if taken_p >= 1 or taken_q >= 1:
            continue
        divergence, q_sum = 0.0, 0.0
        for level in range(levels):
            begin = level * merged
            end = size if level == levels - 1 else begin + merged
            spread = totals[level] / filled[level] if filled[level] else 0.0
            q_sum += spread * reached[level]
            log_q = np.log(spread - taken_q if filled[level] else _SMOOTHING)
            for k in range(begin, end):
                value = low if k == 0 else high if k == size - 1 else float(counts[first + k])
                if value:
                    divergence += (value - taken_p) * (np.log(value - taken_p) - log_q)
        divergence = divergence / every + np.log(q_sum / every)
        if divergence < least:
            best, least = reach + 0.5, divergence
    return best
