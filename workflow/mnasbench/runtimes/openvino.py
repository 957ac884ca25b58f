"""OpenVINO: it lays the plain graph out itself, and its int8 kernels for x86 are the faster ones."""

import copy
import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnasbench.errors import ModelError, ToolError, one_line
from mnasbench.files import open_for_reading
from mnasbench.precisions import Precision
from mnasbench.preprocessing import Preprocessing
from mnasbench.runtimes.base import TIMED_RUNS, InputFormat, OperatorCounts, Prepared, Runtime, Session

if TYPE_CHECKING:
    import numpy.typing as npt
    from onnx import ModelProto

    from mnasbench.runtimes.base import Float32Array

# What only moves, converts or holds values, by OpenVINO's names of kinds of layers.
_NO_ARITHMETIC = frozenset(
    {"Broadcast", "Concatenation", "Const", "Convert", "Input", "MemoryInput", "MemoryOutput", "Output", "Pad"}
    | {"Reorder", "Reshape", "ShapeOf", "Split", "StridedSlice", "Subgraph", "Transpose"}
)
_INT8 = frozenset({"i8", "u8"})


class OpenVino(Runtime):
    """OpenVINO on the CPU."""

    name = "openvino"
    title = "OpenVINO"
    distribution = "openvino"
    fuses_gates = True

    def suits(self, precision: Precision, machine: str) -> bool:
        """int8 on x86."""
        return precision.dtype == "int8" and machine in {"x86_64", "AMD64"}

    def is_installed(self) -> bool:
        """Whether its package is there."""
        return importlib.util.find_spec("openvino") is not None

    def load(self) -> None:
        """Have its library in memory; ToolError where it is not installed."""
        _library()

    def prepare(self, model: "ModelProto") -> Prepared:
        """The graph as it is."""
        return Prepared(model)

    def open(
        self,
        graph: "Path | ModelProto",
        input_format: InputFormat,
        threads: int = 1,
        batch: int = 1,
        preprocessing: Preprocessing | None = None,
    ) -> Session:
        """Kernels for ``batch`` images. With ``preprocessing`` a quantized graph takes its bytes, any other pixels."""
        if preprocessing is None:
            return _Session(graph, input_format, threads, batch)
        from mnasbench.runtimes.openvino_layout import interleaved_input

        quantized = interleaved_input(_in_memory(graph) if isinstance(graph, Path) else graph)
        if quantized is None:
            return _Session(graph, replace(input_format, pixels=True), threads, batch, preprocessing)
        changed, interleaved = quantized
        return _Session(changed, replace(input_format, interleaved=interleaved), threads, batch)

    def node_seconds(self, graph: "ModelProto", images: "Float32Array") -> dict[str, float]:
        """By its performance counters; a kernel's time is that of the first node that it was made of."""
        height, width = images.shape[2:]
        taken = InputFormat(graph.graph.input[0].name, (height, width), None)
        # OpenVINO takes the name of what the last node gives for the node's.
        names = {name: node.name for node in graph.graph.node for name in (*node.output, node.name)}
        return _Session(graph, taken, 1, len(images), counts_time=True).node_seconds(images, names)


def _library() -> Any:  # the module; it has no types
    try:
        import openvino
        import openvino.preprocess
    except ImportError as error:
        raise ToolError(
            f"the model was built for OpenVINO, which is not installed ({one_line(error)}); install it, or build "
            "the model with runtime onnxruntime"
        ) from error
    return openvino


def _in_memory(path: Path) -> "ModelProto":
    """A graph with its weights."""
    import onnx

    with open_for_reading(path) as stream:
        model = onnx.load_model_from_string(stream.read())
    onnx.load_external_data_for_model(model, str(path.parent))
    return model


class _Session(Session):
    """A graph in one stream of ``threads`` threads, fp32 wherever the graph is not int8.

    Its kernels are made for one number of images, ``batch``, and are made anew for a larger one; fewer images are
    filled up with zeros, which changes no score.
    """

    def __init__(
        self,
        graph: "Path | ModelProto",
        input_format: InputFormat,
        threads: int,
        batch: int,
        pixels: Preprocessing | None = None,
        counts_time: bool = False,
    ) -> None:
        openvino = _library()
        self.format = input_format
        self._openvino, self._batch, self._request = openvino, 0, None
        self._bound: npt.NDArray[Any] | None = None
        self._options = {
            # Without it newer CPUs would compute what is fp32 in bf16.
            "INFERENCE_PRECISION_HINT": "f32",
            # Nothing that the graph has in float is to be quantized at run time.
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": threads,
            # Processes that were given cores keep to them.
            "ENABLE_CPU_PINNING": False,
            "PERF_COUNT": counts_time,
        }
        where = one_line(graph) if isinstance(graph, Path) else "the graph"
        try:
            self._core = openvino.Core()
            model = self._core.read_model(graph if isinstance(graph, Path) else graph.SerializeToString())
            if pixels is not None:
                preparation = openvino.preprocess.PrePostProcessor(model)
                tensor, inside = preparation.input().tensor(), preparation.input().model()
                tensor.set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NCHW"))
                inside.set_layout(openvino.Layout("NCHW"))
                steps = preparation.input().preprocess().convert_element_type(openvino.Type.f32)
                steps.mean([255 * value for value in pixels.mean]).scale([255 * value for value in pixels.std])
                model = preparation.build()
            self._model = model
            self.input_names = [name for port in model.inputs for name in port.names]
            self._make(batch)
        except RuntimeError as error:
            raise ModelError(f"{where}: OpenVINO cannot load it ({one_line(error)})") from error

    def _make(self, batch: int) -> None:
        model = self._model.clone()
        model.reshape([batch, *(side.get_length() for side in list(model.input().partial_shape)[1:])])
        self._compiled = self._core.compile_model(model, "CPU", self._options)
        self._request, self._batch, self._bound = self._compiled.create_infer_request(), batch, None

    def another(self) -> "_Session":
        """Its kernels are taken over, where to make them takes six times as long."""
        twin = copy.copy(self)
        try:
            exported = self._compiled.export_model()
            twin._compiled = self._core.import_model(exported, "CPU", self._options)
            twin._request, twin._bound = twin._compiled.create_infer_request(), None
        except RuntimeError as error:
            raise ModelError(f"OpenVINO cannot load the graph a second time ({one_line(error)})") from error
        return twin

    def infer(self, tensor: "npt.NDArray[Any]") -> "Float32Array":
        """The same array again, with other images in it, is read where it lies."""
        import numpy as np

        count = len(tensor)
        if count > self._batch:
            self._make(count)
        assert self._request is not None
        if tensor is not self._bound:
            self._bind(tensor)
        self._request.infer(share_outputs=True)
        return np.array(self._request.get_output_tensor(0).data[:count], np.float32)

    def _bind(self, tensor: "npt.NDArray[Any]") -> None:
        """Have the request read from ``tensor``; OpenVINO's own dispatch takes four times as long, at every call."""
        import numpy as np

        whole = tensor
        if len(tensor) < self._batch:
            missing = self._batch - len(tensor)
            whole = np.concatenate([tensor, np.zeros((missing, *tensor.shape[1:]), tensor.dtype)])
        whole = np.ascontiguousarray(whole)
        assert self._request is not None
        self._request.set_input_tensor(self._openvino.Tensor(whole, shared_memory=True))
        self._memory = whole  # the request does not keep it alive
        self._bound = tensor if whole is tensor else None  # a copy would not see what is put into the array later

    def count_operators(self) -> OperatorCounts:
        """By the element type in which OpenVINO's own account of the compiled graph says that a layer is run."""
        int8 = floats = int8_convolutions = float_convolutions = 0
        for node in self._compiled.get_runtime_model().get_ops():
            about = node.get_rt_info()
            kind = str(about["layerType"].astype(str)) if "layerType" in about else "Const"
            if kind in _NO_ARITHMETIC:
                continue
            is_int8 = str(about["runtimePrecision"].astype(str)) in _INT8
            int8, floats = int8 + is_int8, floats + (not is_int8)
            if "Convolution" in kind:
                int8_convolutions += is_int8
                float_convolutions += not is_int8
        return OperatorCounts(int8, floats, int8_convolutions, float_convolutions)

    def node_seconds(self, images: "Float32Array", names: Mapping[str, str]) -> dict[str, float]:
        """Seconds of each kernel, by what ``names`` has for the first that it was made of, or else by its own name."""
        kernels: dict[str, str] = {}
        for node in self._compiled.get_runtime_model().get_ops():
            about, own = node.get_rt_info(), node.get_friendly_name()
            made_of = str(about["originalLayersNames"].astype(str)).split(",") if "originalLayersNames" in about else []
            # Of a node with a bias it makes several, with further words behind a slash.
            parts = [part.partition("/")[0] for part in made_of]
            kernels[own] = next((names[part] for part in parts if part in names), own)
        runs: dict[str, list[float]] = {}
        before: dict[str, float] = {}
        for number in range(1, 2 + TIMED_RUNS):
            self.infer(images)
            assert self._request is not None
            # The counters are means over all runs so far.
            means = self._request.get_profiling_info()
            sums = {counter.node_name: number * counter.real_time.total_seconds() for counter in means}
            for name in sums if number > 1 else ():
                runs.setdefault(name, []).append(max(sums[name] - before[name], 0.0))
            before = sums
        seconds: dict[str, float] = {}
        for kernel, times in runs.items():
            name = kernels.get(kernel, kernel)
            seconds[name] = seconds.get(name, 0.0) + min(times)
        return seconds
