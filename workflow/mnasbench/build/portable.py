"""What an int8 graph answers on another kind of CPU, computed exactly on this one.

x86 without VNNI multiplies unsigned by signed bytes with pmaddubsw, which adds the products of two neighbours and
saturates that sum in 16 bits. Which two are neighbours is the kernels' own order: for ONNX Runtime the positions of
the kernel and, within one, the channels of the group (NHWC); OpenVINO's begin anew at each position. A depthwise layer
has no neighbours: its products are widened first. All else sums in 32 bits, which no layer fills.

So a layer's sums on such a CPU are the exact ones, less what each pair is above 16 bits; pairs of weights that cannot
get there, nearly all, need no look. tests/unit/build/test_portable.py compares with CPUs that qemu emulates.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from mnasbench.build.gate import agreement, sqnr_db
from mnasbench.build.graph import attribute, constants, integers
from mnasbench.cpus import usable_cpus
from mnasbench.errors import ModelError
from mnasbench.jit import jit
from mnasbench.runtimes import RUNTIMES
from mnasbench.runtimes.onnxruntime import open_session, optimized

Array = npt.NDArray[np.generic]
_LIMITS = np.iinfo(np.int16)
# fp32 holds every whole number up to here.
_WHOLE = 1 << 24
# int8 operators of ONNX Runtime whose sums are not followed here; ort-vamc writes none that becomes one of them.
_UNFOLLOWED = frozenset(
    {"ConvInteger", "DynamicQuantizeMatMul", "MatMulInteger", "MatMulIntegerToFloat", "QAttention", "QLinearMatMul"}
)
# Images that are computed at once.
_BATCH = 8


@dataclass(frozen=True)
class CpuKind:
    """Processors that sum int8 products alike. ``saturates``: pairs of them in 16 bits."""

    name: str
    saturates: bool = False
    is_arm: bool = False


EXACT = CpuKind("x86 with VNNI or AMX")
SATURATING = CpuKind("x86 without VNNI", saturates=True)
ARM = CpuKind("Arm", is_arm=True)


@dataclass
class Saturated:
    """How often the sums of one layer's pairs leave 16 bits.

    ``pairs``: sums of two products that were computed; ``risky``: share of them whose weights allow it at all.
    """

    layer: str
    pairs: int
    risky: float
    count: int = 0

    @property
    def share(self) -> float:
        """Share of the sums of pairs that saturated."""
        return self.count / self.pairs if self.pairs else 0.0


@dataclass
class _Sums:
    """One layer whose pairs may saturate: where its values come from, and how its sums become its output."""

    node: NodeProto
    name: str
    weight: np.ndarray  # (out, in of a group, *kernel) int8
    channels_last: bool
    finish: Callable[[np.ndarray, Mapping[str, np.ndarray]], np.ndarray] = field(repr=False)
    codes: str = ""  # the uint8 tensor that it reads
    zero_point: int = 0


def emulate(
    graph: ModelProto, runtime: str, tensor: np.ndarray, saturates: bool = True
) -> tuple[np.ndarray, list[Saturated]]:
    """Logits, float32 (n, classes), of ``tensor`` (what the graph's input takes) on a CPU that saturates or does not.

    ``runtime``: whose kernels: ``onnxruntime``, which is followed node by node in the graph as it optimizes it, or
    ``openvino``, for which the Q/DQ graph is followed with int8 sums in each layer between DequantizeLinear nodes.
    Also gives a row for each layer that can saturate. ModelError for an operator that is not followed.
    """
    as_written = not RUNTIMES[runtime].is_reference
    walk = _Walk(graph if as_written else optimized(graph), as_written, saturates)
    with ThreadPoolExecutor(usable_cpus()) as pool:
        results = list(pool.map(walk.run, (tensor[start : start + _BATCH] for start in range(0, len(tensor), _BATCH))))
    return np.concatenate(results), [row for row in walk.rows.values() if row.risky]


class _Walk:
    def __init__(self, graph: ModelProto, by_position: bool, saturates: bool) -> None:
        self.graph, self.by_position, self.saturates = graph.graph, by_position, saturates
        self.values = constants(graph)
        self.opsets, self.ir_version = list(graph.opset_import), graph.ir_version
        self.made_by = {name: node for node in self.graph.node for name in node.output}
        self.readers: dict[str, int] = {}
        for node in self.graph.node:
            for name in node.input:
                self.readers[name] = self.readers.get(name, 0) + 1
        self.lock = Lock()
        self.rows: dict[str, Saturated] = {}
        self.layers = {node.name + node.output[0]: self._layer(node) for node in self.graph.node}
        self.pairs = {key: _pairs(layer, by_position) for key, layer in self.layers.items() if layer is not None}
        self.runs: dict[str, Callable[[Mapping[str, np.ndarray]], list[np.ndarray]]] = {}

    def run(self, tensor: np.ndarray) -> np.ndarray:
        alive: dict[str, np.ndarray] = {self.graph.input[0].name: tensor}
        left = dict(self.readers)
        result = self.graph.output[0].name
        for node in self.graph.node:
            key = node.name + node.output[0]
            layer = self.layers[key]
            if layer is not None and len(self.pairs[key].places):
                alive[node.output[0]] = self._summed(layer, key, alive)
            else:
                alive |= zip([name for name in node.output if name], self._run(key, node, alive), strict=True)
            for name in node.input:
                left[name] -= 1
                if not left[name] and name in alive and name != result and not self._codes_needed(name):
                    del alive[name]
        return alive[result].astype(np.float32)

    def _codes_needed(self, name: str) -> bool:
        """Whether a layer reads these bytes past the DequantizeLinear that stands between."""
        return self.by_position and name in {layer.codes for layer in self.layers.values() if layer is not None}

    def _run(self, key: str, node: NodeProto, alive: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        given = {n: alive[n] if n in alive else self.values[n] for n in dict.fromkeys(node.input) if n}
        if key not in self.runs:
            fixed = [numpy_helper.from_array(value, name) for name, value in given.items() if name not in alive]
            free = [
                helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), [None] * v.ndim)
                for n, v in given.items()
                if n in alive
            ]
            made = [helper.make_empty_tensor_value_info(name) for name in node.output if name]
            graph = helper.make_graph([node], "one", free, made, fixed)
            model = helper.make_model(graph, opset_imports=self.opsets, ir_version=self.ir_version)
            session = open_session(model, threads=1)
            names = [value.name for value in free]
            self.runs[key] = lambda values: session.run(None, {name: values[name] for name in names})
        return self.runs[key](alive)

    # ------------------------------------------------------------------------------------------ layers with sums
    def _layer(self, node: NodeProto) -> _Sums | None:
        """The layer whose sums of pairs are to be followed; None for every other node."""
        if node.op_type in _UNFOLLOWED:
            raise ModelError(f"{node.op_type}: its sums on another CPU are not foretold; ort-vamc writes no such graph")
        if node.op_type in ("QLinearConv", "QGemm"):
            layer = self._quantized_layer(node)
        elif self.by_position and node.op_type in ("Conv", "Gemm"):
            layer = self._dequantized_layer(node)
        else:
            return None
        return layer if layer is not None and _has_neighbours(layer) else None

    def _quantized_layer(self, node: NodeProto) -> _Sums | None:
        codes, in_scale, in_zero, weight, scale, weight_zero = node.input[:6]
        w = self.values.get(weight)
        if w is None or w.dtype != np.int8 or np.any(self.values[weight_zero]):
            return None
        if node.op_type == "QLinearConv":
            out_scale, out_zero, *rest = node.input[6:]
            bias, kernel = (rest[0] if rest else ""), w
        else:
            bias, out_scale, out_zero = [*node.input[6:], "", "", ""][:3]
            kernel = w if attribute(node, "transB", 0) else w.T
            if attribute(node, "transA", 0) or attribute(node, "alpha", 1.0) != 1.0:
                raise ModelError("QGemm: transposed or scaled products are not foretold; ort-vamc writes no such graph")
        step = self.values[in_scale] * self.values[scale]
        if out_scale:
            step = step / self.values[out_scale]
        finish = _Requantize(
            step.astype(np.float32).reshape(-1),
            self.values[bias].astype(np.int64).reshape(-1) if bias else np.zeros(1, np.int64),
            int(self.values[out_zero].item()) if out_scale else None,
        )
        last = node.op_type == "QLinearConv" and bool(attribute(node, "channels_last", 0))
        zero_point = int(self.values[in_zero].item())
        return _Sums(node, weight.removesuffix("_quantized"), kernel, last, finish, codes, zero_point)

    def _dequantized_layer(self, node: NodeProto) -> _Sums | None:
        source, weights = (self.made_by.get(name) for name in node.input[:2])
        if source is None or weights is None or {source.op_type, weights.op_type} != {"DequantizeLinear"}:
            return None
        codes, in_scale, in_zero = source.input
        weight, scale = weights.input[:2]
        w = self.values.get(weight)
        if w is None or w.dtype != np.int8 or self.values[in_zero].dtype != np.uint8:
            return None
        kernel = w if node.op_type == "Conv" or attribute(node, "transB", 0) else w.T
        step = (self.values[in_scale] * self.values[scale]).astype(np.float32).reshape(-1)
        finish = _Dequantize(step, node.input[2] if len(node.input) > 2 else "")
        zero_point = int(self.values[in_zero].item())
        return _Sums(node, weight.removesuffix("_quantized"), kernel, False, finish, codes, zero_point)

    def _summed(self, layer: _Sums, key: str, alive: Mapping[str, np.ndarray]) -> np.ndarray:
        codes = alive[layer.codes]
        planar = np.moveaxis(codes, -1, 1) if layer.channels_last else codes
        shape = _Geometry.of(layer)
        if planar.ndim == 2:
            planar = planar[:, :, None, None]
        padded = np.pad(
            planar, ((0, 0), (0, 0), *zip(shape.pads[:2], shape.pads[2:], strict=True)),
            constant_values=layer.zero_point,
        )  # fmt: skip
        padded = np.ascontiguousarray(padded)
        weight = layer.weight.reshape(*layer.weight.shape, *[1] * (4 - layer.weight.ndim))
        sums = _exact_sums(padded, layer.zero_point, weight, shape)
        pairs = self.pairs[key]
        beyond = 0
        if self.saturates:
            beyond = int(_take_excess(sums, padded, *shape.strides, pairs.starts, pairs.weights, pairs.places))
        with self.lock:
            row = self.rows.setdefault(layer.name, Saturated(layer.name, 0, pairs.share))
            row.pairs += sums.size * pairs.each
            row.count += beyond
        result = layer.finish(sums, {**self.values, **alive})
        if layer.weight.ndim == 2:
            return result[:, :, 0, 0]
        return np.moveaxis(result, 1, -1) if layer.channels_last else result


@dataclass(frozen=True)
class _Requantize:
    """Sums to bytes as MLAS does: in fp32, clipped, rounded half to even. Without a zero point to floats."""

    step: np.ndarray
    bias: np.ndarray
    zero_point: int | None

    def __call__(self, sums: np.ndarray, values: Mapping[str, np.ndarray]) -> np.ndarray:
        total = (sums + self.bias.reshape(1, -1, 1, 1)).astype(np.int32).astype(np.float32)
        total *= self.step.reshape(1, -1, 1, 1)
        if self.zero_point is None:
            return np.asarray(total)
        np.clip(total, -self.zero_point, 255 - self.zero_point, out=total)
        return np.asarray((np.rint(total) + self.zero_point).astype(np.uint8))


@dataclass(frozen=True)
class _Dequantize:
    """Sums to floats; ``bias`` names the float tensor that is added."""

    step: np.ndarray
    bias: str

    def __call__(self, sums: np.ndarray, values: Mapping[str, np.ndarray]) -> np.ndarray:
        total = sums.astype(np.float32) * self.step.reshape(1, -1, 1, 1)
        return np.asarray(total + values[self.bias].reshape(1, -1, 1, 1) if self.bias else total)


@dataclass(frozen=True)
class _Geometry:
    pads: tuple[int, ...]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    group: int

    @classmethod
    def of(cls, layer: _Sums) -> "_Geometry":
        node = layer.node
        if layer.weight.ndim == 2:
            return cls((0, 0, 0, 0), (1, 1), (1, 1), 1)
        strides, dilations = integers(node, "strides", [1, 1]), integers(node, "dilations", [1, 1])
        group = int(str(attribute(node, "group", 1)))
        return cls(
            tuple(integers(node, "pads", [0] * 4)),
            (strides[0], strides[1]),
            (dilations[0], dilations[1]),
            group,
        )


def _has_neighbours(layer: _Sums) -> bool:
    """Whether its kernels add products in pairs: a depthwise layer's widen them first."""
    outputs, inputs = layer.weight.shape[:2]
    return not (inputs == 1 and _Geometry.of(layer).group == outputs > 1)


@dataclass(frozen=True)
class _Pairs:
    """The pairs of one layer that can leave 16 bits, by output channel.

    ``starts``: where each output's pairs begin, (outputs + 1,); ``weights``: (pairs, 2); ``places``: (pairs, 6)
    channel, row and column of the first value and of the second, from the window's corner. ``each``: pairs that an
    output has in all; ``share``: of them that are here.
    """

    starts: np.ndarray
    weights: np.ndarray
    places: np.ndarray
    each: int
    share: float


def _pairs(layer: _Sums, by_position: bool) -> _Pairs:
    shape = _Geometry.of(layer)
    weight = layer.weight.reshape(*layer.weight.shape, *[1] * (4 - layer.weight.ndim)).astype(np.int32)
    outputs, inputs, high, wide = weight.shape
    place = np.stack(np.meshgrid(*(np.arange(n) for n in (high, wide, inputs)), indexing="ij"), -1)
    in_order = weight.transpose(0, 2, 3, 1)
    if by_position and inputs % 2:
        in_order = np.pad(in_order, ((0, 0), (0, 0), (0, 0), (0, 1)))
        place = np.concatenate([place, place[:, :, -1:]], axis=2)
    flat, place = in_order.reshape(outputs, -1), place.reshape(-1, 3)
    if flat.shape[1] % 2:
        flat, place = np.pad(flat, ((0, 0), (0, 1))), np.concatenate([place, place[-1:]])
    first, second = flat[:, ::2], flat[:, 1::2]
    highest = 255 * (np.maximum(first, 0) + np.maximum(second, 0))
    lowest = 255 * (np.minimum(first, 0) + np.minimum(second, 0))
    risky = (highest > _LIMITS.max) | (lowest < _LIMITS.min)
    output, pair = np.nonzero(risky)
    starts = np.concatenate([[0], np.cumsum(risky.sum(axis=1))]).astype(np.int64)
    corner = (output // (outputs // shape.group)) * inputs
    places = np.empty((len(output), 6), np.int64)
    for half, chosen in ((0, place[::2][pair]), (3, place[1::2][pair])):
        places[:, half] = chosen[:, 2] + corner
        places[:, half + 1] = chosen[:, 0] * shape.dilations[0]
        places[:, half + 2] = chosen[:, 1] * shape.dilations[1]
    weights = np.stack([first[risky], second[risky]], axis=1)
    return _Pairs(starts, weights, places, first.shape[1], float(risky.mean()))


def _exact_sums(padded: np.ndarray, zero_point: int, weight: np.ndarray, shape: _Geometry) -> np.ndarray:
    """Sums of (codes - zero point) x weight, int64 (n, outputs, height, width), by fp32 convolutions that are exact.

    Where a sum could leave the whole numbers of fp32, the weights are taken apart into digits that keep within them.
    """
    values = padded.astype(np.float32) - np.float32(zero_point)
    largest = max(zero_point, 255 - zero_point)
    rest, unit = weight.astype(np.int64), 1
    total: np.ndarray | None = None
    while total is None or rest.any():
        digits = rest
        base = 1
        while largest * int(np.abs(digits).sum(axis=(1, 2, 3)).max()) >= _WHOLE:
            base = 16 if base == 1 else base // 2
            if base == 1:
                raise ModelError("a layer has too many inputs for its sums to be foretold")
            digits = rest - base * np.round(rest / base).astype(np.int64)
        part = unit * _convolve(values, digits, shape)
        total = part if total is None else total + part
        rest, unit = ((rest - digits) // base, unit * base) if base > 1 else (np.zeros_like(rest), unit)
    return total


def _convolve(values: np.ndarray, weight: np.ndarray, shape: _Geometry) -> np.ndarray:
    node = helper.make_node(
        "Conv", ["x", "w"], ["y"], strides=shape.strides, dilations=shape.dilations, group=shape.group
    )
    held = numpy_helper.from_array(weight.astype(np.float32), "w")
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None] * 4)
    graph = helper.make_graph([node], "sums", [given], [helper.make_empty_tensor_value_info("y")], [held])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return np.asarray(open_session(model, threads=1).run(None, {"x": values})[0]).astype(np.int64)


@jit()
def _take_excess(
    sums: Array,
    codes: Array,
    down: int,
    across: int,
    starts: Array,
    weights: Array,
    places: Array,
) -> int:
    """Take from ``sums`` (n, outputs, height, width) what each pair is beyond 16 bits; how many pairs were.

    ``codes``: uint8 (n, channels, height, width), padded.
    """
    images, outputs, high, wide = sums.shape
    count = 0
    for image in range(images):
        for output in range(outputs):
            for pair in range(starts[output], starts[output + 1]):
                w, v = np.int32(weights[pair, 0]), np.int32(weights[pair, 1])
                a, b = codes[image, places[pair, 0]], codes[image, places[pair, 3]]
                for row in range(high):
                    of_a = a[row * down + places[pair, 1], places[pair, 2] :]
                    of_b = b[row * down + places[pair, 4], places[pair, 5] :]
                    for column in range(wide):
                        both = np.int32(of_a[column * across]) * w + np.int32(of_b[column * across]) * v
                        beyond = max(both - np.int32(32767), np.int32(0)) + min(both + np.int32(32768), np.int32(0))
                        sums[image, output, row, column] -= beyond
                        count += beyond != 0
    return count


def foretell(graph: ModelProto, runtime: str, tensor: np.ndarray, reference: np.ndarray | None) -> dict[str, Any]:
    """What each kind of CPU gives for ``tensor``, for model_info and ``ort-vamc portable``.

    ``reference``: logits of the float model on the same images, None where that is not at hand. SQNR (dB) and agreement
    (%) are from it, and beside them those from sums that are exact. ModelError as :func:`emulate`.
    """
    exact, _ = emulate(graph, runtime, tensor, saturates=False)
    saturated, layers = emulate(graph, runtime, tensor)
    cpus = {}
    for kind in (EXACT, SATURATING, ARM):
        if not RUNTIMES[runtime].is_reference and kind.is_arm:
            continue  # another library's kernels, which are not followed
        scores = saturated if kind.saturates else exact
        cpus[kind.name] = {
            **({} if reference is None else compared(reference, scores)),
            **{f"{name}_of_exact": value for name, value in compared(exact, scores).items()},
        }
    layers.sort(key=lambda row: -row.share)
    rows = [{"layer": row.layer, "weights": row.risky, "saturated": row.share} for row in layers if row.count]
    return {"runtime": runtime, "images": len(tensor), "cpus": cpus, "saturating": rows}


def compared(reference: np.ndarray, scores: np.ndarray) -> dict[str, float | None]:
    """SQNR (dB, None where both are equal) and agreement (%), as they stand in a certificate."""
    kept = sqnr_db(reference, scores)
    return {"sqnr_db": kept if np.isfinite(kept) else None, "agreement": agreement(reference, scores)}
