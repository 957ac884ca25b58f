"""The three files of a compiled model, written and read back.

``<prefix>.onnx``   the graph that is run (weights as ONNX external data)
``<prefix>.params`` those weights
``<prefix>.json``   model_info: inputs, outputs, preprocessing, quantization settings, and the SHA-256 of the
                    other two files and of everything they came from
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import onnx

from mnasbench.errors import ModelError, one_line
from mnasbench.files import read_json, sha256_of_file, write_json, written_atomically
from mnasbench.runtimes import RUNTIMES

# Initializers smaller than this stay in the .onnx, where shape inference needs to see them (Reshape targets).
_EXTERNAL_FROM_BYTES = 1024


_TENSORS = {
    "type": "array",
    "minItems": 1,
    "maxItems": 1,
    "items": {
        "type": "object",
        "required": ["name", "dtype", "shape"],
        "properties": {
            "name": {"type": "string"},
            "dtype": {"type": "string"},
            "shape": {"type": "array", "minItems": 2, "items": {"type": ["integer", "string"]}},
            "blocks": {"type": "object"},
            "softmax": {"type": "boolean"},
        },
    },
}
_DIGEST = {"type": "string", "pattern": r"^[0-9a-f]{64}\Z"}
# What readers take from model_info, so that none of them meets a file that lacks it.
_INFO = {
    "type": "object",
    "required": [
        *("name", "engine", "precision", "inputs", "outputs", "preprocessing", "normalisation", "layout"),
        *("quantization", "sources", "notes", "files"),
    ],
    "properties": {
        **{key: {"type": "string"} for key in ("name", "engine", "precision", "normalisation", "layout")},
        "inputs": _TENSORS,
        "outputs": _TENSORS,
        "preprocessing": {"type": "object"},
        "runtime": {"enum": list(RUNTIMES)},
        "quantization": {"type": ["object", "null"]},
        "sources": {"type": "object"},
        "notes": {"type": "array"},
        "files": {
            "type": "object",
            "required": [f"{role}_{fact}" for role in ("graph", "params") for fact in ("sha256", "bytes")],
            "properties": {
                **{f"{role}_sha256": _DIGEST for role in ("graph", "params")},
                **{f"{role}_bytes": {"type": "integer", "minimum": 0} for role in ("graph", "params")},
            },
        },
    },
}


@dataclass(frozen=True)
class CompiledModel:
    """A compiled model on disk whose files agree with the digests in its model_info."""

    prefix: Path
    info: dict[str, Any]

    @property
    def graph_path(self) -> Path:
        """The ``.onnx`` file."""
        return self.prefix.with_name(self.prefix.name + ".onnx")

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of the graph and of its weights, as both runs report them."""
        return {"graph": self.info["files"]["graph_sha256"], "params": self.info["files"]["params_sha256"]}

    @property
    def size_bytes(self) -> int:
        """Bytes of graph and weights together."""
        return int(self.info["files"]["graph_bytes"]) + int(self.info["files"]["params_bytes"])


def _paths(prefix: Path) -> tuple[Path, Path, Path]:
    name = prefix.name
    return (
        prefix.with_name(name + ".onnx"),
        prefix.with_name(name + ".params"),
        prefix.with_name(name + ".json"),
    )


def write_package(prefix: Path, model: onnx.ModelProto, info: dict[str, Any]) -> CompiledModel:
    """Write ``model`` as ``prefix`` + .onnx/.params/.json; the JSON last, so a cut build is never whole.

    ``info`` is model_info without its ``files`` entry, which is added here. The bytes depend on ``model`` and
    ``info`` alone: the same inputs give identical files.
    """
    prefix = Path(prefix)
    graph_path, params_path, info_path = _paths(prefix)
    info_path.unlink(missing_ok=True)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    blob = bytearray()
    for tensor in sorted(copy.graph.initializer, key=lambda item: item.name):
        if not tensor.HasField("raw_data"):
            tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), tensor.name))
        if len(tensor.raw_data) < _EXTERNAL_FROM_BYTES:
            continue
        blob.extend(b"\0" * (-len(blob) % 64))  # 64-byte alignment lets a runtime map the file instead of copying
        offset, length = len(blob), len(tensor.raw_data)
        blob.extend(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        del tensor.external_data[:]
        for key, value in (("location", params_path.name), ("offset", offset), ("length", length)):
            tensor.external_data.add(key=key, value=str(value))
    with written_atomically(params_path) as temporary:
        temporary.write_bytes(bytes(blob))
    with written_atomically(graph_path) as temporary:
        temporary.write_bytes(copy.SerializeToString(deterministic=True))
    files = {
        "graph": graph_path.name,
        "graph_sha256": sha256_of_file(graph_path),
        "graph_bytes": graph_path.stat().st_size,
        "params": params_path.name,
        "params_sha256": sha256_of_file(params_path),
        "params_bytes": params_path.stat().st_size,
    }
    complete = {**info, "files": files}
    write_json(info_path, complete)
    return CompiledModel(prefix, complete)


def read_package(prefix: Path) -> CompiledModel:
    """Read model_info and verify both files against it; ModelError says which file differs and what to do."""
    prefix = Path(prefix)
    graph_path, params_path, info_path = _paths(prefix)
    for path in (info_path, graph_path, params_path):
        if not path.is_file():
            raise ModelError(
                f"{one_line(path)}: not found; a compiled model is {prefix.name}.onnx, .params and .json side by side; "
                "give the prefix without a suffix, or build it with ort-vamc"
            )
    info = read_json(info_path)
    wrong = next(jsonschema.Draft202012Validator(_INFO).iter_errors(info), None)
    if wrong is not None:
        place = ".".join(map(str, wrong.absolute_path)) or "the whole"
        raise ModelError(
            f"{one_line(info_path)}: is not a model_info of ort-vamc ({one_line(place)}: "
            f"{one_line(wrong.message[:200])}); build the model again"
        )
    for path, role in ((graph_path, "graph"), (params_path, "params")):
        if sha256_of_file(path) != info["files"].get(f"{role}_sha256"):
            raise ModelError(
                f"{one_line(path)}: its content differs from the digest in {info_path.name}; build the model again"
            )
    return CompiledModel(prefix, info)
