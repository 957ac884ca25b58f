"""What a build must hold before its files are written; where it does not, there are no files."""

from collections import Counter
from collections.abc import Collection

import numpy as np
from onnx import ModelProto

from mnasbench.build.graph import layers
from mnasbench.build.quantize import int8_nodes
from mnasbench.errors import BuildError
from mnasbench.runtimes.base import OperatorCounts, Session, holds_int8
from mnasbench.runtimes.onnxruntime import Level, open_session, optimized

# Largest change of a logit by steps that are exact, in shares of the largest logit: fp32's rounding over some
# 60 layers stays a hundredfold below it.
EXACT = 1e-4
_TWICE_DB = 10 * np.log10(2)


def logits_of(model: ModelProto, images: np.ndarray, level: Level = "all") -> np.ndarray:
    """Logits (n, classes) float32 of images (n, 3, H, W), 16 at a time so that memory stays small."""
    runner = open_session(model, level=level)
    name = model.graph.input[0].name
    return np.concatenate([runner.run(None, {name: images[i : i + 16]})[0] for i in range(0, len(images), 16)])


def sqnr_db(reference: np.ndarray, values: np.ndarray) -> float:
    """10 log10 of the power of ``reference`` over that of the difference; infinite where there is none."""
    signal = np.square(reference, dtype=np.float64).sum()
    noise = np.square(np.subtract(reference, values, dtype=np.float64)).sum()
    return float(10 * np.log10(signal / noise)) if noise else float("inf")


def agreement(reference: np.ndarray, values: np.ndarray) -> float:
    """Percent of rows (n, classes) whose largest value stands in the same class."""
    return float(100 * np.mean(reference.argmax(axis=1) == values.argmax(axis=1)))


def check_exact(before: np.ndarray, after: np.ndarray, step: str) -> float:
    """The largest change of a logit in shares of the largest logit; BuildError where ``step`` was not exact."""
    change = float(np.abs(before - after).max() / max(np.abs(before).max(), np.finfo(np.float32).tiny))
    if not change <= EXACT:
        raise BuildError(
            f"gate: {step} changed fp32 logits by {change:.1e} of the largest, allowed is {EXACT:.0e}; "
            f"switch {step} off for this model and report it"
        )
    return change


def computed_in_float(quantized: ModelProto, asked: Collection[str]) -> list[str]:
    """Which of the layers of these names ONNX Runtime computes in float all the same."""
    # Behind the name that it was given stands, for some kernels, a number.
    names = {
        node.name.partition("_token_")[0]
        for node in optimized(quantized).graph.node
        if node.op_type in ("QLinearConv", "QGemm")
    }
    return [name for name in asked if name not in names]


def check_operators(
    model: ModelProto, quantized: ModelProto, float_nodes: Collection[str], fused: Collection[str] = ()
) -> dict[str, int]:
    """Operator counts of the graph as ONNX Runtime runs it; BuildError where a layer did not get its precision.

    ``model`` is the float graph, ``float_nodes`` its layers that were to stay float, ``fused`` those that only another
    runtime, which computes the gate behind them in the same kernel, has in int8. Every other convolution must run in
    int8; where every operator is of int8 nothing but the image may be quantized at run time.
    """
    counts = Counter(node.op_type for node in optimized(quantized).graph.node)
    every = sum(node.op_type == "Conv" for node in model.graph.node)
    floating = {*float_nodes, *fused}
    asked = sum(node.op_type == "Conv" and node.name not in floating for node in layers(model))
    floats = counts["Conv"] + counts["FusedConv"]
    # Beside the graph's own, the optimizer may make further ones, of what it folds.
    if counts["QLinearConv"] != asked or floats < every - asked:
        raise BuildError(
            f"gate: {counts['QLinearConv']} Convs run in int8 and {floats} in fp32, "
            f"expected {asked} and {every - asked}; name the Convs that cannot be int8 as float layers"
        )
    whole = not floating and len(int8_nodes(model)) == len(model.graph.node)
    if whole and (counts["QuantizeLinear"] > 1 or counts["DequantizeLinear"] > 1):
        raise BuildError(
            f"gate: the optimized graph has {counts['QuantizeLinear']} QuantizeLinear and {counts['DequantizeLinear']} "
            "DequantizeLinear, expected at most one of each; an operator between int8 layers fell back to fp32"
        )
    return dict(sorted(counts.items()))


def check_levels(quantized: ModelProto, images: np.ndarray, reference: np.ndarray) -> float:
    """SQNR (dB) between the graph run literally and fully optimized; BuildError where optimizing it loses accuracy.

    Int8 kernels and the literal graph, which computes in fp32, round a few values differently, and every such
    value makes others differ in the layers after it; both stay equally near to ``reference``, the float model's
    logits. Saturating kernels do not: twice the literal graph's error is taken for that.
    """
    literal = logits_of(quantized, images, "none")
    fused = logits_of(quantized, images)
    lost_literal, lost_fused = sqnr_db(reference, literal), sqnr_db(reference, fused)
    if not lost_fused >= lost_literal - _TWICE_DB:
        raise BuildError(
            f"gate: the optimized graph stands {lost_fused:.1f} dB from fp32, the literal one {lost_literal:.1f} dB; "
            "this CPU's int8 kernels saturate, build with weight_bits: 7"
        )
    return sqnr_db(literal, fused)


def check_answers(model: ModelProto, graph: ModelProto, session: Session, images: np.ndarray, name: str) -> None:
    """BuildError where the runtime called ``name`` loses accuracy on ``graph`` that ONNX Runtime keeps.

    ``model`` is the float graph, ``session`` takes ``images``, float32 (n, 3, H, W). Twice the literal graph's error is
    too much, as in :func:`check_levels`; of a graph that is all float, ten times the change that counts as exact.
    """
    is_quantized = holds_int8(graph)
    reference = logits_of(model, images)
    literal = logits_of(graph, images, "none")
    answers = np.concatenate([session.infer(images[i : i + 8]) for i in range(0, len(images), 8)])
    least = sqnr_db(reference, literal) - _TWICE_DB if is_quantized else -20 * np.log10(10 * EXACT)
    kept = sqnr_db(reference if is_quantized else literal, answers)
    if not kept >= least:
        raise BuildError(f"gate: {name}'s answers stand {kept:.1f} dB from fp32, expected at least {least:.1f} dB")


def check_as_run(session: Session, int8_convs: int, float_convs: int, name: str) -> OperatorCounts:
    """What the runtime called ``name`` computes in int8 and in float; BuildError where a layer lost its precision.

    ``int8_convs`` and ``float_convs``: how many convolutions are to run in either. A runtime may make one of two, or a
    constant of one whose weights have all become zero; what is missing in int8 must not be found in float.
    """
    counts = session.count_operators()
    lost = counts.int8_convolutions < int8_convs and counts.float_convolutions > float_convs
    if lost or counts.int8_convolutions > int8_convs:
        raise BuildError(
            f"gate: {name} runs {counts.int8_convolutions} convolutions in int8, expected {int8_convs}; "
            f"{counts.float_convolutions} run in float, expected {float_convs}"
        )
    return counts
