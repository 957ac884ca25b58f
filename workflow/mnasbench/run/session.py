"""A compiled model opened for running: the same digests, session and input format in every run.

Accuracy and performance runs both come through ``ModelSession``, so neither can use a file or an option that the
other does not.
"""

import copy
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mnasbench.build.cpu import sums_int8_exactly
from mnasbench.build.package import CompiledModel, read_package
from mnasbench.errors import ModelError, SettingsError, one_line
from mnasbench.preprocessing import Preprocessing, Size
from mnasbench.runtimes import runtime_of
from mnasbench.runtimes.base import InputFormat, OperatorCounts
from mnasbench.runtimes.onnxruntime_layout import FastInput

Float32Array = npt.NDArray[np.float32]


def input_format(info: Mapping[str, Any]) -> InputFormat:
    """The input that model_info describes; ModelError where it is none that ort-vamc writes."""
    try:
        entry = info["inputs"][0]
        blocks = FastInput(**entry["blocks"]) if entry.get("blocks") else None
        described = InputFormat(entry["name"], _size(entry, blocks), blocks)
        expected = ("uint8" if blocks else "float32", list(described.shape))
        if (entry["dtype"], list(entry["shape"][1:])) != expected:
            raise ValueError(f"{entry['dtype']} {entry['shape']}, expected {expected}")
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ModelError(f"model_info: its input is unknown ({one_line(error)}); build the model again") from error
    return described


def _size(entry: Mapping[str, Any], blocks: FastInput | None) -> Size:
    if blocks is not None:
        return blocks.size, blocks.size
    height, width = entry["shape"][-2:]
    return int(height), int(width)


class ModelSession:
    """One session of a compiled model. ``infer`` may be called from one thread at a time."""

    def __init__(
        self, compiled: CompiledModel, threads: int = 1, batch: int = 1, pixels: Preprocessing | None = None
    ) -> None:
        """Load the graph; ModelError where its runtime refuses it, SettingsError for a thread count below 1.

        ``batch`` is how many images come at a time, which a runtime may make its kernels for. With ``pixels`` it also
        normalises as that preprocessing does, or takes bytes that are quantized; what comes in, ``format`` says.
        ``tensor`` is memory for such a batch, to be filled anew for each request.
        """
        if threads < 1:
            raise SettingsError(f"threads is {threads}, expected at least 1")
        self.compiled = compiled
        self.threads = threads
        self.runtime = runtime_of(compiled.info)
        _refuse_saturation(compiled)
        begin = time.perf_counter()
        if pixels is not None and pixels.gives_input:
            pixels = None  # nothing is left for a session to do, and what comes may be float32
        self._session = self.runtime.open(compiled.graph_path, input_format(compiled.info), threads, batch, pixels)
        self._infer, self.format = self._session.infer, self._session.format
        self.load_seconds = time.perf_counter() - begin
        self.tensor: npt.NDArray[Any] = np.zeros((batch, *self.format.shape), self.format.dtype)
        names = self._session.input_names
        if names != [self.format.name]:
            raise ModelError(
                f"{one_line(compiled.graph_path)}: its inputs are {names}, model_info says {self.format.name}"
            )

    @classmethod
    def open(
        cls, prefix: Path, threads: int = 1, batch: int = 1, pixels: Preprocessing | None = None
    ) -> "ModelSession":
        """Verify the three files at ``prefix`` against their digests, then load them."""
        return cls(read_package(prefix), threads, batch, pixels)

    def another(self) -> "ModelSession":
        """A session of the same model for another thread, loaded in the fastest way that its runtime has."""
        begin = time.perf_counter()
        twin = copy.copy(self)
        twin._session = self._session.another()
        twin._infer = twin._session.infer
        twin.tensor = np.zeros_like(self.tensor)
        twin.load_seconds = time.perf_counter() - begin
        return twin

    def infer(self, tensor: npt.NDArray[Any]) -> Float32Array:
        """Scores, float32 (n, classes), of a tensor in the session's input format; n may be any size."""
        return self._infer(tensor)

    def count_operators(self) -> OperatorCounts:
        """How much of the graph is computed in int8 and in float, as this session runs it."""
        return self._session.count_operators()


def _refuse_saturation(compiled: CompiledModel) -> None:
    """ModelError where this CPU would sum a model's int8 products wrongly: it was built on one that has VNNI."""
    quantization = compiled.info.get("quantization") or {}
    if quantization.get("reduce_range") is False and not sums_int8_exactly():
        raise ModelError(
            f"{one_line(compiled.graph_path)}: has 8-bit weights, whose sums saturate on this CPU (it has no VNNI); "
            "build it with quantize.weight_bits: 7, or on this machine, which then leaves 7 bits"
        )
