"""A compiled model opened for running: the same digests, session options and input format in every run.

Accuracy and performance runs both come through ``Engine``, so neither can use a file or an option that the
other does not.
"""

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mnasbench.build.cpu import sums_int8_exactly
from mnasbench.build.layout import FastInput, InterleavedInput, interleaved_input
from mnasbench.build.package import CompiledModel, load_graph, read_package
from mnasbench.build.runtime import OpenVinoModel, runtime_of
from mnasbench.errors import ModelError, SettingsError, one_line
from mnasbench.preprocessing import Preprocessing

# Loaded where a session of it is opened: a model that OpenVINO runs starts a tenth of a second earlier without.
if TYPE_CHECKING:
    import onnxruntime

Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class InputFormat:
    """What a session takes: float32 (batch, 3, size, size), normalised, where ``blocks`` is None.

    Otherwise uint8 (batch, rows, size / 2, 12 * parts), quantized; see ``FastInput``. With ``pixels`` uint8
    (batch, 3, size, size) as the crop leaves it, because the session normalises; with ``interleaved`` uint8
    (batch, size, size, 3), quantized, see ``InterleavedInput``.
    """

    name: str
    size: int
    blocks: FastInput | None
    pixels: bool = False
    interleaved: InterleavedInput | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one image."""
        if self.interleaved is not None:
            return self.size, self.size, 3
        if self.blocks is None:
            return 3, self.size, self.size
        return self.blocks.rows, self.size // 2, 12 * self.blocks.parts

    @property
    def dtype(self) -> npt.DTypeLike:
        """Element type of the tensor."""
        return np.uint8 if self.blocks or self.pixels or self.interleaved else np.float32


def input_format(info: Mapping[str, Any]) -> InputFormat:
    """The input that model_info describes; ModelError where it is none that this engine writes."""
    try:
        entry = info["inputs"][0]
        blocks = FastInput(**entry["blocks"]) if entry.get("blocks") else None
        found = InputFormat(entry["name"], blocks.size if blocks else int(entry["shape"][-1]), blocks)
        expected = ("uint8" if blocks else "float32", list(found.shape))
        if (entry["dtype"], list(entry["shape"][1:])) != expected:
            raise ValueError(f"{entry['dtype']} {entry['shape']}, expected {expected}")
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ModelError(f"model_info: its input is unknown ({one_line(error)}); build the model again") from error
    return found


def session_options(threads: int) -> "onnxruntime.SessionOptions":
    """The options of every session: all graph optimizations, ``threads`` threads within an operator.

    Threads do not spin while they wait, because several sessions share the cores.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # warnings of the graph optimizer are for its developers
    return options


class Engine:
    """One session of a compiled model. ``infer`` may be called from one thread at a time."""

    def __init__(
        self, compiled: CompiledModel, threads: int = 1, batch: int = 1, pixels: Preprocessing | None = None
    ) -> None:
        """Load the graph; ModelError where its runtime refuses it, SettingsError for a thread count below 1.

        ``batch`` is how many images come at a time, which OpenVINO makes its kernels for. With ``pixels`` it also
        normalises as that preprocessing does, or takes bytes that are quantized; what comes in, ``format`` says.
        ``tensor`` is memory for such a batch, to be filled anew for each request.
        """
        if threads < 1:
            raise SettingsError(f"threads is {threads}, expected at least 1")
        self.compiled = compiled
        self.threads = threads
        self.format = input_format(compiled.info)
        self.runtime = runtime_of(compiled.info)
        _refuse_saturation(compiled)
        begin = time.perf_counter()
        if self.runtime == "openvino":
            quantized = None if pixels is None else interleaved_input(load_graph(compiled))
            if quantized is None:
                openvino = OpenVinoModel(compiled.graph_path, threads, batch, pixels)
                self.format = replace(self.format, pixels=pixels is not None)
            else:
                graph, interleaved = quantized
                openvino = OpenVinoModel(graph.SerializeToString(), threads, batch)
                self.format = replace(self.format, interleaved=interleaved)
            self._openvino: OpenVinoModel | None = openvino
            self._run: Callable[[npt.NDArray[Any]], Float32Array] = openvino.run
            names = openvino.input_names
        else:
            self._openvino = None
            session = _onnxruntime_session(compiled.graph_path, threads)
            output, name = session.get_outputs()[0].name, self.format.name
            self._run = lambda tensor: session.run([output], {name: tensor})[0]
            names = [node.name for node in session.get_inputs()]
        self.load_seconds = time.perf_counter() - begin
        self.tensor: npt.NDArray[Any] = np.zeros((batch, *self.format.shape), self.format.dtype)
        if names != [self.format.name]:
            raise ModelError(
                f"{one_line(compiled.graph_path)}: its inputs are {names}, model_info says {self.format.name}"
            )

    @classmethod
    def open(cls, prefix: Path, threads: int = 1, batch: int = 1, pixels: Preprocessing | None = None) -> "Engine":
        """Verify the three files at ``prefix`` against their digests, then load them."""
        return cls(read_package(prefix), threads, batch, pixels)

    def another(self) -> "Engine":
        """A session of the same model for another thread, loaded the faster of the ways that its runtime has."""
        if self._openvino is None:
            return Engine(self.compiled, self.threads, len(self.tensor))
        begin = time.perf_counter()
        twin = copy.copy(self)
        twin._openvino = self._openvino.another()
        twin._run = twin._openvino.run
        twin.tensor = np.zeros_like(self.tensor)
        twin.load_seconds = time.perf_counter() - begin
        return twin

    def infer(self, tensor: npt.NDArray[Any]) -> Float32Array:
        """Scores, float32 (n, classes), of a tensor in the session's input format; n may be any size."""
        return self._run(tensor)


def _refuse_saturation(compiled: CompiledModel) -> None:
    """ModelError where this CPU would sum a model's int8 products wrongly: it was built on one that has VNNI."""
    quantization = compiled.info.get("quantization") or {}
    if quantization.get("reduce_range") is False and not sums_int8_exactly():
        raise ModelError(
            f"{one_line(compiled.graph_path)}: has 8-bit weights, whose sums saturate on this CPU (it has no VNNI); "
            "build it on this machine, which then leaves 7 bits"
        )


def _onnxruntime_session(graph: Path, threads: int) -> "onnxruntime.InferenceSession":
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(str(graph), session_options(threads), providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        raise ModelError(f"{one_line(graph)}: cannot be loaded ({one_line(error)})") from error
