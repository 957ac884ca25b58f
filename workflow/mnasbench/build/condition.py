"""A float graph that computes the same function and that any quantizer keeps, with a certificate of both.

Most of what the embedded compiler knows about int8 is exact on the float graph: BatchNorm folded, dead channels
silenced, channels scaled, shifted and mirrored. Written out as fp32 ONNX of plain operators it serves compilers that
know nothing of it, closed ones among them. Nothing here rounds a weight: what the answers move by is fp32's own
rounding, and a graph that moves them by more is refused.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from mnasbench.build.calibration import Batches, observe, sample
from mnasbench.build.dead_channels import without_dead_channels
from mnasbench.build.equalize import Equalized, as_groups, equalize
from mnasbench.build.foresee import Forecast, Foresight, answers, kind_named
from mnasbench.build.gate import agreement, check_exact, logits_of, sqnr_db
from mnasbench.build.graph import constants, layers, macs_by_layer, prepare, tensor_shapes
from mnasbench.build.observer import Moments
from mnasbench.build.opset import OPSETS, in_opset, opset_of
from mnasbench.build.plain_layers import with_plain_layers, with_softmax, without_softmax
from mnasbench.build.quantize import quantized_tensors
from mnasbench.errors import DatasetError, SettingsError, did_you_mean, one_line
from mnasbench.files import sha256_of_bytes
from mnasbench.progress import SILENT, Progress

# Every fifth calibration image conditions nothing, so that the certificate's figures are of images not chosen on.
HOLD_OUT = 5
# Images that answers are compared on, and those of noise, which no dataset made; fp16 is emulated, on fewer.
_JUDGED, _NOISE, _HALF = 128, 8, 16
# Images that an emulated compiler calibrates on, and those that it is judged on.
_FORESEEN = 100, 64
# A layer that keeps so much less by itself than half of them is worth float, if there are not many.
_STANDS_OUT_DB, _MOST_EXCLUDED = 6.0, 4
# Calibration images that say whether equalization pays.
_CHOSEN_ON = 32
# Of the least channel there is often nothing left on the images; below this share it counts as silent.
_SILENT = 1e-9


@dataclass(frozen=True)
class Target:
    """What a compiler that is not ours wants of a float graph.

    ``opset``: the newest that it reads for certain; None, the graph's own. ``lacks``: operators that it has no kernel
    or no reader for, written in others. ``kinds``: the kinds of quantizers that it may be (:data:`foresee.KINDS`).
    ``linear_balance``, ``balance``: how scales are shared between activations and weights (:func:`equalize`).
    """

    title: str
    kinds: tuple[str, ...]
    opset: int | None = None
    lacks: frozenset[str] = frozenset()
    balance: float = 0.5
    linear_balance: float = 0.25


# vamc reads what TVM's ONNX frontend does, its published exports are of opset 11; TFLite's has no HardSwish.
TARGETS = {
    "vamc": Target("vamc, a TVM-like compiler", ("symmetric",), opset=11, lacks=frozenset({"HardSwish"})),
    "onnxruntime": Target("ONNX Runtime's quantize_static", ("asymmetric",)),
    "openvino": Target("OpenVINO with NNCF", ("asymmetric",)),
    "tflite": Target("TFLite", ("asymmetric",), opset=13, lacks=frozenset({"HardSwish"})),
}


@dataclass(frozen=True)
class Conditioned:
    """The conditioned graph and its certificate, which docs/condition.md explains key by key."""

    model: ModelProto
    certificate: dict[str, Any]


def target_named(name: str) -> Target:
    """The target of that name; SettingsError, with the nearest one, where there is none."""
    if name not in TARGETS:
        raise SettingsError(f"target: unknown compiler '{one_line(name)}'{did_you_mean(name, TARGETS)}")
    return TARGETS[name]


def condition(
    model: ModelProto,
    batches: Batches,
    target: str = "onnxruntime",
    *,
    opset: int | None = None,
    batch: int | None = None,
    kinds: Collection[str] | None = None,
    progress: Progress = SILENT,
) -> Conditioned:
    """Condition a float classifier (float32, one image input with a free batch, scores out) for a target.

    ``batches`` gives calibration images, float32 (n, 3, H, W) normalised, afresh at each call. ``opset`` in place of
    the target's own. ``batch``: the number of images of the input; None leaves it free. ``kinds``: the compilers whose
    loss is foreseen (:mod:`mnasbench.build.foresee`); None, those that the target may
    be.

    Raises SettingsError for an unknown target or opset, DatasetError without enough images, ModelError for a graph that
    is no classifier, BuildError where the answers moved by more than rounding or the graph has no form in that opset.
    """
    profile = target_named(target)
    if opset is not None and opset not in OPSETS:
        raise SettingsError(f"opset: {opset} is not within {OPSETS.start} to {OPSETS.stop - 1}")
    version = profile.opset if opset is None else opset
    prepared, softmax = without_softmax(prepare(model))
    plain = with_plain_layers(prepared)
    calibration, held_out = _split(batches)
    quiet, silent = without_dead_channels(plain)
    names = list(dict.fromkeys([quiet.graph.input[0].name, *quantized_tensors(quiet)]))
    watched = list(dict.fromkeys([*names, *(node.output[0] for node in layers(quiet))]))
    shapes = tensor_shapes(quiet)
    moments = {name: Moments(shapes[name][1]) for name in watched}
    progress.step("observing the channels' extremes")
    observe(quiet, {name: [one] for name, one in moments.items()}, calibration)
    progress.step("equalizing channels")
    used = {name: moments[name] for name in names}
    equalized = equalize(quiet, used, profile.balance, profile.linear_balance)
    # Even channels gain nothing from scales, and weights may lose: calibration images say which of both this is.
    few = sample(calibration, moments[names[0]].images, _CHOSEN_ON)
    kept = {
        name: _kept_by(profile.kinds[0], graph, few)
        for name, graph in (("equalized", equalized.model), ("as_it_was", quiet))
    }
    if not kept["equalized"] >= kept["as_it_was"]:
        equalized = Equalized(quiet, used, [], [*equalized.scaled, *equalized.left])
    finished = equalized.model if softmax is None else with_softmax(equalized.model, softmax)
    newer, finished = finished, _with_batch(in_opset(finished, version, profile.lacks), batch)
    progress.step("comparing the answers")
    certificate = {
        "target": target,
        "opset": opset_of(finished),
        "images": {"conditioned_on": moments[names[0]].images, "judged": len(held_out)},
        "float32": _compared(model, finished, held_out),
        "float16": _compared_in_half(model, finished, held_out[:_HALF]),
        "silenced_channels": silent,
        "equalized": {"activations": len(equalized.scaled), "left": len(equalized.left), "sqnr_db": kept},
        "layers": _layer_rows(quiet, equalized.model, moments, equalized.moments, calibration),
        "digests": {"original": _digest(model), "conditioned": _digest(finished)},
    }
    progress.step("foreseeing what compilers make of both")
    certificate |= _foreseen(
        model,
        newer,
        sample(calibration, moments[names[0]].images, _FORESEEN[0]),
        held_out[: _FORESEEN[1]],
        profile.kinds if kinds is None else kinds,
        progress,
    )
    return Conditioned(finished, certificate)


def _kept_by(kind: str, model: ModelProto, images: np.ndarray) -> float:
    """SQNR (dB) of the logits under a kind of compiler whose ranges hold every value of these images."""
    foresight = Foresight(model, partial(_batches, images))
    graphs = foresight.model, foresight.compiled(kind_named(kind), "max")
    expected, given = (answers(graph, partial(_batches, images)) for graph in graphs)
    return sqnr_db(expected, given)


def _split(batches: Batches) -> tuple[Batches, np.ndarray]:
    """The stream of the images that condition, and the others, float32 (n, 3, H, W)."""

    def parts() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        start = 0
        for images in batches():
            out = (np.arange(start, start + len(images)) % HOLD_OUT) == HOLD_OUT - 1
            start += len(images)
            yield images[~out], images[out]

    held: list[np.ndarray] = []
    count = 0
    for _, out in parts():
        held.append(out[: _JUDGED - count])
        count += len(held[-1])
    if not count:
        raise DatasetError(f"calibration: needs at least {HOLD_OUT} images, one in {HOLD_OUT} is kept to judge on")
    return (lambda: (rest for rest, _ in parts() if len(rest))), np.concatenate(held)


def _compared(before: ModelProto, after: ModelProto, images: np.ndarray) -> dict[str, Any]:
    """How far the answers moved on images and on noise; BuildError where it is more than rounding."""
    rows: dict[str, Any] = {}
    noise = np.random.default_rng(0).normal(size=(_NOISE, *images.shape[1:])).astype(np.float32)
    for name, inputs in (("images", images), ("noise", noise)):
        expected, given = logits_of(before, inputs), _answers(after, inputs)
        change = check_exact(expected, given, "conditioning")
        rows[name] = {
            "count": len(inputs),
            "largest_difference": float(np.abs(expected - given).max()),
            "of_the_largest": change,
            "agreement": agreement(expected, given),
        }
    return rows


def _compared_in_half(before: ModelProto, after: ModelProto, images: np.ndarray) -> dict[str, Any]:
    """How far fp16 of the original and of the conditioned graph stand from the original's fp32."""
    expected = logits_of(before, images)
    rows: dict[str, Any] = {"count": len(images)}
    for name, graph in (("original", before), ("conditioned", after)):
        given = _answers(_in_half(graph), images)
        is_finite = bool(np.isfinite(given).all())
        rows[name] = {
            "is_finite": is_finite,
            "largest_difference": float(np.abs(expected - given).max()) if is_finite else None,
            "sqnr_db": sqnr_db(expected, given) if is_finite else None,
            "agreement": agreement(expected, given),
        }
    return rows


def _answers(model: ModelProto, images: np.ndarray) -> np.ndarray:
    """Scores of the images; a graph of a fixed batch is asked so many at a time."""
    fixed = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value
    return logits_of(_with_batch(model, None) if fixed else model, images)


def _in_half(model: ModelProto) -> ModelProto:
    """The graph with its weights and every value between operators rounded to fp16, computed in fp32."""
    copy = ModelProto()
    copy.CopyFrom(model)
    shapes = tensor_shapes(model)
    half = np.finfo(np.float16)
    for tensor in copy.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            value = numpy_helper.to_array(tensor)
            with np.errstate(over="ignore"):
                rounded = np.where(np.abs(value) > half.max, value, value.astype(np.float16).astype(np.float32))
            tensor.CopyFrom(numpy_helper.from_array(rounded.astype(np.float32), tensor.name))
    nodes: list[NodeProto] = []
    for node in copy.graph.node:
        rounded_names = [name for name in node.output if name in shapes]
        for position, name in enumerate(node.output):
            if name in rounded_names:
                node.output[position] = f"{name}::whole"
        nodes.append(node)
        for name in rounded_names:
            nodes.append(helper.make_node("Cast", [f"{name}::whole"], [f"{name}::half"], to=TensorProto.FLOAT16))
            nodes.append(helper.make_node("Cast", [f"{name}::half"], [name], to=TensorProto.FLOAT))
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy


def _with_batch(model: ModelProto, batch: int | None) -> ModelProto:
    """A copy whose input takes so many images; None, any number."""
    copy = ModelProto()
    copy.CopyFrom(model)
    for value in (*copy.graph.input, *copy.graph.output):
        first = value.type.tensor_type.shape.dim[0]
        if batch is None:
            first.dim_param = first.dim_param or "batch"
        else:
            first.dim_value = batch
    if batch is not None:
        del copy.graph.value_info[:]
    return copy


def _layer_rows(
    before: ModelProto,
    after: ModelProto,
    moments: Mapping[str, Moments],
    moved: Mapping[str, Moments],
    calibration: Batches,
) -> list[dict[str, Any]]:
    """Of each layer, how many times the greatest channel of its output and of its weights exceeds the least one."""
    missing = [node.output[0] for node in layers(after) if node.output[0] not in moved]
    shapes = tensor_shapes(after)
    rest = {name: Moments(shapes[name][1]) for name in missing}
    if rest:
        observe(after, {name: [one] for name, one in rest.items()}, calibration)
    old, new = constants(before), constants(after)
    rows = []
    for node in layers(after):
        name = node.output[0]
        rows.append(
            {
                "layer": node.name,
                "outputs_before": _ratio(_magnitudes(moments[name])),
                "outputs_after": _ratio(_magnitudes(moved.get(name) or rest[name])),
                "weights_before": _ratio(_weight_magnitudes(node, old[node.input[1]])),
                "weights_after": _ratio(_weight_magnitudes(node, new[node.input[1]])),
            }
        )
    return rows


def _magnitudes(moments: Moments) -> np.ndarray:
    return np.asarray(np.maximum(np.abs(moments.low), np.abs(moments.high)))


def _weight_magnitudes(node: NodeProto, weight: np.ndarray) -> np.ndarray:
    return np.asarray(np.abs(as_groups(node, weight)).max(axis=(2, 3)).ravel())


def _ratio(magnitudes: np.ndarray) -> float | None:
    """The greatest over the least that is not silent; None where all are."""
    heard = magnitudes[magnitudes > _SILENT * magnitudes.max(initial=0.0)]
    return float(heard.max() / heard.min()) if len(heard) else None


def _foreseen(
    before: ModelProto,
    after: ModelProto,
    calibration: np.ndarray,
    judged: np.ndarray,
    kinds: Collection[str],
    progress: Progress,
) -> dict[str, Any]:
    """What int8 keeps of the original's answers under each kind and mode, raw and conditioned; the layers that lose.

    The layers are judged under the first kind, in the mode that keeps most of the conditioned graph.
    """
    on, of = partial(_batches, calibration), partial(_batches, judged)
    raw, changed = Foresight(before, on, progress), Foresight(after, on, progress)
    expected = answers(raw.model, of)
    rows = {
        name: one.forecasts(expected, of, None, kinds, progress)
        for name, one in (("raw", raw), ("conditioned", changed))
    }
    foreseen = [
        {"kind": old.kind, "mode": old.mode, "raw": _kept(old), "conditioned": _kept(new)}
        for old, new in zip(rows["raw"], rows["conditioned"], strict=True)
    ]
    kind = kind_named(next(iter(kinds)))
    best = max((row for row in rows["conditioned"] if row.kind == kind.name), key=lambda row: row.sqnr_db)
    losing = _losing(after, changed.losses(kind, best.mode, judged))
    spared = changed.compiled(kind, best.mode, list(losing["layers"]))
    kept = sqnr_db(expected, answers(spared, of))
    losing |= {"kind": kind.name, "mode": best.mode, "sqnr_db_without": best.sqnr_db, "sqnr_db_with": kept}
    return {"foreseen": foreseen, "losing_layers": losing}


def _kept(row: Forecast) -> dict[str, float | None]:
    return {"agreement": row.agreement, "sqnr_db": row.sqnr_db if np.isfinite(row.sqnr_db) else None}


def _losing(model: ModelProto, losses: Mapping[str, float]) -> dict[str, Any]:
    """The convolutions that stand out by what each loses alone, in the vendor's keys, and what they do of the work."""
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    own = {name: kept for name, kept in losses.items() if name in convolutions and np.isfinite(kept)}
    limit = float(np.median(list(own.values()))) - _STANDS_OUT_DB if own else 0.0
    named = dict([(name, kept) for name, kept in own.items() if kept < limit][:_MOST_EXCLUDED])
    macs = macs_by_layer(model)
    return {
        "layers": named,
        "skip_conv_layers": sorted(convolutions.index(name) for name in named),
        "exclude_layers": sorted(named),
        "macs_share": sum(macs.get(name, 0) for name in named) / sum(macs.values()),
    }


def _batches(images: np.ndarray) -> Iterator[np.ndarray]:
    return (images[start : start + 8] for start in range(0, len(images), 8))


def _digest(model: ModelProto) -> str:
    return sha256_of_bytes(model.SerializeToString(deterministic=True))
