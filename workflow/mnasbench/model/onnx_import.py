"""A user's own ONNX as the graph that the exporter would have written, with proof that it answers the same.

That graph takes ``input`` float32 [batch, 3, height, width] and gives ``output`` float32 [batch, classes]: logits,
computed in fp32, in an opset that the compiler works with. What is changed to get there is said in notes. The file's
own graph and the new one are run beside each other by ONNX Runtime, image by image; where they differ, the file is
refused.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, inliner, numpy_helper

from mnasbench.errors import ModelError, SettingsError, named, one_line
from mnasbench.model.onnx_batch import free_batch
from mnasbench.onnx_file import ImageInput, image_input, inferred_values, read_onnx
from mnasbench.preprocessing import Preprocessing, Size, as_pair
from mnasbench.runtimes.onnxruntime import open_session, optimized, run_quietly

INPUT_NAME, OUTPUT_NAME = "input", "output"
# Below 13 the quantizer has no per-channel scales; above 24 not all that the compiler calls reads a graph.
OPSETS = range(13, 25)
# What another opset is converted to, the exporter's own first; a converter may lack a step on the way to one of them.
_TARGETS = (18, 17, 13, 21, 24)
_OLDEST = 7
# ONNX Runtime and the file's own graph sum in different orders, as torch's and ONNX Runtime's do (model/export.py).
_TOLERANCE = 1e-4
# fp16 rounds to 11 bits at every layer, and the graph is computed in fp32 here.
_HALF_TOLERANCE = 5e-2
_ONNX_DOMAINS = ("", "ai.onnx")
# What the multiply-adds are of.
_WORKING = frozenset({"Conv", "Gemm", "MatMul"})
# White of normalised images is 2 to 3; a graph that takes 0 to 255 sees black in all that is below this.
_LEAST_WHITE = 16
# Nodes that leave values and their order as they are.
_PASSING = frozenset({"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
_FLOATS: dict[int, str] = {
    TensorProto.FLOAT: "fp32",
    TensorProto.FLOAT16: "fp16",
    TensorProto.BFLOAT16: "bf16",
    TensorProto.DOUBLE: "fp64",
}
_WHOLE: dict[int, str] = {
    TensorProto.UINT8: "uint8",
    TensorProto.INT8: "int8",
    TensorProto.INT32: "int32",
    TensorProto.INT64: "int64",
}
_REFUSED = {
    **dict.fromkeys(("If", "Loop", "Scan"), "branches and loops are not compiled: export it again by tracing"),
    **dict.fromkeys(
        ("QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"),
        "it is quantized already: give the float graph that it was made from",
    ),
    **dict.fromkeys(
        ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"),
        "its answers are drawn by chance: export the model in evaluation mode",
    ),
    **dict.fromkeys(("NonMaxSuppression", "RoiAlign"), "it is a detector's, not a classifier's"),
    **dict.fromkeys(("ArgMax", "TopK"), "it gives classes, not their scores: cut the graph before it, by onnx.utils"),
}

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Imported:
    """The graph, (height, width) and number of its classes, and what is worth a line about how it was made.

    ``most``: the greatest value of the image that it takes without normalisation, 255 or 1, where the graph shows it.
    """

    model: ModelProto
    size: Size
    classes: int
    notes: tuple[str, ...]
    most: int | None = None


@dataclass(frozen=True)
class _Original:
    """The file's own graph with one input and one output, and how images are put to it and answers read."""

    model: ModelProto
    image: ImageInput
    kind: int
    size: Size
    ending: str | None

    @property
    def batch(self) -> int:
        return self.image.batch or 1

    def answers(self, images: Array, where: str) -> Array:
        """Its answers to images, float32 (n, 3, height, width), each asked by itself."""
        session = _session(self.model, where)
        dtype = helper.tensor_dtype_to_np_dtype(self.kind)
        rows = []
        for image in images:
            batch = np.repeat(image[None], self.batch, axis=0)
            batch = batch.transpose(0, 2, 3, 1) if self.image.channels_last else batch
            try:
                answer = run_quietly(session, self.image.name, batch.astype(dtype))
            except Exception as error:  # ONNX Runtime's exceptions have no common base
                raise ModelError(f"{where}: ONNX Runtime cannot run it ({_reason(error)})") from error
            if answer.ndim < 2 or len(answer) != self.batch:
                raise ModelError(
                    f"{where}: its output '{one_line(self.model.graph.output[0].name)}' is {list(answer.shape)} for a "
                    f"batch of {self.batch}, expected [{self.batch}, classes]; export it without a squeeze of the batch"
                )
            rows.append(answer[:1])
        return np.concatenate(rows)


def import_onnx(
    path: Path,
    size: int | Size | None = None,
    output: str | None = None,
    preprocessing: Preprocessing | None = None,
) -> Imported:
    """Read, adapt and prove a file's graph.

    ``size``: of an image, where the graph leaves it free. ``output``: which of several outputs has the scores.
    ``preprocessing``: what the input will be given, for a word about what the graph itself does to it. Raises
    ModelError or SettingsError, in one line that names the node, for what cannot be run here.
    """
    where = one_line(path)
    model = read_onnx(path)
    try:
        return _import(model, where, None if size is None else as_pair(size), output, preprocessing)
    except UnicodeDecodeError as error:  # names are decoded when they are asked for
        raise ModelError(f"{where}: is not an ONNX file, or is damaged; export it again") from error


def is_exported(model: ModelProto, size: Size) -> bool:
    """Whether a graph has the form that the exporter writes, for images of ``size``: then nothing is to be done."""
    opset = next((entry.version for entry in model.opset_import if entry.domain in _ONNX_DOMAINS), 1)
    ends = [*model.graph.input, *model.graph.output]
    if opset not in OPSETS or len(ends) != 2 or any(v.type.tensor_type.elem_type != TensorProto.FLOAT for v in ends):
        return False
    (batch, *sides), scores = (list(value.type.tensor_type.shape.dim) or [None] for value in ends)
    return (
        [dim.dim_value for dim in sides] == [3, *size]
        and bool(batch and batch.dim_param)
        and len(scores) == 2
        and _ending(model, opset) is None
        and {node.domain for node in model.graph.node} <= set(_ONNX_DOMAINS)
        and not {node.op_type for node in model.graph.node} & _REFUSED.keys()
    )


def _import(
    model: ModelProto, where: str, asked: Size | None, output: str | None, preprocessing: Preprocessing | None
) -> Imported:
    notes: list[str] = []
    opset = _opset(model, where)
    _refuse_nodes(model, where)
    image = image_input(model, where)
    size = image.require_size(asked, where)
    kind = _keep_one_input(model, image, size, notes)
    _keep_one_output(model, output, where, notes)
    ending = _ending(model, opset)
    original = _Original(_copy(model), image, kind, size, None if ending is None else ending.op_type)
    images = _images(size, kind)
    expected = original.answers(images, where)
    classes = _classes(expected, model.graph.output[0].name, where)

    if ending is not None:
        model.graph.output[0].name = ending.input[0]
        notes.append(f"its last node, {_named(ending)}, is left out: the answers are what goes into it, the logits")
    model.graph.output[0].ClearField("type")
    changed = _converted(model, opset, where, notes)
    _to_single_precision(changed, kind, notes)
    freed = free_batch(changed, image.name, original.batch)
    if not _knows_shapes(freed):
        freed = free_batch(_folded(changed, original.batch), image.name, original.batch)
    changed = freed
    if image.batch is not None:
        notes.append(f"its batch, fixed to {image.batch}, is freed")
    _new_ends(changed, image, kind, size, classes, notes)
    check_graph(changed, where)
    _compare(original, changed, images, expected, where)
    most, about = _about_values(changed, kind, preprocessing, where)
    return Imported(changed, size, classes, (*notes, *about), most)


# ------------------------------------------------------------------------------------------------ what it is made of
def _opset(model: ModelProto, where: str) -> int:
    opset = next((entry.version for entry in model.opset_import if entry.domain in _ONNX_DOMAINS), 1)
    newest = onnx.defs.onnx_opset_version()
    if not _OLDEST <= opset <= newest:
        raise ModelError(f"{where}: is of opset {opset}, expected {_OLDEST} to {newest}; export it again")
    return opset


def _refuse_nodes(model: ModelProto, where: str) -> None:
    """ModelError for the first node that cannot be compiled here."""
    if model.graph.sparse_initializer:
        raise ModelError(f"{where}: has sparse weights; export it again with dense ones")
    own = {(function.domain, function.name) for function in model.functions}
    for node in model.graph.node:
        if node.domain not in _ONNX_DOMAINS and (node.domain, node.op_type) not in own:
            advice = (
                "ONNX Runtime wrote it: give the graph that it optimized or quantized"
                if node.domain.startswith("com.microsoft")
                else "export it with standard operators only"
            )
            raise ModelError(
                f"{where}: node {_named(node)} is of the domain '{one_line(node.domain)}', not of ONNX; {advice}"
            )
        if (node.domain, node.op_type) not in own and not onnx.defs.has(node.op_type, node.domain):
            raise ModelError(f"{where}: node {_named(node)} is no operator of ONNX; export it with standard ones only")
        if node.op_type in _REFUSED:
            raise ModelError(f"{where}: node {_named(node)}: {_REFUSED[node.op_type]}")
        if node.op_type in ("BatchNormalization", "Dropout") and _attribute(node, "training_mode", 0):
            raise ModelError(f"{where}: node {_named(node)} is in training mode; export the model in evaluation mode")


def _named(node: NodeProto) -> str:
    name = node.name or (node.output[0] if node.output else "")
    return f"'{one_line(name)}' ({one_line(node.op_type)})"


def _attribute(node: NodeProto, name: str, default: Any) -> Any:
    return next((helper.get_attribute_value(one) for one in node.attribute if one.name == name), default)


def _keep_one_input(model: ModelProto, image: ImageInput, size: Size, notes: list[str]) -> int:
    """Leave the image as the only input, of a known size; gives its element type."""
    kept = next(value for value in model.graph.input if value.name == image.name)
    for name in image.unread:
        notes.append(f"its input '{one_line(name)}', which no node reads, is left out")
    sides = (1, 2) if image.channels_last else (2, 3)
    for axis, side in zip(sides, size, strict=True):
        kept.type.tensor_type.shape.dim[axis].dim_value = side
    if image.batch is None:
        kept.type.tensor_type.shape.dim[0].dim_param = "batch"
    only = ValueInfoProto()
    only.CopyFrom(kept)
    # Before the fourth format constants had to be inputs as well; those that nothing reads are no constants either.
    model.ir_version = max(model.ir_version, 8)
    read = {name for node in model.graph.node for name in node.input} | {value.name for value in model.graph.output}
    tensors = [tensor for tensor in model.graph.initializer if tensor.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(tensors)
    del model.graph.input[:]
    model.graph.input.append(only)
    return int(only.type.tensor_type.elem_type)


def _keep_one_output(model: ModelProto, asked: str | None, where: str, notes: list[str]) -> None:
    names = [value.name for value in model.graph.output]
    if asked is not None and asked not in names:
        raise SettingsError(f"{where}: has no output '{one_line(asked)}'; it has {named(names)}")
    if not names:
        raise ModelError(f"{where}: gives no output; export it again")
    if asked is None and len(names) > 1:
        raise ModelError(f"{where}: gives {len(names)} outputs ({named(names)}); say which has the scores, by output")
    if len(names) > 1:
        notes.append(f"of its {len(names)} outputs '{one_line(asked)}' is taken")
    kept = ValueInfoProto()
    kept.CopyFrom(next(value for value in model.graph.output if value.name == (asked or names[0])))
    del model.graph.output[:]
    model.graph.output.append(kept)


def _ending(model: ModelProto, opset: int) -> NodeProto | None:
    """The softmax over all classes that the graph ends in; None where it ends in something else."""
    makers = {name: node for node in model.graph.node for name in node.output}
    node = makers.get(model.graph.output[0].name)
    while node is not None and node.op_type in _PASSING:
        node = makers.get(node.input[0])
    if node is None or node.op_type not in ("Softmax", "LogSoftmax"):
        return None
    shape = _shapes(model).get(node.input[0])
    axis = int(_attribute(node, "axis", 1 if opset < 13 else -1))
    if shape is None:
        return node if axis in (1, -1) else None
    axis += len(shape) if axis < 0 else 0
    summed = math.prod(shape[axis:]) if opset < 13 else shape[axis]
    return node if axis and summed == math.prod(shape[1:]) else None


def _shapes(model: ModelProto, kind: int | None = None) -> dict[str, tuple[int, ...]]:
    """Shapes for one image (of tensors of an element type), as far as inference knows them."""
    shapes = {}
    for value in inferred_values(model, model.graph.input[0].type.tensor_type.shape.dim[0].dim_value or 1):
        dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        if dims and all(side > 0 for side in dims) and kind in (None, value.type.tensor_type.elem_type):
            shapes[value.name] = tuple(dims)
    return shapes


def _classes(answers: Array, name: str, where: str) -> int:
    """How many classes an answer has; ModelError where it is no classifier's."""
    said = f"{where}: its output '{one_line(name)}' is {list(answers.shape[1:])} for an image"
    if answers.dtype.kind != "f":
        raise ModelError(f"{said} of {answers.dtype}, expected a score for each class")
    if max(answers.shape[1:]) != math.prod(answers.shape[1:]):
        detector = "; that is a detector's or a segmenter's" if answers.ndim > 2 else ""
        raise ModelError(f"{said}, expected a score for each class, [classes] or [classes, 1, 1]{detector}")
    count = math.prod(answers.shape[1:])
    if count < 2:
        raise ModelError(f"{said}, one score; give it one for each of its classes, two or more")
    if not np.isfinite(answers).all():
        raise ModelError(f"{where}: gives scores that are not finite for plain images; export or train it again")
    return count


# ------------------------------------------------------------------------------------------------------ the new graph
def _copy(model: ModelProto) -> ModelProto:
    copy = ModelProto()
    copy.CopyFrom(model)
    return copy


def _converted(model: ModelProto, opset: int, where: str, notes: list[str]) -> ModelProto:
    """The graph in an opset of the compiler's."""
    if model.functions:
        model = inliner.inline_local_functions(model)
    if opset in OPSETS:
        return model
    reason = ""
    for target in _TARGETS:
        try:
            converted = onnx.version_converter.convert_version(model, target)
        except Exception as error:
            reason = reason or _reason(error)
            continue
        notes.append(f"converted from opset {opset} to {target}")
        return converted
    raise ModelError(
        f"{where}: is of opset {opset}, and onnx's converter cannot bring it to {_TARGETS[0]} ({reason}); export it "
        f"again with an opset of {OPSETS[0]} to {OPSETS[-1]}"
    )


def _reason(error: Exception) -> str:
    return one_line((str(error).strip().splitlines() or [type(error).__name__])[-1][:300])


def _to_single_precision(model: ModelProto, kind: int, notes: list[str]) -> None:
    """Weights and computation in fp32, whatever float the graph has."""
    others = {int(kind) for kind in _FLOATS} - {int(TensorProto.FLOAT)}
    changed: set[int] = set()
    for tensor in _tensors(model):
        if tensor.data_type in others:
            changed.add(tensor.data_type)
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype") and attribute.i in others:
                changed.add(attribute.i)
                attribute.i = TensorProto.FLOAT
    changed |= {kind} & others
    if changed:
        del model.graph.value_info[:]
        kinds = ", ".join(sorted(_FLOATS[one] for one in changed))
        notes.append(f"its {kinds} values are computed with as fp32, which the fp32 row is of")


def _knows_shapes(model: ModelProto) -> bool:
    """Whether the shapes of all tensors are told, but for the free batch: the quantizer needs them."""
    shapes = {
        value.name
        for value in inferred_values(model)
        if len(value.type.tensor_type.shape.dim)
        and all(dim.dim_value > 0 for dim in value.type.tensor_type.shape.dim[1:])
    }
    computed = (node for node in model.graph.node if node.op_type != "Constant")
    return all(name in shapes for node in computed for name in node.output if name)


def _folded(model: ModelProto, batch: int) -> ModelProto:
    """The graph for one batch size, with what it computes of shapes folded to constants by ONNX Runtime."""
    fixed = _copy(model)
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = batch
    return optimized(fixed, "basic")


def _tensors(model: ModelProto) -> Iterator[TensorProto]:
    yield from model.graph.initializer
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t


def _new_ends(model: ModelProto, image: ImageInput, kind: int, size: Size, classes: int, notes: list[str]) -> None:
    """Give the graph the input and the output that the exporter's have."""
    graph, old = model.graph, (image.name, model.graph.output[0].name)
    names = {name for node in graph.node for name in (*node.input, *node.output)}
    names |= {tensor.name for tensor in graph.initializer}
    taken, scores = _free_name("image", names), _free_name("scores", names)
    for name in {INPUT_NAME, OUTPUT_NAME} & (names - set(old)):
        _rename(model, name, _free_name(f"{name}_inside", names))
    _rename(model, old[0], taken)
    _rename(model, old[1], scores)
    first: list[NodeProto] = []
    tensor = INPUT_NAME
    if kind in _WHOLE:
        first.append(helper.make_node("Round", [tensor], [_free_name("rounded", names)]))
        first.append(helper.make_node("Cast", [first[-1].output[0]], [_free_name("whole", names)], to=kind))
        tensor = first[-1].output[0]
        notes.append(f"its input is {_WHOLE[kind]}: it takes pixels as they are, 0 to 255")
    if image.channels_last:
        notes.append("its input is [batch, height, width, 3]; images are put in that order inside the graph")
        first.append(helper.make_node("Transpose", [tensor], [_free_name("interleaved", names)], perm=[0, 2, 3, 1]))
        tensor = first[-1].output[0]
    first.append(helper.make_node("Identity", [tensor], [taken]))
    last = helper.make_node("Flatten", [scores], [OUTPUT_NAME], axis=1)
    nodes = [*first, *graph.node, last]
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    del graph.input[:]
    del graph.output[:]
    graph.input.append(helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, ["batch", 3, *size]))
    graph.output.append(helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ["batch", classes]))
    _drop_passing(model)
    for message in (model, graph, *graph.node, *graph.initializer):
        message.doc_string = ""
        del message.metadata_props[:]
    # What of the file's own words stays would have the same graph from two exporters differ.
    del model.metadata_props[:]
    model.producer_name, model.producer_version, graph.name = "mnasbench", "", "classifier"


def _free_name(name: str, names: set[str]) -> str:
    while name in names or name in (INPUT_NAME, OUTPUT_NAME):
        name += "_"
    names.add(name)
    return name


def _rename(model: ModelProto, old: str, new: str) -> None:
    for node in model.graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]
    for tensor in model.graph.initializer:
        tensor.name = new if tensor.name == old else tensor.name


def _drop_passing(model: ModelProto) -> None:
    """Take out Identity, a Transpose that takes the one before it back, and what then leads nowhere."""
    graph = model.graph
    instead: dict[str, str] = {}
    makers: dict[str, NodeProto] = {}
    kept = []
    for node in graph.node:
        node.input[:] = [instead.get(name, name) for name in node.input]
        before = makers.get(node.input[0]) if node.input else None
        if node.op_type == "Identity" and not node.domain:
            instead[node.output[0]] = node.input[0]
            continue
        if node.op_type == "Transpose" and before is not None and before.op_type == "Transpose":
            one, other = (list(_attribute(each, "perm", [])) for each in (before, node))
            if len(one) == len(other) and [one[axis] for axis in other] == list(range(len(one))):
                instead[node.output[0]] = before.input[0]
                continue
        makers.update(dict.fromkeys(node.output, node))
        kept.append(node)
    needed = {value.name for value in graph.output}
    nodes = []
    for node in reversed(kept):
        if needed & set(node.output):
            nodes.append(node)
            needed.update(node.input)
    tensors = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.node[:]
    graph.node.extend(reversed(nodes))
    del graph.initializer[:]
    graph.initializer.extend(tensors)


# ------------------------------------------------------------------------------------------------------------ the proof
def _images(size: Size, kind: int) -> Array:
    """An image of noise and two that are smooth as photographs are, float32 (3, 3, height, width)."""
    random = np.random.default_rng(0)
    noise = random.standard_normal((1, 3, *size))
    places = np.stack(np.meshgrid(*(np.linspace(0, 1, side) for side in size), indexing="ij"))
    waves = random.uniform(1, 6, (2, 3, 2))
    smooth = np.sin(np.einsum("ncd,dhw->nchw", waves, places) + random.uniform(0, 6, (2, 3, 1, 1)))
    images = np.concatenate([noise, 1.8 * smooth])
    if kind in _WHOLE:
        images = np.round(np.clip(127.5 + 60 * images, 0, 127 if kind == TensorProto.INT8 else 255))
    return images.astype(np.float32)


def _session(model: ModelProto, where: str) -> Any:
    try:
        return open_session(model)
    except ModelError as error:
        raise ModelError(f"{where}: {str(error).partition(': ')[2]}") from error


def check_graph(model: ModelProto, where: str) -> None:
    """ModelError where onnx's own checker finds fault."""
    try:
        onnx.checker.check_model(model)
    except Exception as error:
        message = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{where}: is not a valid ONNX graph ({one_line(message[:200])})") from error


def _compare(original: _Original, changed: ModelProto, images: Array, expected: Array, where: str) -> None:
    """ModelError where the new graph answers otherwise than the file's own: three images at once, and one alone."""
    ending = _ENDINGS.get(original.ending or "", _same)
    expected = expected.reshape(len(expected), -1).astype(np.float64)
    freed = f"its batch is fixed to {original.image.batch}" if original.image.batch else "its batch is free"
    advice = "export it with a free batch (torch.onnx.export: dynamic_axes={'input': {0: 'batch'}})"
    session = _session(changed, where)
    for count in (1, 3):
        try:
            scores = run_quietly(session, INPUT_NAME, images[:count])
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise ModelError(f"{where}: {freed}, and it runs no {count} images ({_reason(error)}); {advice}") from error
        answers, alone = ending(scores.astype(np.float64)), expected[:count]
        if answers.shape != alone.shape:
            raise ModelError(f"{where}: {freed}, and it gives {list(answers.shape)} for {count} images; {advice}")
        scale = float(np.abs(alone).max()) or 1.0
        difference = float(np.abs(answers - alone).max()) / scale
        half = original.kind in (TensorProto.FLOAT16, TensorProto.BFLOAT16) or _has_half(original.model)
        if not difference <= (_HALF_TOLERANCE if half else _TOLERANCE):
            raise ModelError(
                f"{where}: {freed}, and {count} at a time it answers otherwise than alone (by {difference:.1e} of the "
                f"largest score); {advice}"
            )


def _has_half(model: ModelProto) -> bool:
    return any(tensor.data_type in (TensorProto.FLOAT16, TensorProto.BFLOAT16) for tensor in _tensors(model))


def _same(scores: Array) -> Array:
    return scores


def _softmax(scores: Array) -> Array:
    powers: Array = np.exp(scores - scores.max(axis=1, keepdims=True))
    powers /= powers.sum(axis=1, keepdims=True)
    return powers


def _log_softmax(scores: Array) -> Array:
    shifted: Array = scores - scores.max(axis=1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return shifted


_ENDINGS: dict[str, Callable[[Array], Array]] = {"Softmax": _softmax, "LogSoftmax": _log_softmax}


# -------------------------------------------------------------------------------------------------- what is said of it
def _about_values(
    model: ModelProto, kind: int, preprocessing: Preprocessing | None, where: str
) -> tuple[int | None, Sequence[str]]:
    """What the graph itself does to the values of its input (see ``Imported.most``), where the preprocessing suits."""
    as_they_are = "mean: [0, 0, 0], std: [1, 1, 1], scale: [0, 255]"
    if kind in _WHOLE:
        if preprocessing is not None and preprocessing.code is None and not _gives_pixels(preprocessing):
            raise SettingsError(
                f"{where}: its input is {_WHOLE[kind]}, pixels as they are, but the preprocessing normalises them; "
                f"write {as_they_are}"
            )
        return 255, []
    line = _normalisation(model)
    if line is None:
        return None, []
    names, slope, offset = line
    mean, std = -offset / slope, 1 / slope
    values = ", ".join(f"{value:.6g}" for value in mean), ", ".join(f"{value:.6g}" for value in std)
    said = (
        f"its first nodes ({', '.join(names)}) normalise the image themselves, as mean {values[0]} and std {values[1]}"
    )
    if mean.min() < 0 or std.min() < 0:  # they undo a normalisation, or change the sign of one
        return None, [f"{said} would: mean and std of the preprocessing are those of what comes before them"]
    whole = max(mean.max(), std.max()) > 1.5
    advice = as_they_are if whole else "mean: [0, 0, 0], std: [1, 1, 1]"
    if whole and "BatchNormalization" not in names and preprocessing is not None and preprocessing.code is None:
        brightest = max((1 - one) / other for one, other in zip(preprocessing.mean, preprocessing.std, strict=True))
        if brightest < _LEAST_WHITE:
            raise SettingsError(
                f"{where}: {said} do, of values of 0 to 255, but the preprocessing gives {brightest:.3g} at most; "
                f"write {advice}"
            )
    return 255 if whole else 1, [f"{said} would: before them the preprocessing should be {advice}"]


def _gives_pixels(preprocessing: Preprocessing) -> bool:
    return not any(preprocessing.mean) and np.allclose(preprocessing.std, 1 / 255, rtol=1e-6)


def _normalisation(model: ModelProto) -> tuple[list[str], Array, Array] | None:
    """Nodes at the input that scale and shift each channel, and the (3,) slopes and offsets of what they compute."""
    values = {tensor.name: tensor for tensor in model.graph.initializer}
    values |= {
        node.output[0]: attribute.t
        for node in model.graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    }
    names: list[str] = []
    slope, offset = np.ones(3), np.zeros(3)
    tensor, axis = INPUT_NAME, 1
    while True:
        readers = [node for node in model.graph.node if tensor in node.input]
        if len(readers) != 1:
            break
        node = readers[0]
        if node.op_type == "Transpose":
            axis = 3 if list(_attribute(node, "perm", [])) == [0, 2, 3, 1] else 1
        elif node.op_type == "BatchNormalization" and all(name in values for name in node.input[1:]):
            scale, bias, mean, variance = (numpy_helper.to_array(values[name]) for name in node.input[1:5])
            factor = scale / np.sqrt(variance + _attribute(node, "epsilon", 1e-5))
            slope, offset = slope * factor, (offset - mean) * factor + bias
            names.append(node.op_type)
        elif node.op_type in ("Sub", "Div", "Mul", "Add"):
            other = node.input[1] if node.input[0] == tensor else node.input[0]
            numbers = _by_channel(values.get(other), axis)
            if numbers is None or (node.input[0] != tensor and node.op_type in ("Sub", "Div")):
                break
            if node.op_type in ("Sub", "Add"):
                offset = offset + (numbers if node.op_type == "Add" else -numbers)
            else:
                factor = numbers if node.op_type == "Mul" else 1 / numbers
                slope, offset = slope * factor, offset * factor
            names.append(node.op_type)
        else:
            break
        tensor = node.output[0]
    return (names, slope, offset) if names and np.all(slope) else None


def _by_channel(tensor: TensorProto | None, axis: int) -> Array | None:
    """The three numbers of a constant that has one a channel, or one in all."""
    if tensor is None:
        return None
    array = numpy_helper.to_array(tensor)
    if array.size == 1:
        return np.repeat(array.astype(np.float64).reshape(1), 3)
    sides = (1,) * (4 - array.ndim) + array.shape
    return array.astype(np.float64).reshape(3) if array.size == 3 and sides[axis] == 3 else None


def multiply_adds(model: ModelProto) -> int | None:
    """Multiply-adds of convolutions and matrix products for one image; None where some are not known."""
    shapes = _shapes(model) | {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    total = 0
    for node in model.graph.node:
        if node.op_type in _WORKING:
            ins, out = [shapes.get(name) for name in node.input[:2]], shapes.get(node.output[0])
            if out is None or any(shape is None for shape in ins):
                return None
            inner = math.prod(ins[1][1:]) if node.op_type == "Conv" else _inner(node, ins[0])  # type: ignore[index,arg-type]
            total += math.prod(out) * inner
        elif node.op_type in ("ConvTranspose", "Einsum", "GRU", "LSTM", "RNN", "DeformConv", "Attention"):
            return None
    return total


def _inner(node: NodeProto, left: tuple[int, ...]) -> int:
    """The length of the sums of a matrix product."""
    return left[0] if node.op_type == "Gemm" and _attribute(node, "transA", 0) else left[-1]


def parameter_count(model: ModelProto) -> int:
    """Values of the weights: what its nodes read beside the image's tensors, statistics of BatchNormalization not."""
    following, weights = {INPUT_NAME}, set()
    for node in model.graph.node:
        if following & set(node.input):
            following.update(node.output)
            weights.update(node.input[:3] if node.op_type == "BatchNormalization" else node.input)
    shapes = _shapes(model, TensorProto.FLOAT)
    shapes |= {one.name: tuple(one.dims) for one in model.graph.initializer if one.data_type == TensorProto.FLOAT}
    # A scalar is a bound or a factor that somebody wrote, no weight.
    return sum(math.prod(shapes[name]) for name in weights - following if shapes.get(name))
