"""Rewrites for speed that change no answer: channel counts that suit the kernels, an input that needs no conversion.

They act on the finished graph, float or QDQ, so calibration never sees them. ONNX Runtime's fast int8 kernels want
depthwise channels in multiples of 16, and elsewhere at least 16 output channels in multiples of 4. Channels of
zeros bring a layer there: what they add to any sum is exactly zero.
"""

import itertools
import math
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from mnasbench.runtimes.base import holds_int8

# Depthwise kernels work on 16 channels at a time; other convolutions on 16 output channels in steps of 4.
_DEPTHWISE_MULTIPLE = 16
_MIN_CHANNELS, _CHANNEL_MULTIPLE = 16, 4
# Operators that keep channels apart; those of their inputs that are no constants are tied to their output.
_CHANNELWISE = frozenset(
    {"Add", "AveragePool", "Clip", "GlobalAveragePool", "HardSigmoid", "HardSwish", "LeakyRelu", "MaxPool", "Mul"}
    | {"Relu", "Sigmoid", "QuantizeLinear", "DequantizeLinear"}
)
# Of these, the ones whose constants are scalars for the whole tensor. A constant of Add or Mul may be per channel.
_WITH_SCALARS = frozenset({"Clip", "QuantizeLinear", "DequantizeLinear"})
# Operators that a chain of convolutions may hold: all but Conv treat every value alike.
_CHAINED = frozenset({"Clip", "Conv", "DequantizeLinear", "QuantizeLinear", "Relu"})

Array = npt.NDArray[np.generic]


@dataclass(frozen=True)
class FastInput:
    """The input of a graph after ``fast_input``: uint8 (batch, rows, width / 2, 12 * parts), quantized.

    Each pixel of it is a block of 2 x 2 pixels, its values in the order row, column, colour. With ``parts`` 2 the
    upper and the lower part of the image, ``rows`` rows of blocks each and overlapping in the middle, lie behind
    each other as channels. A value is ``round(normalised / scale) + zero_point``. model_info keeps it as the
    input's ``blocks``.
    """

    scale: float
    zero_point: int
    size: int
    rows: int
    parts: int

    def quantize(self, normalised: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        """The input for normalised images, float32 (n, 3, size, size)."""
        steps = np.rint(normalised / np.float32(self.scale)) + self.zero_point
        pixels = np.clip(steps, 0, 255).astype(np.uint8)
        half = self.size // 2
        blocks = pixels.reshape(-1, 3, half, 2, half, 2).transpose(0, 2, 4, 3, 5, 1).reshape(-1, half, half, 12)
        starts = (0, half - self.rows)[: self.parts]
        return np.concatenate([blocks[:, start : start + self.rows] for start in starts], axis=-1)


@dataclass
class _Group:
    """Tensors whose channels are tied to each other.

    ``channels`` is 0 while unknown; ``is_fixed`` where something reads or makes them that cannot be widened.
    """

    tensors: set[str] = field(default_factory=set)
    channels: int = 0
    has_depthwise: bool = False
    is_fixed: bool = False

    @property
    def target(self) -> int:
        """How many channels suit the kernels."""
        if self.is_fixed or not self.channels:
            return self.channels
        if self.has_depthwise:
            return _round_up(self.channels, _DEPTHWISE_MULTIPLE)
        return max(_MIN_CHANNELS, _round_up(self.channels, _CHANNEL_MULTIPLE))


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


class _Parameters:
    """The constants of a graph, seen through the DequantizeLinear or Cast that a Conv reads them by."""

    def __init__(self, model: ModelProto) -> None:
        self.values: dict[str, Array] = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self._converted = {
            node.output[0]: node
            for node in model.graph.node
            if node.op_type in ("Cast", "DequantizeLinear") and node.input[0] in self.values
        }
        self._uses = Counter(name for node in model.graph.node for name in node.input)
        self._activation_scales = {
            node.output[0]: float(self.values[node.input[1]])
            for node in model.graph.node
            if node.op_type == "DequantizeLinear" and node.input[0] not in self.values
        }

    def __contains__(self, name: str) -> bool:
        return name in self.values or name in self._converted

    def belong_to(self, conv: NodeProto) -> bool:
        """Whether a Conv's weight and bias are constants that no other node reads."""
        names = [name for name in conv.input[1:] if name]
        if not all(name in self and self._uses[name] == 1 for name in names):
            return False
        converted = [self._converted[name] for name in names if name in self._converted]
        behind = [name for node in converted for name in node.input if self.values[name].size > 1]
        return all(self._uses[name] == 1 for name in behind)

    def is_quantized(self, conv: NodeProto) -> bool:
        """Whether a Conv's weight is read through DequantizeLinear."""
        node = self._converted.get(conv.input[1])
        return node is not None and node.op_type == "DequantizeLinear"

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a constant tensor."""
        return self.values[self._stored(name)].shape

    def pad(self, conv: NodeProto, out: int, inputs: int) -> None:
        """Grow a Conv's weight to (out, inputs, ...) and its bias to (out,) by zeros.

        New channels' weights have the scale 1, their biases that times the activation's scale: ONNX Runtime leaves
        a convolution in float whose bias has another scale.
        """
        self._pad(conv.input[1], (out, inputs), 1.0)
        if len(conv.input) > 2 and conv.input[2]:
            self._pad(conv.input[2], (out,), self._activation_scales.get(conv.input[0], 1.0))

    def _pad(self, name: str, leading: tuple[int, ...], scale: float) -> None:
        node = self._converted.get(name)
        self._grow(name if node is None else node.input[0], leading, 0)
        for parameter, fill in zip(node.input[1:] if node else (), (scale, 0), strict=False):
            if self.values[parameter].size > 1:
                self._grow(parameter, leading[:1], fill)

    def weight(self, conv: NodeProto) -> Array:
        """The values of a Conv's weight as stored (quantized where it is quantized)."""
        return self.values[self._stored(conv.input[1])]

    def replace_weight(self, conv: NodeProto, weight: Array) -> None:
        """Store another weight with the same output channels and scales."""
        self.values[self._stored(conv.input[1])] = weight

    def double(self, conv: NodeProto, dense: bool) -> None:
        """Have a Conv compute two independent copies of itself, on twice the channels."""
        weight = self.weight(conv)
        zeros = np.zeros_like(weight)
        first, second = ([weight, zeros], [zeros, weight]) if dense else ([weight], [weight])
        self.replace_weight(conv, np.concatenate([np.concatenate(first, 1), np.concatenate(second, 1)]))
        for name in filter(None, conv.input[1:]):
            node = self._converted.get(name)
            per_channel = node.input[1:] if node is not None else []
            if name != conv.input[1]:
                per_channel = [self._stored(name), *per_channel]
            for parameter in per_channel:
                if self.values[parameter].size > 1:
                    self.values[parameter] = np.tile(self.values[parameter], 2)

    def _stored(self, name: str) -> str:
        return self._converted[name].input[0] if name in self._converted else name

    def _grow(self, name: str, leading: tuple[int, ...], fill: float) -> None:
        array = self.values[name]
        grown = [(0, size - have) for size, have in zip(leading, array.shape, strict=False)]
        widths = grown + [(0, 0)] * (array.ndim - len(grown))
        self.values[name] = np.pad(array, widths, constant_values=fill)

    def write(self, model: ModelProto) -> None:
        """Put the changed and the new constants into ``model``; these parameters are then used up."""
        for tensor in model.graph.initializer:
            array = self.values.pop(tensor.name)
            if tuple(tensor.dims) != array.shape:
                tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), tensor.name))
        model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in self.values.items())


def pad_channels(model: ModelProto) -> ModelProto:
    """The same function with channels of zeros added where int8 kernels are faster for it.

    Takes a graph with constants as initializers, each weight owned by one node; weights may be read through
    DequantizeLinear (per tensor or per output channel) or Cast. Channels tied to something that is not known to
    keep them apart stay as they are. Nothing but zeros reads what is added: the outputs are equal.
    """
    copy = ModelProto()
    copy.CopyFrom(model)
    parameters = _Parameters(copy)
    groups = _groups(copy, parameters)
    for node in copy.graph.node:
        if node.op_type != "Conv" or not parameters.belong_to(node):
            continue
        out, inputs, *_ = parameters.shape(node.input[1])
        out = max(out, groups[node.output[0]].target)
        if _is_depthwise(node, parameters):
            parameters.pad(node, out, inputs)
            _set_attribute(node, "group", out)
        elif _attribute(node, "group", 1) == 1:
            parameters.pad(node, out, max(inputs, groups[node.input[0]].target))
    parameters.write(copy)
    del copy.graph.value_info[:]  # they hold the narrow shapes
    return copy


def _groups(model: ModelProto, parameters: _Parameters) -> dict[str, _Group]:
    """The group of each activation."""
    groups: dict[str, _Group] = {}

    def group(tensor: str) -> _Group:
        return groups.setdefault(tensor, _Group({tensor}))

    def tie(first: str, second: str) -> None:
        kept, gone = group(first), group(second)
        if kept is gone:
            return
        kept.tensors |= gone.tensors
        kept.channels = kept.channels or gone.channels
        kept.has_depthwise |= gone.has_depthwise
        kept.is_fixed |= gone.is_fixed
        for tensor in gone.tensors:
            groups[tensor] = kept

    # A float layer among quantized ones keeps its shape: rounded differently, it might move a value by a whole step.
    mixes = holds_int8(model)
    for value in (*model.graph.input, *model.graph.output):
        group(value.name).is_fixed = True
    for node in model.graph.node:
        activations = [name for name in node.input if name and name not in parameters]
        if not activations:
            continue
        if node.op_type == "Conv" and parameters.belong_to(node) and (parameters.is_quantized(node) or not mixes):
            group(node.output[0]).channels = parameters.shape(node.input[1])[0]
            if _is_depthwise(node, parameters):
                tie(node.input[0], node.output[0])
                group(node.output[0]).has_depthwise = True
                continue
            if _attribute(node, "group", 1) == 1:
                continue
        elif node.op_type in _CHANNELWISE and (len(activations) == len(node.input) or node.op_type in _WITH_SCALARS):
            for name in activations:
                tie(name, node.output[0])
            continue
        for name in (*activations, *node.output):
            group(name).is_fixed = True
    return groups


def _is_depthwise(node: NodeProto, parameters: _Parameters) -> bool:
    """One input and one output channel in each of several groups."""
    channels, per_group, *_ = parameters.shape(node.input[1])
    return per_group == 1 and _attribute(node, "group", 1) == channels > 1


def _attribute(node: NodeProto, name: str, default: int) -> int:
    return next((item.i for item in node.attribute if item.name == name), default)


def _set_attribute(node: NodeProto, name: str, value: int | list[int]) -> None:
    kept = [item for item in node.attribute if item.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])


# ------------------------------------------------------------------------------------------------------ fast input
@dataclass
class _Head:
    """What a graph begins with: quantization, then convolutions one after another until the first branch.

    ``quantize`` and ``dequantize`` are the input's; ``convs`` the stem and what follows it; ``cut`` is the quantized
    tensor behind the last of them.
    """

    quantize: NodeProto
    dequantize: NodeProto
    convs: list[NodeProto]
    cut: str


def fast_input(model: ModelProto) -> tuple[ModelProto, FastInput | None]:
    """The same function of an input in which its first layers are fast, answers equal to the bit.

    For QDQ graphs that begin with a 3 x 3 convolution of stride 2 on three channels; any other is given back as it
    is, with None. Three things change:

    * The graph takes the tensor that its first QuantizeLinear made. From pixels that is a table of 256 entries a
      channel, cheaper than the arithmetic on floats.
    * Blocks of 2 x 2 pixels become channels (space to depth): the stem is then a 2 x 2 convolution of stride 1 on
      12 channels, a third of them times zero, which the int8 kernels take (they want channels in fours).
    * Where a depthwise convolution follows, the image's halves become channels of one image half as high, up
      to the first branch. These layers have few channels and many pixels, and ONNX Runtime spends more time on
      addressing a pixel than on computing it. The halves overlap by the rows that the convolutions look across.
    """
    copy = ModelProto()
    copy.CopyFrom(model)
    parameters = _Parameters(copy)
    head = _find_head(copy, parameters)
    source = copy.graph.input[0].type.tensor_type.shape.dim
    batch, _, height, width = source
    if head is None or height.dim_value != width.dim_value or not height.dim_value or height.dim_value % 2:
        return model, None
    scale, zero_point = (parameters.values[name] for name in head.quantize.input[1:3])
    _stem_on_blocks(head.convs[0], parameters)
    rows, parts = height.dim_value // 2, 1
    needed = _rows_of_half(head.convs, parameters, rows)
    if needed is not None:
        _join_halves(copy, head, parameters, rows, needed)
        rows, parts = needed, 2
    name = copy.graph.input[0].name
    nodes = [node for node in copy.graph.node if node.output[0] != head.quantize.output[0]]
    to_planar = helper.make_node("Transpose", [name], [head.quantize.output[0]], "input_planar", perm=[0, 3, 1, 2])
    del copy.graph.node[:]
    copy.graph.node.extend([to_planar, *nodes])
    shape = [batch.dim_param or batch.dim_value, rows, width.dim_value // 2, 12 * parts]
    copy.graph.input[0].CopyFrom(helper.make_tensor_value_info(name, TensorProto.UINT8, shape))
    parameters.write(copy)
    del copy.graph.value_info[:]
    return copy, FastInput(float(scale), int(zero_point), height.dim_value, rows, parts)


def _find_head(model: ModelProto, parameters: _Parameters) -> _Head | None:
    """The head of a graph that ``fast_input`` can change; None where it begins differently."""
    readers: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    chain: list[NodeProto] = []
    tensor = model.graph.input[0].name
    while len(readers.get(tensor, [])) == 1 and readers[tensor][0].op_type in _CHAINED:
        chain.append(readers[tensor][0])
        tensor = chain[-1].output[0]
    kinds = [node.op_type for node in chain]
    if kinds[:3] != ["QuantizeLinear", "DequantizeLinear", "Conv"]:
        return None
    convs = [node for node in chain if node.op_type == "Conv"]
    convs = list(itertools.takewhile(lambda node: _is_plain(node, parameters), convs))
    if not convs or not _is_stem(convs[0], parameters) or parameters.values[chain[0].input[2]].dtype != np.uint8:
        return None
    behind = chain[chain.index(convs[-1]) :]
    quantized = next((node for node in behind if node.op_type == "QuantizeLinear"), None)
    if quantized is None:
        return None
    return _Head(chain[0], chain[1], convs, quantized.output[0])


def _is_stem(conv: NodeProto, parameters: _Parameters) -> bool:
    return parameters.shape(conv.input[1])[1:] == (3, 3, 3) and _geometry(conv, parameters) == (3, 2, 1)


def _geometry(conv: NodeProto, parameters: _Parameters) -> tuple[int, int, int] | None:
    """(kernel, stride, padding) of a square convolution; None for any other."""
    attributes = {item.name: helper.get_attribute_value(item) for item in conv.attribute}
    kernel = parameters.shape(conv.input[1])[2:]
    square = [set(kernel), set(attributes.get("strides", [1])), set(attributes.get("pads", [0]))]
    if any(len(values) != 1 for values in square) or attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
        return None
    if set(attributes.get("dilations", [1])) != {1}:
        return None
    (size,), (stride,), (padding,) = square
    return size, stride, padding


def _is_plain(conv: NodeProto, parameters: _Parameters) -> bool:
    is_dense = _attribute(conv, "group", 1) == 1
    return _geometry(conv, parameters) is not None and (is_dense or _is_depthwise(conv, parameters))


def _stem_on_blocks(stem: NodeProto, parameters: _Parameters) -> None:
    """Rewrite a 3 x 3 convolution of stride 2 and padding 1 for blocks of 2 x 2 pixels as channels.

    Output row y reads the rows 2y - 1, 2y and 2y + 1: the lower one of block y - 1, and both of block y.
    """
    weight = parameters.weight(stem)
    blocks = np.zeros((weight.shape[0], 2, 2, 3, 2, 2), dtype=weight.dtype)  # out, row, column, colour, block y, x
    for y, x in itertools.product(range(3), repeat=2):
        blocks[:, (y + 1) % 2, (x + 1) % 2, :, (y + 1) // 2, (x + 1) // 2] = weight[:, :, y, x]
    parameters.replace_weight(stem, blocks.reshape(-1, 12, 2, 2))
    for name, values in (("kernel_shape", [2, 2]), ("strides", [1, 1]), ("pads", [1, 1, 0, 0])):
        _set_attribute(stem, name, values)


def _rows_of_half(convs: list[NodeProto], parameters: _Parameters, rows: int) -> int | None:
    """Rows of blocks that either half of the last convolution's output depends on, of ``rows`` in the image.

    None where halving does not pay, or where a convolution changes the height by more than its stride.
    """
    geometries = [_geometry(conv, parameters) or (0, 0, 0) for conv in convs[1:]]
    if not any(_is_depthwise(conv, parameters) for conv in convs[1:]):
        return None
    heights = [rows]
    for size, stride, padding in geometries:
        heights.append((heights[-1] + 2 * padding - size) // stride + 1)
    total_stride = math.prod(stride for _, stride, _ in geometries)
    if heights[-1] % 2 or heights[-1] * total_stride != rows:
        return None
    upper = lower = heights[-1] // 2
    for size, stride, padding in reversed(geometries):
        upper = (upper - 1) * stride + size - padding
        lower = lower * stride + padding
    # The stem looks one block up. Both parts are as high, and begin where every stride begins.
    needed = _round_up(max(upper, lower + 1), total_stride)
    return needed if needed < rows else None


def _join_halves(model: ModelProto, head: _Head, parameters: _Parameters, rows: int, needed: int) -> None:
    """Let the head's convolutions work on both halves at once, as channels; part them behind the last one."""
    for conv in head.convs:
        if _is_depthwise(conv, parameters):
            parameters.double(conv, dense=False)
            _set_attribute(conv, "group", parameters.shape(conv.input[1])[0])
        else:
            parameters.double(conv, dense=True)
    channels = parameters.shape(head.convs[-1].input[1])[0] // 2
    stride = math.prod((_geometry(conv, parameters) or (0, 1, 0))[1] for conv in head.convs[1:])
    kept, made = rows // stride // 2, needed // stride
    quantize = next(node for node in model.graph.node if node.output[0] == head.cut)
    joined = f"{head.cut}_joined"
    quantize.output[0] = joined
    new = []
    for part, (channel, row) in enumerate(((0, 0), (channels, made - kept))):
        bounds = {"starts": [channel, row], "ends": [channel + channels, row + kept], "axes": [1, 2]}
        names = [f"{head.cut}_{key}_{part}" for key in bounds]
        for name, values in zip(names, bounds.values(), strict=True):
            parameters.values[name] = np.array(values, dtype=np.int64)
        new.append(helper.make_node("Slice", [joined, *names], [f"{head.cut}_{part}"], f"half_{part}"))
    new.append(helper.make_node("Concat", [f"{head.cut}_0", f"{head.cut}_1"], [head.cut], "halves", axis=2))
    position = list(model.graph.node).index(quantize)
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes[: position + 1], *new, *nodes[position + 1 :]])
