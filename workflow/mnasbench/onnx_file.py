"""An ONNX file that somebody brings: read safely, and what it says of the image that it takes.

Planning needs the size of the image and the files that the weights stand in; everything else that a graph is asked
stands in :mod:`mnasbench.model.onnx_import`.
"""

import functools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mnasbench.errors import ModelError, named, one_line
from mnasbench.files import read_regular
from mnasbench.preprocessing import Size

# Loaded where a file is read: planning reads none where nobody brings one.
if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

# What protobuf can hold; larger weights are external data.
_MAX_BYTES = (1 << 31) - 1
# Of a constant that may be a shape.
_MOST_NUMBERS = 64
_TO_NCHW = [0, 3, 1, 2]
# They leave height, width and channels where they are.
_ELEMENTWISE = frozenset({"Add", "BatchNormalization", "Cast", "Div", "Identity", "Mul", "Sub"})
_EXPECTED = "expected [batch, 3, height, width] or [batch, height, width, 3]"


def read_onnx(path: Path, *, with_weights: bool = True) -> "ModelProto":
    """The model in a file; ``with_weights``: also what stands in other files beside it.

    Raises ModelError, in one line, for a file of another kind (which is named where its first bytes show it), for a
    damaged one, and for one without its external data.
    """
    import onnx

    where = one_line(path)
    try:
        content = read_regular(path, _MAX_BYTES)
    except OSError as error:
        raise ModelError(f"{where}: cannot be read ({error.strerror or error})") from error
    try:
        model = onnx.load_model_from_string(content)
        holds_nodes = bool(model.graph.node)
        if holds_nodes and with_weights:
            onnx.load_external_data_for_model(model, str(path.parent))
    except (FileNotFoundError, onnx.checker.ValidationError) as error:
        # onnx itself refuses a location outside the folder: an absolute one, one with `..`, a symbolic link.
        raise ModelError(
            f"{where}: its external data cannot be taken ({one_line(error)}); they belong beside the file"
        ) from error
    except Exception as error:  # protobuf and onnx raise several unrelated types for damaged files
        raise ModelError(f"{where}: is not an ONNX file, or is damaged{_instead(content)}; export it again") from error
    if model.ByteSize() > _MAX_BYTES:
        raise ModelError(f"{where}: has weights of more than 2 GB, which no graph can be written with here")
    if not holds_nodes:
        raise ModelError(f"{where}: holds no graph{_instead(content)}; export it again")
    return model


def _instead(content: bytes) -> str:
    """What a file is that is no ONNX file, for a message."""
    if not content:
        return " (it is empty)"
    if content.startswith(b"version https://git-lfs"):
        return " (it is a pointer of Git LFS: fetch the file itself with `git lfs pull`)"
    if content[4:8] == b"ORTM":
        return " (it is ONNX Runtime's own format, .ort; give the .onnx that it was made from)"
    if content.startswith(b"PK\x03\x04"):
        return " (it is a zip file, as torch.save writes; export the model by torch.onnx.export)"
    if re.match(rb"\s*<(!doctype|html)", content, re.IGNORECASE):
        return " (it is a web page)"
    return ""


@functools.lru_cache(maxsize=64)
def _without_weights(path: Path, _size: int, _changed_ns: int) -> "ModelProto":
    return read_onnx(path, with_weights=False)


def _head(path: Path) -> "ModelProto":
    """The model without external data, read once while the file stays as it is."""
    try:
        state = path.stat()
    except OSError as error:
        raise ModelError(f"{one_line(path)}: cannot be read ({error.strerror})") from error
    return _without_weights(path, state.st_size, state.st_mtime_ns)


def files_of_onnx(path: Path) -> list[Path]:
    """The file itself, then those beside it that its weights stand in; ModelError where one of them is not there."""
    from onnx.external_data_helper import ExternalDataInfo, uses_external_data

    locations = {ExternalDataInfo(one).location for one in _tensors(_head(path).graph) if uses_external_data(one)}
    for location in sorted(locations):
        # An absolute path, one that leaves the folder and a link are refused where the file is read.
        if not (path.parent / location).is_file():
            raise ModelError(
                f"{one_line(path)}: its weights stand in {one_line(location)}, which is not beside it; copy it there, "
                "or export the model into one file"
            )
    return [path, *(path.parent / location for location in sorted(locations))]


def _tensors(graph: "GraphProto") -> "Iterator[TensorProto]":
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t


def inferred_values(model: "ModelProto", batch: int | None = None) -> "list[ValueInfoProto]":
    """Names, types and shapes of all tensors of a graph, as far as onnx can infer them.

    ``batch``: of so many images, whatever the graph itself says of shapes. Weights are shown to onnx by their shapes
    alone, so that none of hundreds of megabytes is copied.
    """
    import onnx
    from onnx import helper

    lean = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions)
    lean.graph.name = "lean"
    lean.graph.node.extend(model.graph.node)
    for field in ("input", "output", "value_info"):
        getattr(lean.graph, field).extend(getattr(model.graph, field))
    if batch is not None:
        lean.graph.input[0].type.tensor_type.shape.dim[0].dim_value = batch
        del lean.graph.value_info[:]
        for value in lean.graph.output:
            value.type.tensor_type.ClearField("shape")
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= _MOST_NUMBERS:
            lean.graph.initializer.append(tensor)
        else:
            lean.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    try:
        graph = onnx.shape_inference.infer_shapes(lean, data_prop=True).graph
    except Exception:
        graph = lean.graph
    return [*graph.input, *graph.value_info, *graph.output]


@dataclass(frozen=True)
class ImageInput:
    """The input that takes the image.

    ``batch``, ``height``, ``width``: None where the graph leaves them free. ``channels_last``: the colours stand last.
    ``unread``: further inputs that no node reads.
    """

    name: str
    batch: int | None
    height: int | None
    width: int | None
    channels_last: bool
    unread: tuple[str, ...] = ()

    def require_size(self, asked: Size | None, where: str) -> Size:
        """(height, width) of the image; ModelError where nobody says it, or ``asked`` is another than the graph's."""
        own = (self.height, self.width)
        height, width = (side or (asked[axis] if asked else None) for axis, side in enumerate(own))
        if height is None or width is None:
            raise ModelError(
                f"{where}: height and width of its input '{one_line(self.name)}' are free; say what it was trained on: "
                "size, such as 224 or [48, 192]"
            )
        if asked is not None and (height, width) != asked:
            raise ModelError(
                f"{where}: its input takes {height} x {width} pixels, but size is {asked[0]} x {asked[1]}; leave size "
                "out, or export it with a free height and width"
            )
        return height, width


def own_size(path: Path, asked: Size | None) -> Size:
    """(height, width) of the image that a file's graph takes; see ``ImageInput.require_size``."""
    files_of_onnx(path)  # what is missing of them is told before anything waits for it
    return image_input(_head(path), one_line(path)).require_size(asked, one_line(path))


def image_input(model: "ModelProto", where: str) -> ImageInput:
    """The one input that takes an image; ModelError, beginning with ``where``, where there is none or several.

    Where a shape does not say whether channels come first, the first node that minds does.
    """
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    read = {name for node in graph.node for name in node.input}
    used = [value for value in inputs if value.name in read]
    if len(used) != 1:
        names = f" ({named(value.name for value in used)})" if used else ""
        raise ModelError(
            f"{where}: its nodes read {len(used)} inputs{names}; a classifier takes one, the image. Cut the graph to "
            "that, by onnx.utils.extract_model"
        )
    name = used[0].name
    kind = used[0].type.tensor_type
    dims = [dim.dim_value if dim.dim_value > 0 else None for dim in kind.shape.dim]
    shape = [dim.dim_value if dim.dim_value > 0 else dim.dim_param or "?" for dim in kind.shape.dim]
    said = f"{where}: its input '{one_line(name)}' is [{', '.join(one_line(side) for side in shape)}]"
    if len(dims) != 4:
        raise ModelError(f"{said}, {_EXPECTED}")
    last = _channels_last(graph, name, dims)
    if last is None:
        grey = 1 in (dims[1], dims[3])
        advice = "images have three channels here: put a Conv before it that makes one of them" if grey else _EXPECTED
        raise ModelError(f"{said}, and which side has the channels neither its shape nor its first node says; {advice}")
    height, width = (dims[1], dims[2]) if last else (dims[2], dims[3])
    unread = tuple(value.name for value in inputs if value.name not in read)
    return ImageInput(name, dims[0], height, width, last, unread)


def _channels_last(graph: "GraphProto", name: str, dims: list[int | None]) -> bool | None:
    first, last = dims[1], dims[3]
    if first == 3 and last != 3:
        return False
    if last == 3 and first != 3:
        return True
    reader = first_reader(graph, name)
    if reader is None or (first is not None and last is not None and 3 not in (first, last)):
        return None
    if reader.op_type == "Conv":
        weight = next((tensor for tensor in graph.initializer if tensor.name == reader.input[1]), None)
        return False if weight is not None and list(weight.dims)[1:2] == [3] else None
    permutation = next((list(one.ints) for one in reader.attribute if one.name == "perm"), None)
    return True if reader.op_type == "Transpose" and permutation == _TO_NCHW else None


def first_reader(graph: "GraphProto", name: str) -> "NodeProto | None":
    """The first node behind a tensor that minds the order of its sides; None where several read it."""
    while True:
        readers: list[NodeProto] = [node for node in graph.node if name in node.input]
        if len(readers) != 1:
            return None
        if readers[0].op_type not in _ELEMENTWISE:
            return readers[0]
        name = readers[0].output[0]
